"""Mean ranks over several axes: Friedman's test and Nemenyi's critical difference. Pure.

Sources: Friedman 1937; Nemenyi 1963; Demsar 2006, section 3.2.2 and figure 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

DRAWS = 20_000
SEED = 20_060_101

Floats = NDArray[np.float64]


def friedman_statistic(ranks: Floats) -> float:
    """12 N / (k (k + 1)) times the sum of squares of mean ranks around (k + 1) / 2.

    Args:
        ranks: [axes, arms], of each row the mean (k + 1) / 2.
    """
    axes, arms = ranks.shape
    away = ranks.mean(axis=0) - (arms + 1) / 2
    return float(12 * axes / (arms * (arms + 1)) * (away**2).sum())


def friedman_p(ranks: Floats) -> float:
    """The share of random orders of each axis's ranks that spread the mean ranks at least as far.

    Permuted, as the chi-squared distribution of the textbook is far off at a handful of axes; ``DRAWS``
    orders from a fixed seed, the observed one counted in.
    """
    generator = np.random.default_rng(SEED)
    axes, arms = ranks.shape
    means = np.zeros((DRAWS, arms))
    for row in ranks:
        order = np.argsort(generator.random((DRAWS, arms)), axis=1)
        means += row[order] / axes
    spread = ((means - (arms + 1) / 2) ** 2).sum(axis=1)
    bound = float(((ranks.mean(axis=0) - (arms + 1) / 2) ** 2).sum()) * (1 - 1e-9)
    return float((1 + np.count_nonzero(spread >= bound)) / (1 + DRAWS))


def critical_difference(arms: int, axes: int, confidence: float) -> float:
    """Nemenyi: mean ranks that differ by less are not distinguishable."""
    return studentised_range(arms, confidence) / math.sqrt(2) * math.sqrt(arms * (arms + 1) / (6 * axes))


def studentised_range(groups: int, confidence: float) -> float:
    """The quantile of the range of ``groups`` standard normal values (infinite degrees of freedom)."""
    low, high = 0.0, 20.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _range_cdf(middle, groups) < confidence else (low, middle)
    return high


def cliques(mean_ranks: Floats, difference: float) -> list[tuple[int, int]]:
    """First and last place of every group, of at least two neighbours, that differ by less than the critical
    difference; groups inside others are left out.

    Args:
        mean_ranks: in ascending order.
    """
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(mean_ranks):
        last = int(np.searchsorted(mean_ranks, rank + difference, side="left")) - 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found


def _range_cdf(width: float, groups: int) -> float:
    """k times the integral of phi(z) (Phi(z) - Phi(z - w))^(k - 1) over z, by the trapezoid rule."""
    from scipy.special import ndtr

    z = np.linspace(-8.0, 8.0 + width, 4001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(groups * np.trapezoid(density * (ndtr(z) - ndtr(z - width)) ** (groups - 1), z))
