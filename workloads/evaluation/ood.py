"""How well a score separates in-distribution (ID) images from out-of-distribution (OOD) ones.

Every number is a function of how the two sets of scores interleave, so one sort gives all of them. Counting
is in whole numbers: a score that many images share moves them over a threshold together, never one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        ``fpr95``: of the OOD images, those accepted at the first threshold (coming from the highest score)
            that accepts at least 95 % of the ID images;
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
        "fpr95": _first_share(accepted_id, n, accepted_ood, m),
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
    return {f"noise/{name}": float(np.mean([each[name] for each in metrics])) for name in ("fpr95", "auroc")}


def _counts_by_score(id_scores: npt.NDArray[Any], ood_scores: npt.NDArray[Any]) -> tuple[_Counts, _Counts]:
    """How many ID and how many OOD images have each distinct score, highest score first."""
    known = np.asarray(id_scores, dtype=np.float64).ravel()
    unknown = np.asarray(ood_scores, dtype=np.float64).ravel()
    if not len(known) or not len(unknown):
        raise ValueError(f"both sets need scores; got {len(known)} ID and {len(unknown)} OOD")
    scores = np.concatenate([known, unknown])
    if np.isnan(scores).any():
        raise ValueError("scores must be numbers; got NaN")
    order = np.argsort(scores)[::-1]
    ranked = scores[order]
    # Compared, not subtracted: the difference of two infinities would be NaN.
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    is_known = (order < len(known)).astype(np.int64)
    sizes = np.diff(starts, append=len(ranked))
    known_counts: _Counts = np.add.reduceat(is_known, starts)
    return known_counts, sizes - known_counts


def _first_share(hits: _Counts, total: int, others: _Counts, total_others: int) -> float:
    """Share of ``others`` passed when ``hits`` first reaches 95 % of ``total``."""
    # 20 * hits >= 19 * total is "hits / total >= .95" without rounding.
    first = int(np.argmax(20 * hits >= 19 * total))
    return int(others[first]) / total_others


def _average_precision(counts: _Counts, hits: _Counts, false_alarms: _Counts) -> float:
    """Sum of precision times the step in recall, over the distinct thresholds."""
    return float((counts * (hits / (hits + false_alarms))).sum() / hits[-1])
