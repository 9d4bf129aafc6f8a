"""Search-space terms: their size, their values, whether they suit a parameter. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

from orchestrator.study.ranges import Range, plain
from workloads.catalogue import Parameter, Term, TermKind, Value

TERM_WORDS: tuple[TermKind, ...] = tuple(k for k in get_args(TermKind) if k != "fixed")
"""The words that a study file uses; a fixed term is a plain value."""

_CONTINUOUS = ("uniform", "log_uniform")
_INTERVALS = ("uniform", "log_uniform", "int_uniform")


def is_continuous(term: Term) -> bool:
    """Whether no grid can hold it."""
    return term.kind in _CONTINUOUS


def is_interval(kind: TermKind) -> bool:
    """Whether its values are (low, high)."""
    return kind in _INTERVALS


def values(term: Term) -> tuple[Value, ...]:
    """Every value of a finite term, in order. Raises ValueError for a continuous one."""
    if is_continuous(term):
        raise ValueError(f"a {term.kind} term has no list of values; got {term.values!r}")
    if term.kind == "int_uniform":
        low, high = term.values
        return tuple(range(int(low), int(high) + 1))
    return term.values


def example(term: Term) -> Value:
    """One of its values: the first, or the lowest."""
    return term.values[0]


def size(term: Term) -> int | None:
    """How many values it has; None where it is continuous."""
    if term.kind == "int_uniform":
        low, high = term.values
        return int(high) - int(low) + 1
    return None if is_continuous(term) else len(term.values)


def space_size(space: Mapping[str, Term]) -> int | None:
    """How many points a space has (an empty space has one); None where a term is continuous."""
    sizes = [size(term) for term in space.values()]
    return None if None in sizes else math.prod(s for s in sizes if s is not None)


def configurations(space: Mapping[str, Term], trials: int) -> int:
    """Configurations that a search of ``trials`` can try at most."""
    points = space_size(space)
    return trials if points is None else min(points, trials)


def contains(term: Term, value: Value) -> bool:
    """Whether a value is one that the term can give."""
    if not is_interval(term.kind):
        return any(value == v and isinstance(value, bool) == isinstance(v, bool) for v in term.values)
    if isinstance(value, bool | str):
        return False
    low, high = (float(v) for v in term.values)
    return low <= value <= high and (term.kind != "int_uniform" or float(value).is_integer())


def describe(term: Term) -> str:
    """A term in words: ``0.1``, ``one of 1, 2``, ``log-uniform 0.02 .. 1``."""
    if term.kind == "fixed":
        return plain(term.values[0])
    if term.kind in ("grid", "choice"):
        return f"{term.kind} of " + ", ".join(plain(v) for v in term.values)
    low, high = (plain(v) for v in term.values)
    name = {"uniform": "uniform", "log_uniform": "log-uniform", "int_uniform": "whole numbers"}[term.kind]
    return f"{name} {low} .. {high}"


def problems(term: Term, parameter: Parameter | None) -> list[tuple[str, str]]:
    """What is wrong with a term of well-typed values, as (rule, hint).

    ``parameter`` is what the values are for; None where nothing is known of it.
    """
    found: list[tuple[str, str]] = []
    if not term.values:
        return [("must hold at least one value; got an empty list", "")]
    if is_interval(term.kind):
        found += _interval_problems(term, parameter)
    elif len({(type(v) is bool, v) for v in term.values}) < len(term.values):
        found.append((f"must hold each value once; got {_listed(term.values)}", ""))
    if not found and parameter is not None and parameter.kind in ("float", "int"):
        bounds = Range.of(parameter)
        for value in term.values:
            if not bounds.holds(float(value)):
                found.append((f"must be {bounds} ({parameter.unit}); got {plain(value)}", ""))
    return found


def _interval_problems(term: Term, parameter: Parameter | None) -> list[tuple[str, str]]:
    if len(term.values) != 2:
        return [(f"{term.kind} must be [low, high]; got {len(term.values)} values", "")]
    kind = parameter.kind if parameter is not None else None
    if kind in ("bool", "choice"):
        return [(f"{term.kind} needs numbers, and this takes words", "Write {choice: [...]}")]
    if kind == "int" and term.kind != "int_uniform":
        return [(f"{term.kind} gives fractions, and this is a whole number", "Write int_uniform")]
    if kind == "float" and term.kind == "int_uniform":
        return [("int_uniform gives whole numbers, and this is a fraction", "Write uniform or log_uniform")]
    low, high = (float(v) for v in term.values)
    if low >= high:
        shown = _listed(term.values)
        return [(f"low must be smaller than high; got {shown}", "For one value write it without a term")]
    if term.kind == "log_uniform" and low <= 0:
        return [(f"low must be above 0 on a logarithmic scale; got {plain(term.values[0])}", "Write uniform")]
    return []


def _listed(items: tuple[Value, ...]) -> str:
    return "[" + ", ".join(plain(v) for v in items) + "]"
