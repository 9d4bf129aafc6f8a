"""Means, paired tests and the correction for several of them. Pure: numbers in, numbers out.

Sources: the paired t test (Student 1908), the exact sign-flip permutation test (Fisher 1935), Cohen's
dz (Lakens 2013, eq. 6), Holm's correction (Holm 1979).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.report.bootstrap import bootstrap_interval

EXACT_PERMUTATION_LIMIT = 16
"""Up to so many pairs all 2^n sign flips are counted; above, that many are drawn at random."""
PERMUTATION_DRAWS = 100_000
PERMUTATION_SEED = 20_220_117
LARGEST_SEED_COUNT = 10_000
"""Beyond this, ``seeds_needed`` gives up: the difference is too small to matter."""


@dataclass(frozen=True)
class Summary:
    """Of one arm's finite values of one metric."""

    n: int
    mean: float | None
    """None where there is no value."""
    std: float | None
    """With ddof = 1; None where there are fewer than two values."""


@dataclass(frozen=True)
class PairedTest:
    """An arm against the baseline, seed by seed."""

    seeds: tuple[int, ...]
    """With a finite value in both."""
    difference: float | None
    """Mean of arm minus baseline."""
    std: float | None
    """Of the differences, ddof = 1."""
    low: float | None
    """Ends of the t interval; None where it is not defined (fewer than two pairs, or no variance)."""
    high: float | None
    p_t: float | None
    """Two-sided paired t test."""
    p_permutation: float | None
    """Two-sided sign-flip test."""
    p_smallest: float | None
    """The smallest value that the sign-flip test can reach at this number of pairs."""
    dz: float | None
    """Cohen's dz: difference over the standard deviation of the differences."""
    degenerate: bool = False
    """All differences are equal, so that there is no variance to test against."""
    bootstrap: tuple[float, float] | None = None
    """Ends of the bootstrap interval, where the t interval is defined."""

    @property
    def n(self) -> int:
        return len(self.seeds)

    @property
    def p(self) -> float | None:
        """The p value that is corrected and judged: of the t test, or of the sign flips if degenerate."""
        return self.p_permutation if self.degenerate else self.p_t


def summarise(values: Sequence[float]) -> Summary:
    """Mean and standard deviation (ddof = 1) of the finite values."""
    finite = np.asarray([value for value in values if math.isfinite(value)], dtype=np.float64)
    return Summary(
        len(finite),
        float(finite.mean()) if len(finite) else None,
        float(finite.std(ddof=1)) if len(finite) > 1 else None,
    )


def paired_test(arm: Mapping[int, float], baseline: Mapping[int, float], confidence: float) -> PairedTest:
    """Compare two arms over the seeds that both have.

    Args:
        arm, baseline: metric by seed; values that are not finite count as missing.
        confidence: of the interval, in (0, 1).
    """
    seeds = tuple(
        seed
        for seed in arm
        if seed in baseline and math.isfinite(arm[seed]) and math.isfinite(baseline[seed])
    )
    differences = np.asarray([arm[seed] - baseline[seed] for seed in seeds], dtype=np.float64)
    n = len(seeds)
    if n == 0:
        return PairedTest((), None, None, None, None, None, None, None, None)
    mean = float(differences.mean())
    if n == 1:
        return PairedTest(seeds, mean, None, None, None, None, None, None, None)
    p_permutation = sign_flip_p(differences)
    # Metrics are of order one: what is left after subtraction below this is rounding.
    tolerance = 1e-12 * max(1.0, float(np.abs(differences).max()))
    if float(np.ptp(differences)) <= tolerance:
        mean = 0.0 if abs(mean) <= tolerance else mean
        return PairedTest(
            seeds, mean, 0.0, None, None, None, p_permutation, smallest_sign_flip_p(n), None, degenerate=True
        )
    from scipy.special import stdtr, stdtrit

    std = float(differences.std(ddof=1))
    error = std / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * error
    p_t = min(1.0, 2 * float(stdtr(n - 1, -abs(mean) / error)))
    return PairedTest(
        seeds,
        mean,
        std,
        mean - half,
        mean + half,
        p_t,
        p_permutation,
        smallest_sign_flip_p(n),
        mean / std,
        bootstrap=bootstrap_interval(differences, confidence),
    )


def sign_flip_p(differences: np.ndarray) -> float:
    """Two-sided p of the sign-flip permutation test.

    The share of sign patterns whose sum is at least as far from zero as the observed one. Exact up to
    ``EXACT_PERMUTATION_LIMIT`` pairs; above, ``PERMUTATION_DRAWS`` patterns from a fixed seed, the
    observed one counted in.
    """
    values = np.asarray(differences, dtype=np.float64)
    bound = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if len(values) <= EXACT_PERMUTATION_LIMIT:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.mean(np.abs(sums) >= bound))
    signs = np.random.default_rng(PERMUTATION_SEED).integers(
        0, 2, (PERMUTATION_DRAWS, len(values)), dtype=np.int8
    )
    sums = (2.0 * signs - 1.0) @ values
    return float((1 + np.count_nonzero(np.abs(sums) >= bound)) / (1 + PERMUTATION_DRAWS))


def smallest_sign_flip_p(n: int) -> float:
    """What the sign-flip test gives where all ``n`` differences have one sign: 2 of 2^n patterns."""
    return 2.0 ** (1 - n) if n <= EXACT_PERMUTATION_LIMIT else 1.0 / (1 + PERMUTATION_DRAWS)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over a family, in the order given.

    A comparison that could not be tested (None) stays None and yet counts: the family was declared
    before anything ran, and a failed arm does not make the others more certain.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[index] = largest
    return corrected


def seeds_needed(dz: float, alpha: float, power: float = 0.8) -> int | None:
    """Fewest pairs at which a two-sided paired t test finds an effect of size ``dz`` with this power.

    Approximate, as the effect is itself an estimate. None where ``LARGEST_SEED_COUNT`` pairs are not
    enough.
    """
    if dz == 0 or not math.isfinite(dz):
        return None
    low, high = 1, 2
    while _power(dz, high, alpha) < power:
        if high >= LARGEST_SEED_COUNT:
            return None
        low, high = high, min(2 * high, LARGEST_SEED_COUNT)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(dz, middle, alpha) >= power else (middle, high)
    return high


def _power(dz: float, n: int, alpha: float) -> float:
    from scipy.special import nctdtr, stdtrit

    noncentrality = abs(dz) * math.sqrt(n)
    critical = float(stdtrit(n - 1, 1 - alpha / 2))
    # The far tail (a significant result of the wrong sign) is negligible at any power worth asking for.
    return 1.0 - float(nctdtr(n - 1, noncentrality, critical))
