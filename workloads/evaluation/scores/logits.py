"""Rejection scores that are functions of one row of logits.

All are computed in float64. In float32 a confident network's softmax is exactly 1.0 for a large part of the
images, and the ranking among them, which every rejection metric rests on, is lost.
"""

from __future__ import annotations

import math

import numpy as np

from workloads.evaluation.evidence import BLOCK_NUMBERS, Evidence, Floats, Head


class LogitScore:
    """What the scores here share: they need neither training images nor the head."""

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Nothing to learn."""


class MSP(LogitScore):
    """Maximum softmax probability, as -log(1 - p_max).

    The same ranking as p_max, in a form that does not saturate:
    -log(1 - p_max) = logsumexp(all logits) - logsumexp(logits other than the largest).

    Source: Hendrycks and Gimpel 2017 (arXiv 1610.02136).
    Differs from source: a strictly increasing function of it, so that every rejection metric is the same.
    """

    def __call__(self, evidence: Evidence) -> Floats:
        """-log(1 - p_max), nats, [images]."""
        scores: Floats = np.logaddexp(0.0, evidence.statistics.margin)
        return scores


class MLS(LogitScore):
    """Maximum logit.

    Source: Hendrycks et al. 2022 (arXiv 1911.11132).
    Differs from source: nothing.
    """

    def __call__(self, evidence: Evidence) -> Floats:
        """The largest logit, [images]."""
        return evidence.statistics.peak.copy()


class Energy(LogitScore):
    """Negative free energy T logsumexp(Z / T).

    Between the largest logit (small T) and, but for a constant, the mean logit (large T). Logits that are
    small by construction, as LogitNorm's, need a small T.

    Args:
        T: temperature, in units of the logits, > 0.
    Raises: ValueError where T is not > 0, or not finite.
    Source: Liu et al. 2020 (arXiv 2010.03759), eq. 4.
    Differs from source: the sign is turned, so that higher means more in-distribution; the largest logit is
        taken out of the sum before its logarithm, so that no T, however small, loses digits or overflows.
    """

    def __init__(self, *, T: float = 1.0) -> None:
        self.T = positive("T", T)

    def __call__(self, evidence: Evidence) -> Floats:
        """T logsumexp(Z / T), in units of the logits, [images]."""
        if self.T == 1.0:
            return evidence.statistics.peak + evidence.statistics.excess
        Z = evidence.Z
        rest = np.empty(len(Z))
        images = max(64, BLOCK_NUMBERS // Z.shape[1])
        for start in range(0, len(Z), images):
            part = slice(start, start + images)
            D = np.array(Z[part].T, order="C")
            largest, columns = D.argmax(axis=0), np.arange(D.shape[1])
            # Divided after the subtraction: minus infinity is then a class that does not count.
            with np.errstate(over="ignore"):
                D -= D[largest, columns]
                D /= self.T
            D[largest, columns] = -np.inf
            rest[part] = np.exp(D).sum(axis=0)
        scores: Floats = Z.max(axis=1) + self.T * np.log1p(rest)
        return scores


class Entropy(LogitScore):
    """Shannon entropy H of softmax(Z), as -log(H).

    The same ranking as -H, in a form that does not saturate. With r = (1 - p_max) / p_max and the depth d
    (the rest's mean distance below the largest logit, weighed by p), no term of
    H = log(1 + r) + r d / (1 + r) is negative, so nothing cancels; and as r goes to 0, log(H) is log(r) plus
    a number of moderate size, so nothing underflows.

    Source: Shannon 1948; as a score, Chan et al. 2021 (arXiv 2012.06575).
    Differs from source: a strictly falling function of it, so that higher means more in-distribution.
    """

    def __call__(self, evidence: Evidence) -> Floats:
        """-log(H), H in nats, [images]."""
        found = evidence.statistics
        r = np.exp(-found.margin)
        # log(1 + r) / r, which is 1 where r has underflown.
        share = np.divide(found.excess, r, out=np.ones_like(r), where=r > 0.0)
        scores: Floats = found.margin - np.log(share + found.depth / (1.0 + r))
        return scores


def positive(name: str, value: float) -> float:
    """The value as a float.

    Raises: ValueError where it is not > 0, or not finite.
    """
    if not 0.0 < value < math.inf:
        raise ValueError(f"{name} must be > 0 and finite; got {value!r}")
    return float(value)
