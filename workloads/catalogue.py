"""The shape of every catalogue entry: plain data that imports no torch.

A catalogue (losses, models, data sources, scores, pruners, samplers) is a plain ``dict[str, Entry]``. The
study layer checks a study against it and ``orchestrate list`` prints it without loading anything heavy.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Value = float | int | str | bool
"""A plain parameter value, as it stands in a study file, in the ledger and in MLflow."""

TermKind = Literal["fixed", "grid", "choice", "uniform", "log_uniform", "int_uniform"]


@dataclass(frozen=True)
class Term:
    """A search-space term: one dimension of an arm's space.

    ``fixed`` holds one value; ``grid`` and ``choice`` hold the values to choose from; the ``uniform`` family
    holds (low, high), both inclusive.
    """

    kind: TermKind
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a catalogue entry.

    ``low``/``high`` bound what is *valid* (``low_open`` excludes the lower bound itself); ``search`` is what
    is *recommended* to search. ``expressions`` are other ways to give the value, computed from the data by
    the loss itself: ``mu: {scale: 2000}`` is expression ``scale`` of parameter ``mu``.
    """

    kind: Literal["float", "int", "bool", "choice"]
    default: Value | Mapping[str, Value] | None
    meaning: str
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    choices: tuple[Value, ...] = ()
    unit: str = "dimensionless"
    search: Term | None = None
    expressions: Mapping[str, Parameter] = field(default_factory=dict)
    tunable: tuple[float, ...] = ()
    """Scores only: candidates tried on validation images where the study says ``tuned``."""


@dataclass(frozen=True)
class Entry:
    """One loss, model, data source, score, sampler or pruner.

    ``path`` is an import path as a string (``package.module:Name``).
    """

    name: str
    path: str
    meaning: str
    source: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    facts: Mapping[str, Value] = field(default_factory=dict)
    family: str = ""
    """Heading that ``orchestrate list`` prints it under."""
    lr: Parameter | None = None
    """Losses only: recommended learning rate and the range to search it in."""


def load(path: str) -> Any:
    """What an import path ``package.module:Name`` names.

    Raises: ImportError, AttributeError where it names nothing.
    """
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)
