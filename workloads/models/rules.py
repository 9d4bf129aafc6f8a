"""The rules that an architecture's parameters must keep: each says which model, parameter, rule and value."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Real


def whole(model: str, name: str, value: int, low: int) -> int:
    """``value``. Raises: ValueError unless it is a whole number of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{model}: {name} must be a whole number; got {value!r}")
    if value < low:
        raise ValueError(f"{model}: {name} must be at least {low}; got {value}")
    return value


def six_n_plus_four(model: str, name: str, value: int) -> int:
    """n of a depth 6n + 4. Raises: ValueError unless there is one of at least 1."""
    whole(model, name, value, 10)
    if value % 6 != 4:
        raise ValueError(f"{model}: {name} must be 6n + 4 (10, 16, 22, 28, 34, 40 ...); got {value}")
    return value // 6


def probability(model: str, name: str, value: float) -> float:
    """``value`` as a float. Raises: ValueError unless it is a number in [0, 1]."""
    real = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not (real and 0 <= value <= 1):
        raise ValueError(f"{model}: {name} must be in 0..1; got {value!r}")
    return float(value)


def one_of(model: str, name: str, value: object, allowed: Collection[object], where: str = "") -> None:
    """Raises: ValueError unless ``value`` is one of ``allowed``; ``where`` says when that is the rule."""
    if isinstance(value, bool) or value not in allowed:
        words = " or ".join(map(str, allowed))
        raise ValueError(f"{model}: {name} must be {words}{where}; got {value!r}")


def fits(model: str, image_shape: tuple[int, int, int], smallest: int) -> None:
    """Raises: ValueError unless the images have a channel and ``smallest`` pixels in height and width."""
    channels, height, width = image_shape
    if channels < 1:
        raise ValueError(f"{model}: images must have at least 1 channel; got {channels}")
    if min(height, width) < smallest:
        raise ValueError(f"{model}: images must be at least {smallest}x{smallest}; got {height}x{width}")
