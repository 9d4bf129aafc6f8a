"""Does a score find the network's own mistakes? Selective classification and failure detection."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_Counts = npt.NDArray[np.int64]


def selective_metrics(scores: npt.NDArray[Any], correct: npt.NDArray[np.bool_]) -> dict[str, float]:
    """How far refusing the lowest scores avoids misclassified images.

    Args:
        scores: a confidence for each ID image, [n], higher = surer; ranked in float64.
        correct: whether each image is classified correctly, bool [n].
    Returns: by name, all of 0..1:
        ``aurc``: area under the risk-coverage curve: the mean, over k = 1..n, of the error rate among the k
            images of highest score. Lower is better. Where a cut goes through images of equal score, the
            error rate is the expectation over random orders of them, so that ``aurc`` is the exact mean over
            all orders and does not depend on the one the images come in;
        ``e_aurc``: ``aurc`` less the smallest one that n images with as many errors can have, all errors at
            the lowest scores. Of this very n, not its limit r + (1 - r) log(1 - r) for large n;
        ``failure_auroc``: chance that a misclassified image scores lower than a correct one, a tie one half;
        ``failure_aupr``: average precision with the misclassified images as the class to be found; the error
            rate is what it is at chance;
        ``failure_fpr95``: of the correct images, those refused at the first threshold (coming from the lowest
            score) that refuses at least 95 % of the misclassified ones.
        The last three are missing where every image is correct, or none: there is nothing to tell apart.
    Raises: ValueError for no images, a NaN, or ``correct`` of another shape or not of booleans.
    Source: Geifman et al. 2019 (arXiv 1805.08206) for AURC and E-AURC; Hendrycks and Gimpel 2017 (arXiv
        1610.02136) for failure detection.
    Differs from source: ties as above; the optimum is the finite sum in place of its limit. The FPR95 of
        Corbiere et al. 2019 (arXiv 1910.04851) has the correct images as the class to be found: it is
        another number.
    """
    ranked, right = _ranked(scores, correct)
    # Compared, not subtracted: the difference of two infinities would be NaN.
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    sizes: _Counts = np.diff(starts, append=len(ranked))
    failures: _Counts = np.add.reduceat((~right).astype(np.int64), starts)
    metrics = _risk_coverage(sizes, failures)
    if 0 < failures.sum() < len(ranked):
        # Reversed: a failure is found by its low score.
        metrics.update(_failure_detection((sizes - failures)[::-1], failures[::-1]))
    return metrics


def _risk_coverage(sizes: _Counts, failures: _Counts) -> dict[str, float]:
    """AURC and its excess, of groups of equal score, highest score first."""
    n, errors = int(sizes.sum()), int(failures.sum())
    covered = np.arange(1, n + 1)
    group = np.repeat(np.arange(len(sizes)), sizes)
    before, failed_before = sizes.cumsum() - sizes, failures.cumsum() - failures
    # Of j images drawn from a group, the expected failures are j times its failure rate.
    within = (covered - before[group]) * failures[group] / sizes[group]
    expected: _Floats = (failed_before[group] + within) / covered
    fewest = np.maximum(covered - (n - errors), 0) / covered
    return {"aurc": float(expected.mean()), "e_aurc": float((expected - fewest).mean())}


def _failure_detection(right: _Counts, failures: _Counts) -> dict[str, float]:
    """Numbers of right and of failed images by score, lowest score first: both are above 0 in all."""
    found, refused = failures.cumsum(), right.cumsum()
    n, m = int(refused[-1]), int(found[-1])
    won_twice = int((failures * (2 * (n - refused) + right)).sum())
    # 20 * found >= 19 * m is "found / m >= .95" without rounding.
    first = int(np.argmax(20 * found >= 19 * m))
    return {
        "failure_auroc": won_twice / (2 * n * m),
        "failure_aupr": float((failures * (found / (found + refused))).sum() / m),
        "failure_fpr95": int(refused[first]) / n,
    }


def _ranked(
    scores: npt.NDArray[Any], correct: npt.NDArray[np.bool_]
) -> tuple[_Floats, npt.NDArray[np.bool_]]:
    """The scores from the highest to the lowest, and whether each one's image is correct."""
    s = np.asarray(scores, dtype=np.float64)
    right = np.asarray(correct)
    if s.ndim != 1 or not len(s):
        raise ValueError(f"scores must have shape [images], one or more; got {list(s.shape)}")
    if right.dtype != np.bool_ or right.shape != s.shape:
        raise ValueError(
            f"correct must hold {len(s)} booleans, one for each score; got {right.dtype} {list(right.shape)}"
        )
    if np.isnan(s).any():
        raise ValueError("scores must be numbers; got NaN")
    order = np.argsort(s)[::-1]
    return s[order], right[order]
