"""The names that ``report.primary`` may hold, and the short way to write those of the headline score."""

from __future__ import annotations

from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec
from workloads.evaluation.score_names import parse_score

OOD_METRICS = ("fpr95_id_positive", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out", "oscr")
ALIASES = {"fpr95": "fpr95_id_positive"}
"""Short words for metrics of rejection."""


def resolve(name: str, spec: StudySpec) -> str:
    """A declared name as trials record it: ``ood/near/fpr95`` is that of the headline score, ID positive."""
    parts = name.split("/")
    if parts[0] == "ood" and len(parts) >= 3:
        parts[-1] = ALIASES.get(parts[-1], parts[-1])
        if len(parts) == 3:
            parts.insert(2, parse_score(spec.evaluation.headline).label)
    return "/".join(parts)


def short_names(spec: StudySpec) -> list[str]:
    """The rejection metrics of the headline score as people write them."""
    words = (*ALIASES, *OOD_METRICS)
    return [f"ood/{target}/{word}" for target in _targets(spec) for word in words]


def metric_names(spec: StudySpec) -> list[str]:
    """Every metric of this study that has a better direction and that every arm can have."""
    wanted = spec.evaluation
    names = ["test/accuracy"]
    if "ood" in wanted.measures:
        labels = [parse_score(text).label for text in wanted.ood.scores]
        names += [f"ood/{t}/{label}/{m}" for t in _targets(spec) for label in labels for m in OOD_METRICS]
        names += [f"selective/{label}/{m}" for label in labels for m in ("aurc", "e_aurc")]
    if "calibration" in wanted.measures:
        bins = wanted.calibration.bins
        errors = (f"ece_{bins}", f"ece_adaptive_{bins}", f"ece_classwise_{bins}", "ks", "nll", "brier")
        names += [f"calibration/{error}{after}" for error in errors for after in ("", "_ts")]
    if "robustness" in wanted.measures:
        robust = wanted.robustness
        if robust.attacks:
            names += [f"robustness/worst/eps_{epsilon:g}" for epsilon in robust.epsilons]
        names += ["robustness/corruption/mean", "robustness/dar_star/mean"]
    return names


def _targets(spec: StudySpec) -> list[str]:
    near, far = near_sets(spec.data), far_sets(spec.data)
    groups = [group for group, sets in (("near", near), ("far", far)) if sets]
    return [*groups, *near, *far] if "ood" in spec.evaluation.measures else []
