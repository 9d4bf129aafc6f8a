"""Makes a loss from its name in the catalogue or from the import path of a user's own class."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from workloads.losses.base import Loss, LossContext
from workloads.losses.catalogue import LOSSES


def build_loss(name: str, params: Mapping[str, Any], context: LossContext) -> Loss:
    """The loss ``name`` with ``params`` as the keywords of its constructor.

    Args:
        name: a catalogue name, or ``package.module:Class``: a :class:`Loss`, or any ``torch.nn.Module``
            called with (logits, labels) that returns a scalar.
        params: parameters by name; those left out stay at the constructor's defaults.
        context: handed to a constructor that has a parameter of this name.
    Raises: ValueError where the name, a parameter or the head that the loss needs is unknown or wrong.
    """
    entry = LOSSES.get(name)
    if entry is not None and entry.path is None:
        raise ValueError(f"loss {name!r} cannot be run by this version. {entry.missing}")
    path = name if entry is None else entry.path
    if path is None or ":" not in path:
        raise ValueError(
            f"loss must be one of {', '.join(LOSSES)} or an import path package.module:Class; got {name!r}"
        )
    constructor = _load(path)
    keywords = dict(params)
    accepted = inspect.signature(constructor).parameters
    if "context" in accepted:
        keywords["context"] = context
    try:
        inspect.signature(constructor).bind(**keywords)
    except TypeError as problem:
        known = ", ".join(p for p in accepted if p not in {"context", "self"}) or "none"
        raise ValueError(f"loss {name!r}: {problem}; its parameters are: {known}") from problem
    loss = constructor(**keywords)
    built = loss if isinstance(loss, Loss) else PlainLoss(loss)
    if built.needs != "logits":
        raise ValueError(f"loss {name!r} needs a head that gives {built.needs}; this version has logits only")
    return built


class PlainLoss(Loss):
    """A user's module that knows nothing of :class:`Loss`: called with (logits, labels), hard labels only."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise ValueError(f"a loss must be a torch.nn.Module; got {type(module).__name__}")
        self.module = module

    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        value: Tensor = self.module(logits, targets)
        return value


def _load(path: str) -> Any:
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as problem:
        raise ValueError(
            f"loss {path!r} cannot be imported: {problem}. "
            "The package must be importable on every machine that trains"
        ) from problem
