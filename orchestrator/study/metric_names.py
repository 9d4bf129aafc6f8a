"""The names that ``report.primary`` may hold, and the short way to write those of the headline score."""

from __future__ import annotations

from orchestrator.study.regimes import full_name, main_regime, regimes, split_name
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec
from workloads.evaluation.score_names import parse_score
from workloads.protocol_config import ContinualConfig

OOD_METRICS = ("fpr95_id_positive", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out", "oscr")
ALIASES = {"fpr95": "fpr95_id_positive"}
"""Short words for metrics of rejection."""


IMBALANCE_METRICS = ("balanced_accuracy", "worst_class", "macro_f1", "g_mean")
CLASS_GROUPS = ("many", "medium", "few")
CONTINUAL_METRICS = (
    *("accuracy", "average_incremental_accuracy", "bwt", "fwt", "forgetting", "forgetting_avalanche"),
    *("forgetting_mammoth", "learning_accuracy"),
)


def resolve(name: str, spec: StudySpec) -> str:
    """A declared name as trials record it: ``ood/near/fpr95`` is that of the headline score, ID positive.

    A regime and a colon may stand before it; they go where the name alone means the same.
    """
    regime, metric = split_name(name, spec)
    return full_name(regime, _resolved(metric, spec), spec)


def _resolved(name: str, spec: StudySpec) -> str:
    parts = name.split("/")
    if parts[0] == "ood" and len(parts) >= 3:
        parts[-1] = ALIASES.get(parts[-1], parts[-1])
        if len(parts) == 3:
            parts.insert(2, parse_score(spec.evaluation.headline).label)
    return "/".join(parts)


def usual_primary(spec: StudySpec) -> tuple[str, ...]:
    """The primary family of a study that declares none."""
    main = regimes(spec)[main_regime(spec)]
    if main.long_tailed is not None:
        return ("imbalance/balanced_accuracy",)
    if main.continual is not None:
        return (f"continual/{main.continual.scenario}/accuracy",)
    return spec.report.primary


def short_names(spec: StudySpec) -> list[str]:
    """The rejection metrics of the headline score as people write them."""
    words = (*ALIASES, *OOD_METRICS)
    return [f"ood/{target}/{word}" for target in _targets(spec) for word in words]


def metric_names(spec: StudySpec) -> list[str]:
    """Every metric of this study that has a better direction and that every arm can have, with its regime
    where the name alone means another's."""
    names = []
    for regime in regimes(spec).values():
        if regime.continual is not None:
            own = _continual_names(spec, regime.continual)
        else:
            own = _measured_names(spec)
            if regime.long_tailed is not None:
                own += _imbalance_names(spec)
        names += [full_name(regime.name, name, spec) for name in own]
    return names


def _measured_names(spec: StudySpec) -> list[str]:
    """Of a trial that ends with the study's evaluations."""
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


def _imbalance_names(spec: StudySpec) -> list[str]:
    bins = spec.evaluation.calibration.bins
    return [
        *(f"imbalance/{name}" for name in IMBALANCE_METRICS),
        *(f"imbalance/{kind}/{group}" for kind in ("accuracy", f"ece_{bins}") for group in CLASS_GROUPS),
    ]


def _continual_names(spec: StudySpec, settings: ContinualConfig) -> list[str]:
    prefix, bins = f"continual/{settings.scenario}", spec.evaluation.calibration.bins
    once = settings.strategy == "joint"
    names = [name for name in CONTINUAL_METRICS if not once or name == "accuracy"]
    if settings.scenario == "class_il":
        names = [name for name in names if name != "fwt"]
        names += [f"masked/{name}" for name in names]
    sides = [side for side, sets in (("near", near_sets), ("far", far_sets)) if sets(spec.data)]
    names += [f"ece_{bins}", f"ece_{bins}_ts", *(f"auroc_{side}" for side in sides)]
    return [f"{prefix}/{name}" for name in names]


def _targets(spec: StudySpec) -> list[str]:
    near, far = near_sets(spec.data), far_sets(spec.data)
    groups = [group for group, sets in (("near", near), ("far", far)) if sets]
    return [*groups, *near, *far] if "ood" in spec.evaluation.measures else []
