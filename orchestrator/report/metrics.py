"""Which metrics a report shows first: the columns of its main table and the two families of comparisons."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.report.metric import Metric
from orchestrator.report.readings import describe
from orchestrator.study.metric_names import CLASS_GROUPS, resolve
from orchestrator.study.regimes import (
    NAMESPACES,
    Regime,
    full_name,
    main_regime,
    regimes,
    split_name,
)
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec

_TABLE_RATES = ("fpr95_id_positive", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out")


def sides(spec: StudySpec) -> dict[str, tuple[str, ...]]:
    """``near`` and ``far`` with the names of their OOD sets, each only where it has any."""
    both = {"near": near_sets(spec.data), "far": far_sets(spec.data)}
    return {side: sets for side, sets in both.items() if sets}


def headings(spec: StudySpec) -> tuple[Regime, ...]:
    """The main regime, then the first long-tailed and the first continual one.

    A joint run of a stream forgets nothing, so it is taken only where there is no other.
    """
    every = regimes(spec)
    found = {main_regime(spec): every[main_regime(spec)]}
    for protocol in NAMESPACES.values():
        own = [regime for regime in every.values() if regime.protocol == protocol]
        first = next((regime for regime in own if regime.variant != "joint"), own[0] if own else None)
        if first is not None:
            found.setdefault(first.name, first)
    return tuple(found.values())


def headline_names(regime: Regime) -> tuple[str, ...]:
    """What a regime of a protocol comes to, as its trials record it; nothing of the standard one."""
    if regime.continual is not None:
        names = ("accuracy",) if regime.variant == "joint" else ("accuracy", "forgetting")
        return tuple(f"continual/{regime.continual.scenario}/{name}" for name in names)
    return ("imbalance/balanced_accuracy",) if regime.long_tailed is not None else ()


def reading(name: str, spec: StudySpec) -> Metric:
    """The reading of a metric of the study; one of another regime than the main one says which."""
    regime, _ = split_name(name, spec)
    found = describe(name, spec.evaluation.headline)
    return replace(found, regime="" if regime == main_regime(spec) else regime)


def table_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """The columns of the main table, in order; a primary metric that is not among them comes last."""
    main = regimes(spec)[main_regime(spec)]
    if main.continual is not None:
        names = _continual_names(spec, main)
    else:
        names = [*_accuracies(main), *_measured_names(spec)]
    full = [resolve(name, spec) for name in (*names, *spec.report.primary)]
    return tuple(reading(name, spec) for name in dict.fromkeys(full))


def primary_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """Those the answer rests on, as declared."""
    full = dict.fromkeys(resolve(name, spec) for name in spec.report.primary)
    return tuple(reading(name, spec) for name in full)


def secondary_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """The other metrics of the main table that have a better direction, and what the first regime of every
    further protocol comes to."""
    primary = {metric.name for metric in primary_metrics(spec)}
    _, *others = headings(spec)
    further = [
        reading(full_name(regime.name, name, spec), spec)
        for regime in others
        for name in headline_names(regime)
    ]
    found = {metric.name: metric for metric in (*table_metrics(spec), *further)}
    return tuple(m for m in found.values() if m.name not in primary and m.better != "neither")


def _accuracies(main: Regime) -> list[str]:
    """How well the trials of the main regime classify."""
    if main.long_tailed is None:
        return ["test/accuracy"]
    groups = [f"imbalance/accuracy/{group}" for group in CLASS_GROUPS]
    return ["imbalance/balanced_accuracy", *groups, "imbalance/worst_class"]


def _measured_names(spec: StudySpec) -> list[str]:
    names = []
    if "ood" in spec.evaluation.measures:
        names += [f"ood/{side}/{rate}" for rate in _TABLE_RATES for side in sides(spec)]
    if "calibration" in spec.evaluation.measures:
        ece = f"calibration/ece_{spec.evaluation.calibration.bins}"
        names += [ece, f"{ece}_ts", "calibration/temperature"]
    return names


def _continual_names(spec: StudySpec, main: Regime) -> list[str]:
    """What a stream comes to; a joint run of it has no history."""
    settings = main.continual
    assert settings is not None
    names = ["accuracy"]
    if main.variant != "joint":
        names += ["average_incremental_accuracy", "learning_accuracy", "forgetting", "bwt"]
        names += [] if settings.scenario == "class_il" else ["fwt"]
    if settings.scenario == "class_il":
        names.append("masked/accuracy")
    ece = f"ece_{spec.evaluation.calibration.bins}"
    names += [*(f"auroc_{side}" for side in sides(spec)), ece, f"{ece}_ts"]
    return [f"continual/{settings.scenario}/{name}" for name in names]
