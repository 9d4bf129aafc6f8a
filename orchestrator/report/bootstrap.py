"""Bootstrap intervals of a mean: which means would other draws of the same seeds have given? Pure."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
SEED = 19_790_101


def bootstrap_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """The percentile interval of the mean of ``values`` [n], n >= 2: equal values give equal intervals.

    It assumes no shape, and pays for it with few values: of normal ones, an interval of 95 % holds the true
    mean in 84 % of cases at n = 5, 89 % at 8, 90 % at 10 and 93 % at 20 (4,000 simulated sets of each).

    Args:
        confidence: in (0, 1).
    Source: Efron 1979; ``DRAWS`` resamples from a fixed seed.
    """
    # The same resamples for every metric, so that intervals of one study compare.
    means = np.sort(_weights(len(values)) @ values)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return float(low), float(high)


@lru_cache(maxsize=8)
def _weights(n: int) -> NDArray[np.float64]:
    """How much each value weighs in the mean of each resample, [draws, n]."""
    drawn = np.random.default_rng(SEED).integers(0, n, (DRAWS, n))
    counts = np.zeros((DRAWS, n))
    np.add.at(counts, (np.arange(DRAWS)[:, None], drawn), 1.0)
    return counts / n
