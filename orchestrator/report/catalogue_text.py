"""The catalogues as text: what a study may name, with parameters, ranges and sources."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.study import terms
from orchestrator.study.ranges import Range, plain
from workloads.catalogue import Entry, Parameter
from workloads.recipes import RECIPES

WIDTH = 110
HEADS = {
    "logits": "a linear head",
    "cosine": "a cosine head",
    "features+fc": "the features and weights of a linear head",
    "godin": "a GODIN head",
}
NEEDS = {
    "logits": "logits alone",
    "features": "features and the head's weights",
    "train": "features, also those of the training images",
    "model": "the image, which it changes along a gradient of the model",
}
"""What a score looks at."""


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines with their cells aligned; the last cell of a row is as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=False)] + [row[-1]] for row in rows)
    return [indent + "  ".join(cells).rstrip() for cells in padded]


def catalogue_text(
    title: str, entries: Mapping[str, Entry], shared: Mapping[str, Parameter] | None = None
) -> str:
    """One catalogue: every entry with its meaning, source, facts and parameters.

    Args:
        title: printed above it.
        entries: the catalogue, under the headings of its families.
        shared: parameters that every entry takes beside its own.
    """
    lines = [title, ""]
    family = ""
    for entry in entries.values():
        if entry.family != family:
            family = entry.family
            lines += [family, ""]
        lines += [*entry_text(entry), ""]
    if shared:
        lines += ["Beside any of these", "", *_table(shared)]
    return "\n".join(lines).rstrip()


def recipe_entries() -> Mapping[str, Entry]:
    """The training recipes as entries; their settings are the parameters."""
    return {
        recipe.name: Entry(
            recipe.name,
            "",
            recipe.meaning,
            recipe.source,
            facts={"settings": ", ".join(f"{k} {_setting(v)}" for k, v in recipe.training.items())},
        )
        for recipe in RECIPES.values()
    }


def _setting(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {_setting(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(plain, value)) + "]"
    return plain(value)


def entry_text(entry: Entry) -> list[str]:
    """One entry, in lines."""
    lines = [f"  {entry.name}", *_wrapped(f"{entry.meaning[:1].upper()}{entry.meaning[1:]}.")]
    lines += _wrapped(f"Source: {entry.source}.")
    if entry.lr is not None:
        search = f"; to search, {terms.describe(entry.lr.search)}" if entry.lr.search else ""
        lines += _wrapped(f"Learning rate: {default_text(entry.lr)}{search}.")
    if "head" in entry.facts:
        takes = "soft targets too" if entry.facts["targets"] == "soft" else "hard labels only"
        lines += _wrapped(f"Needs {HEADS[str(entry.facts['head'])]}; takes {takes}.")
    if "needs" in entry.facts:
        lines += _wrapped(f"Looks at {NEEDS[str(entry.facts['needs'])]}.")
    if "settings" in entry.facts:
        lines += _wrapped(f"Sets {entry.facts['settings']}.")
    for key, label in (("near_ood", "Near-OOD sets"), ("far_ood", "Far-OOD sets")):
        if key in entry.facts:
            lines += _wrapped(f"{label}: {str(entry.facts[key]).replace(',', ', ')}.")
    return [*lines, *_table(entry.parameters)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")


def _table(parameters: Mapping[str, Parameter]) -> list[str]:
    """The parameters, aligned, the last column wrapped under itself."""
    rows = [row for name, parameter in parameters.items() for row in _parameter_rows(name, parameter)]
    if not rows:
        return []
    head = ("parameter", "default", "search", "meaning")
    edge = 6 + sum(max(len(row[i]) for row in [head, *rows]) + 2 for i in range(3))
    wrapped = [(*row[:3], textwrap.wrap(row[3], max(WIDTH - edge, 30))) for row in rows]
    cells = [(*before, part) for *first, parts in wrapped for before, part in _broken(first, parts)]
    return columns([head, *cells], "      ")


def _broken(first: Sequence[str], parts: Sequence[str]) -> list[tuple[Sequence[str], str]]:
    """Each part of a wrapped cell with the cells before it, which only the first line shows."""
    return [(first if i == 0 else [""] * len(first), part) for i, part in enumerate(parts)]


def _parameter_rows(name: str, parameter: Parameter) -> list[tuple[str, str, str, str]]:
    search = terms.describe(parameter.search) if parameter.search is not None else "-"
    below = (r for word, p in parameter.expressions.items() for r in _parameter_rows(f"{name}.{word}", p))
    return [(name, default_text(parameter), search, _meaning(parameter)), *below]


def _meaning(parameter: Parameter) -> str:
    """What it means, its unit, and what it may be."""
    if parameter.kind == "choice":
        return f"{' or '.join(plain(word) for word in parameter.choices)}: {parameter.meaning}"
    if parameter.kind == "bool":
        return parameter.meaning
    unit = "" if parameter.unit == "dimensionless" else f" [{parameter.unit}]"
    bounds = str(Range.of(parameter))
    if parameter.low is not None and parameter.high is not None and not parameter.low_open:
        bounds = f"{parameter.low:g} to {parameter.high:g}"
    whole = "whole, " if parameter.kind == "int" else ""
    tuned = ", or tuned: chosen on validation images" if parameter.tunable else ""
    return f"{parameter.meaning}{unit} ({whole}{bounds}{tuned})"


def default_text(parameter: Parameter) -> str:
    """A parameter's default as a study file writes it."""
    if parameter.default is None:
        return "-"
    if isinstance(parameter.default, Mapping):
        inner = ", ".join(f"{word}: {plain(value)}" for word, value in parameter.default.items())
        return f"{{{inner}}}"
    return plain(parameter.default)
