"""How well a score separates in-distribution (ID) images from out-of-distribution (OOD) ones.

Every number is a function of how the two sets of scores interleave. Counting is in whole numbers: a score
that many images share moves them over a threshold together, never one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

_Counts = npt.NDArray[np.int64]


def rejection_metrics(id_scores: npt.NDArray[Any], ood_scores: npt.NDArray[Any]) -> dict[str, float]:
    """All rejection metrics of one score on one OOD set.

    Args:
        id_scores: scores of ID images, [n], higher = more ID; ranked in float64.
        ood_scores: scores of OOD images, [m].
    Returns: shares in 0..1 by name:
        ``fpr95_id_positive``: of the OOD images, those accepted at the first threshold (coming from the
            highest score) that accepts at least 95 % of the ID images;
        ``fpr95_ood_positive``: of the ID images, those rejected at the first threshold (coming from the
            lowest score) that rejects at least 95 % of the OOD images;
        ``auroc``: chance that an ID image scores higher than an OOD image, a tie counting one half;
        ``aupr_in``, ``aupr_out``: average precision with ID, or OOD, as the class to be found;
        ``id_prevalence``: n / (n + m), what ``aupr_in`` is at chance;
        ``tied_fraction``: of all n + m scores, those that some other score equals.
    Raises: ValueError for an empty set or a NaN.
    Source: Hendrycks and Gimpel 2017 (AUROC, AUPR); Liang et al. 2018 (FPR95); average precision and the
        grouping of ties as in scikit-learn.
    """
    known, unknown = _counts_by_score(id_scores, ood_scores)
    n, m = int(known.sum()), int(unknown.sum())
    accepted_id, accepted_ood = known.cumsum(), unknown.cumsum()
    rejected_id, rejected_ood = known[::-1].cumsum(), unknown[::-1].cumsum()
    pairs_won_twice = int((known * (2 * (m - accepted_ood) + unknown)).sum())
    sizes = known + unknown
    return {
        "fpr95_id_positive": _first_share(accepted_id, n, accepted_ood, m),
        "fpr95_ood_positive": _first_share(rejected_ood, m, rejected_id, n),
        "auroc": pairs_won_twice / (2 * n * m),
        "aupr_in": _average_precision(known, accepted_id, accepted_ood),
        "aupr_out": _average_precision(unknown[::-1], rejected_ood, rejected_id),
        "id_prevalence": n / (n + m),
        "tied_fraction": float(sizes[sizes > 1].sum()) / (n + m),
    }


def noise_metrics(
    id_scores: npt.NDArray[Any], noise_scores: Mapping[str, npt.NDArray[Any]]
) -> dict[str, float]:
    """The search objective and its tie-break: means over the noise sets, each set weighing the same.

    Args:
        id_scores: scores of the validation images, [n].
        noise_scores: scores of each Gaussian-noise set, by the set's name.
    Returns: ``noise/fpr95`` (ID-positive) and ``noise/auroc``.
    Raises: ValueError without noise sets, or as :func:`rejection_metrics`.
    """
    if not noise_scores:
        raise ValueError("noise metrics need at least one noise set; got none")
    metrics = [rejection_metrics(id_scores, scores) for scores in noise_scores.values()]
    return {
        "noise/fpr95": float(np.mean([each["fpr95_id_positive"] for each in metrics])),
        "noise/auroc": float(np.mean([each["auroc"] for each in metrics])),
    }


def oscr(
    id_scores: npt.NDArray[Any], id_correct: npt.NDArray[np.bool_], ood_scores: npt.NDArray[Any]
) -> float:
    """Area under the open-set classification rate curve: classification and rejection in one number.

    The curve has one point for each distinct score t, from the highest to the lowest: the share of ID images
    that are classified correctly and score t or more (CCR), against the share of OOD images that score t or
    more (FPR). It starts at (0, 0), ends at (1, accuracy) and is joined by straight lines, which are level or
    upright except where ID and OOD images share a score. Its area is, exactly, the share of all (ID, OOD)
    pairs whose ID image is classified correctly and scores higher, a tie counting one half; so it is counted.

    Args:
        id_scores: scores of ID images, [n], higher = more ID; ranked in float64.
        id_correct: whether each of them is classified correctly, bool [n].
        ood_scores: scores of OOD images, [m].
    Returns: OSCR, 0..accuracy; the AUROC where every ID image is classified correctly, half the accuracy
        where all scores are equal.
    Raises: ValueError for an empty set, a NaN, or ``id_correct`` of another length or not of booleans.
    Source: Dhamija et al. 2018 (arXiv 1811.04110) for the curve; its area as one number is later custom.
    Differs from source: an ID image at the threshold is accepted, as an OOD image is. The paper wants scores
        of ID images above t and of OOD images at or above t, so that equal scores would give an area of 0.
    """
    known, correct, unknown = _open_set(id_scores, id_correct, ood_scores)
    ranked, right = np.sort(unknown), known[correct]
    won_twice = np.searchsorted(ranked, right, side="left") + np.searchsorted(ranked, right, side="right")
    return int(won_twice.sum()) / (2 * len(known) * len(unknown))


def ccr_at_fpr(
    id_scores: npt.NDArray[Any],
    id_correct: npt.NDArray[np.bool_],
    ood_scores: npt.NDArray[Any],
    fpr: float,
) -> float:
    """Correct classification rate where few OOD images are accepted.

    Args:
        id_scores, id_correct, ood_scores: as :func:`oscr`.
        fpr: largest share of OOD images accepted, 0..1, for example 0.05.
    Returns: the highest CCR of all thresholds that accept a share of at most ``fpr`` of the OOD images, no
        interpolation between thresholds; 0 where even the highest score is one of too many OOD images. Of
        fewer than 1 / ``fpr`` OOD images, none may be accepted.
    Raises: ValueError for an ``fpr`` outside 0..1, or as :func:`oscr`.
    Source: Dhamija et al. 2018 (arXiv 1811.04110), "CCR at FPR of".
    Differs from source: ties as in :func:`oscr`.
    """
    if not 0.0 <= fpr <= 1.0:
        raise ValueError(f"a false positive rate must be in 0..1; got {fpr!r}")
    known, correct, unknown = _open_set(id_scores, id_correct, ood_scores)
    # The decimal as written: 0.29 * 100 is 28.999999999999996 in floating point.
    allowed = int(Fraction(str(fpr)) * len(unknown))
    if allowed == len(unknown):
        return int(correct.sum()) / len(known)
    first_refused = np.sort(unknown)[::-1][allowed]
    return int((correct & (known > first_refused)).sum()) / len(known)


def _open_set(
    id_scores: npt.NDArray[Any], id_correct: npt.NDArray[np.bool_], ood_scores: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    known, unknown = _checked(id_scores, ood_scores)
    correct = np.asarray(id_correct)
    if correct.dtype != np.bool_ or correct.shape != known.shape:
        raise ValueError(
            f"id_correct must hold {len(known)} booleans, one for each ID score; "
            f"got {correct.dtype} {list(correct.shape)}"
        )
    return known, correct, unknown


def _counts_by_score(id_scores: npt.NDArray[Any], ood_scores: npt.NDArray[Any]) -> tuple[_Counts, _Counts]:
    """How many ID and how many OOD images have each distinct score, highest score first."""
    known, unknown = _checked(id_scores, ood_scores)
    scores = np.concatenate([known, unknown])
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    # Compared, not subtracted: the difference of two infinities would be NaN.
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    is_known = (order < len(known)).astype(np.int64)
    sizes = np.diff(starts, append=len(ranked))
    known_counts: _Counts = np.add.reduceat(is_known, starts)
    return known_counts, sizes - known_counts


def _checked(
    id_scores: npt.NDArray[Any], ood_scores: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    known = np.asarray(id_scores, dtype=np.float64).ravel()
    unknown = np.asarray(ood_scores, dtype=np.float64).ravel()
    if not len(known) or not len(unknown):
        raise ValueError(f"both sets need scores; got {len(known)} ID and {len(unknown)} OOD")
    if np.isnan(known).any() or np.isnan(unknown).any():
        raise ValueError("scores must be numbers; got NaN")
    return known, unknown


def _first_share(hits: _Counts, total: int, others: _Counts, total_others: int) -> float:
    """Share of ``others`` passed when ``hits`` first reaches 95 % of ``total``."""
    # 20 * hits >= 19 * total is "hits / total >= .95" without rounding.
    first = int(np.argmax(20 * hits >= 19 * total))
    return int(others[first]) / total_others


def _average_precision(counts: _Counts, hits: _Counts, false_alarms: _Counts) -> float:
    """Sum of precision times the step in recall, over the distinct thresholds."""
    return float((counts * (hits / (hits + false_alarms))).sum() / hits[-1])
