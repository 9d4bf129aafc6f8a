"""What a paired comparison over n seeds can show. Pure Python: ``plan`` must answer without scipy."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

_STEP = 0.04
_LOWEST = -26.0


def smallest_p(seeds: int) -> float:
    """The smallest two-sided p of an exact sign-flip or Wilcoxon signed-rank test over n pairs: 2 / 2^n."""
    return min(1.0, 2.0 / 2.0**seeds)


def detectable_effect(seeds: int, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided paired t test finds with this power.

    Args:
        seeds: pairs, n >= 2.
        alpha: level of the test, in (0, 1).
        power: probability of finding it, in (alpha, 1).
    Returns: Cohen's dz, the mean of the paired differences over their standard deviation.
    Raises: ValueError where n < 2.
    Source: the non-central t distribution with n - 1 degrees of freedom and shift dz sqrt(n); Cohen 1988.
    """
    if seeds < 2:
        raise ValueError(f"a paired t test needs at least two seeds; got {seeds!r}")
    nodes = _chi_nodes(seeds - 1)
    critical = _solve(lambda t: 1 - _beyond(nodes, t, 0.0), 1 - alpha)
    shift = _solve(lambda delta: _beyond(nodes, critical, delta), power)
    return shift / math.sqrt(seeds)


@cache
def _chi_nodes(df: int) -> tuple[tuple[float, float], ...]:
    """Values of chi / sqrt(df) with their probability weights: a trapezoid rule in log space.

    The integrand falls off doubly exponentially on one side and exponentially on the other, where a
    trapezoid rule is exact to about the weight of the tail that is cut off (1e-11 here).
    """
    log_norm = math.log(2) + (df / 2) * math.log(df / 2) - math.lgamma(df / 2)
    nodes = []
    for i in range(round((3.5 - _LOWEST) / _STEP)):
        x = _LOWEST + i * _STEP
        log_weight = log_norm + df * x - df * math.exp(2 * x) / 2
        if log_weight > -60:
            nodes.append((math.exp(x), math.exp(log_weight) * _STEP))
    return tuple(nodes)


def _beyond(nodes: tuple[tuple[float, float], ...], critical: float, shift: float) -> float:
    """P(|T| > critical) for a t variable with this shift: a normal tail, averaged over the chi variable."""
    return sum(w * (_normal(shift - critical * s) + _normal(-shift - critical * s)) for s, w in nodes)


def _normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def _solve(rising: Callable[[float], float], target: float) -> float:
    """Where a rising function of x >= 0 reaches the target."""
    high = 1.0
    while rising(high) < target:
        high *= 2
    low = 0.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2
