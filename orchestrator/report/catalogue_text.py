"""The catalogues as text: what a study may name, with parameters, ranges and sources."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from orchestrator.study import terms
from orchestrator.study.ranges import Range, plain
from workloads.catalogue import Entry, Parameter

WIDTH = 100


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Lines with their cells aligned; the last cell of a row is as long as it likes."""
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in rows), strict=True)]
    padded = ([cell.ljust(w) for cell, w in zip(row, widths, strict=False)] + [row[-1]] for row in rows)
    return [indent + "  ".join(cells).rstrip() for cells in padded]


def catalogue_text(title: str, entries: Mapping[str, Entry]) -> str:
    """One catalogue: every entry with its meaning, source, facts and parameters."""
    blocks = [_entry_text(entry) for entry in entries.values()]
    return "\n".join([title, "", *(line for block in blocks for line in [*block, ""])]).rstrip()


def _entry_text(entry: Entry) -> list[str]:
    lines = [f"  {entry.name}", *_wrapped(f"{entry.meaning[:1].upper()}{entry.meaning[1:]}.")]
    if entry.path is None:
        lines += _wrapped(f"Named and planned only: {entry.missing.rstrip('.')}.")
    lines += _wrapped(f"Source: {entry.source}.")
    if "lr" in entry.facts:
        low, high = (plain(entry.facts[key]) for key in ("lr_low", "lr_high"))
        lines += _wrapped(f"Learning rate: {plain(entry.facts['lr'])}; to search, {low} .. {high}.")
    for key, label in (("near_ood", "Near-OOD sets"), ("far_ood", "Far-OOD sets")):
        if key in entry.facts:
            lines += _wrapped(f"{label}: {str(entry.facts[key]).replace(',', ', ')}.")
    rows = [row for name, p in entry.parameters.items() for row in _parameter_rows(name, p)]
    if rows:
        lines += columns(
            [("parameter", "default", "valid", "recommended search", "meaning"), *rows], "      "
        )
    return lines


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="      ", subsequent_indent="      ")


def _parameter_rows(name: str, parameter: Parameter) -> list[tuple[str, ...]]:
    if parameter.kind in ("choice", "bool"):
        words = parameter.choices if parameter.kind == "choice" else (True, False)
        valid = ", ".join(plain(w) for w in words)
    else:
        number = "a whole number" if parameter.kind == "int" else "a number"
        valid = str(Range.of(parameter))
        valid = number if valid == "any number" else f"{valid}{', whole' if parameter.kind == 'int' else ''}"
    search = terms.describe(parameter.search) if parameter.search is not None else "-"
    unit = "" if parameter.unit == "dimensionless" else f" [{parameter.unit}]"
    row = (name, default_text(parameter), valid, search, parameter.meaning + unit)
    below = (r for word, p in parameter.expressions.items() for r in _parameter_rows(f"{name}.{word}", p))
    return [row, *below]


def default_text(parameter: Parameter) -> str:
    """A parameter's default as a study file writes it."""
    if parameter.default is None:
        return "-"
    if isinstance(parameter.default, Mapping):
        inner = ", ".join(f"{word}: {plain(value)}" for word, value in parameter.default.items())
        return f"{{{inner}}}"
    return plain(parameter.default)
