"""Do two measurements order the same things alike? Kendall's tau-b with an interval; and shares. Pure.

Sources: tau-b (Kendall 1945); its standard error on Fisher's z scale (Fieller, Hartley and Pearson 1957); the
interval of a share (Clopper and Pearson 1934).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 5
"""Below so many independent points there is no interval: Fieller's variance needs more than four."""
_FIELLER = 0.437


@dataclass(frozen=True)
class Agreement:
    """How far two measurements order some points alike."""

    n: int
    """Points."""
    groups: int
    """Of these, independent ones: trials of one configuration count together."""
    tau: float | None
    """Tau-b, -1 .. 1; None where one of the measurements is the same for all points."""
    low: float | None = None
    """Ends of the interval; None where there are fewer than :data:`FEWEST` groups, or no tau."""
    high: float | None = None

    @property
    def same(self) -> bool:
        """The order is shown to be alike: the interval lies above zero."""
        return self.low is not None and self.low > 0

    @property
    def opposite(self) -> bool:
        """The interval lies below zero."""
        return self.high is not None and self.high < 0


def agreement(
    x: Sequence[float],
    y: Sequence[float],
    confidence: float,
    groups: Sequence[Hashable] | None = None,
) -> Agreement:
    """Kendall's tau-b of two measurements of the same points.

    The interval is arctanh(tau) ± z s. For s, two estimates are made and the larger is taken: the jackknife
    over groups, which sees ties and uneven scatter, and Fieller's sqrt(.437 / (groups - 4)), which does not
    collapse where a few points happen to agree in full. A tau of ±1 stands for half a pair in disorder.

    Args:
        x, y: finite numbers, one a point.
        confidence: in (0, 1).
        groups: of each point; None: every point is its own.
    """
    labels = list(range(len(x))) if groups is None else list(groups)
    named = {label: place for place, label in enumerate(dict.fromkeys(labels))}
    member = np.asarray([named[label] for label in labels], dtype=np.int64)
    first, second = _signs(x), _signs(y)
    matrices = (first * second, np.abs(first), np.abs(second))
    count = len(named)
    totals = np.asarray([matrix.sum() for matrix in matrices])
    tau = _tau(totals)
    if tau is None or count < FEWEST:
        return Agreement(len(x), count, tau)
    left = [_tau(totals - np.asarray([_of_group(m, member == g) for m in matrices])) for g in range(count)]
    low, high = _interval(tau, left, confidence)
    return Agreement(len(x), count, tau, low, high)


def _signs(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    return np.sign(array[:, None] - array[None, :])


def _of_group(matrix: np.ndarray, inside: np.ndarray) -> float:
    """The sum over all pairs with a point of the group; a pair inside it counts once in each direction."""
    rows = matrix[inside]
    return float(2 * rows.sum() - rows[:, inside].sum())


def _tau(totals: np.ndarray) -> float | None:
    """From the sums over ordered pairs of: products of signs, pairs untied in x, pairs untied in y."""
    product, in_x, in_y = (float(total) for total in totals)
    return product / math.sqrt(in_x * in_y) if in_x > 0 and in_y > 0 else None


def _interval(tau: float, left: Sequence[float | None], confidence: float) -> tuple[float, float]:
    from scipy.special import ndtri

    count = len(left)
    most = 1 - 2 / (count * (count - 1))
    inside = min(max(tau, -most), most)
    error = math.sqrt(_FIELLER / (count - 4))
    known = [each for each in left if each is not None]
    if len(known) == count:
        spread = np.asarray(known) - np.mean(known)
        jackknife = math.sqrt((count - 1) / count * float((spread**2).sum()))
        # The slope of arctanh takes it to the other scale.
        error = max(error, jackknife / (1 - inside**2))
    half = float(ndtri(0.5 + confidence / 2)) * error
    z = math.atanh(inside)
    # An interval holds its estimate, also where that is a perfect order.
    return min(math.tanh(z - half), tau), max(math.tanh(z + half), tau)


def share_interval(count: int, of: int, confidence: float) -> tuple[float, float]:
    """The exact interval of a share (Clopper-Pearson): never narrower than it claims."""
    from scipy.special import betaincinv

    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else float(betaincinv(count, of - count + 1, tail))
    high = 1.0 if count == of else float(betaincinv(count + 1, of - count, 1 - tail))
    return low, high
