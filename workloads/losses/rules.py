"""The rules that a loss's parameters must keep: each says which parameter, which rule and which value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import TypeVar

Word = TypeVar("Word", bound=str)


def above_zero(loss: str, name: str, value: float) -> float:
    """``value`` as a float. Raises: ValueError unless it is a finite number above 0."""
    return _number(loss, name, value, "above 0", value_above=0.0)


def not_negative(loss: str, name: str, value: float) -> float:
    """``value`` as a float. Raises: ValueError unless it is a finite number of at least 0."""
    return _number(loss, name, value, "at least 0", at_least=0.0)


def within(loss: str, name: str, value: float, low: float, high: float) -> float:
    """``value`` as a float. Raises: ValueError unless it is a number in [low, high]."""
    return _number(loss, name, value, f"in {low:g}..{high:g}", at_least=low, at_most=high)


def whole(loss: str, name: str, value: int, low: int) -> int:
    """``value``. Raises: ValueError unless it is a whole number of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{loss}: {name} must be a whole number of at least {low}; got {value!r}")
    return value


def one_of(loss: str, name: str, value: Word, words: tuple[str, ...]) -> Word:
    """``value``. Raises: ValueError unless it is one of ``words``."""
    if value not in words:
        raise ValueError(f"{loss}: {name} must be {' or '.join(words)}; got {value!r}")
    return value


def switch(loss: str, name: str, value: bool) -> bool:
    """``value``. Raises: ValueError unless it is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{loss}: {name} must be true or false; got {value!r}")
    return value


def expression(loss: str, name: str, value: Mapping[str, float], words: tuple[str, ...]) -> tuple[str, float]:
    """The one entry of an expression such as ``{"scale": 2000.0}``.

    Raises: ValueError unless there is exactly one entry, its key one of ``words``, its value above 0.
    """
    if len(value) != 1 or next(iter(value)) not in words:
        known = " or ".join(words)
        raise ValueError(f"{loss}: {name} takes a number or the expression {known}; got {dict(value)!r}")
    ((word, number),) = value.items()
    return word, above_zero(loss, f"{name}.{word}", number)


def _number(
    loss: str,
    name: str,
    value: float,
    rule: str,
    *,
    value_above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
) -> float:
    real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not (real and value > value_above and at_least <= value <= at_most):
        raise ValueError(f"{loss}: {name} must be {rule}; got {value!r}")
    return float(value)
