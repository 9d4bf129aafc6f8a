"""Which metrics a report shows first: the columns of its main table and the two families of comparisons."""

from __future__ import annotations

from orchestrator.report.readings import Metric, describe
from orchestrator.study.metric_names import resolve
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec

_TABLE_RATES = ("fpr95_id_positive", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out")


def sides(spec: StudySpec) -> dict[str, tuple[str, ...]]:
    """``near`` and ``far`` with the names of their OOD sets, each only where it has any."""
    both = {"near": near_sets(spec.data), "far": far_sets(spec.data)}
    return {side: sets for side, sets in both.items() if sets}


def table_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """The columns of the main table, in order; a primary metric that is not among them comes last."""
    names = ["test/accuracy"]
    if "ood" in spec.evaluation.measures:
        names += [f"ood/{side}/{rate}" for rate in _TABLE_RATES for side in sides(spec)]
    if "calibration" in spec.evaluation.measures:
        ece = f"calibration/ece_{spec.evaluation.calibration.bins}"
        names += [ece, f"{ece}_ts", "calibration/temperature"]
    full = [resolve(name, spec) for name in (*names, *spec.report.primary)]
    return tuple(describe(name, spec.evaluation.headline) for name in dict.fromkeys(full))


def primary_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """Those the answer rests on, as declared."""
    full = dict.fromkeys(resolve(name, spec) for name in spec.report.primary)
    return tuple(describe(name, spec.evaluation.headline) for name in full)


def secondary_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """The other metrics of the main table that have a better direction."""
    primary = {metric.name for metric in primary_metrics(spec)}
    return tuple(m for m in table_metrics(spec) if m.name not in primary and m.better != "neither")
