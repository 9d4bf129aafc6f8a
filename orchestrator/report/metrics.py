"""What each metric is called, which direction is better and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.report import numbers
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """One metric of a trial, and how people read it."""

    name: str
    """As it stands in ``TrialRecord.metrics``."""
    group: str
    """Column heading, shared by neighbours (``FPR95, ID positive``)."""
    label: str
    """Column heading below the group (``near``)."""
    noun: str
    """In a sentence: ``FPR95``."""
    claim: str
    """In a sentence, before "better than": ``rejects near OOD``."""
    better: Better
    scale: float = 100.0
    """Shown values are the metric times this: 100 for rates."""
    decimals: int = 2
    unit: str = "points"
    """Of a difference, after scaling."""

    @property
    def title(self) -> str:
        return f"{self.group} {self.label}".strip()

    def show(self, value: float | None) -> str:
        return numbers.fixed(None if value is None else value * self.scale, self.decimals)

    def show_mean_std(self, mean: float | None, std: float | None) -> str:
        scaled = [None if value is None else value * self.scale for value in (mean, std)]
        return numbers.mean_std(scaled[0], scaled[1], self.decimals)

    def show_difference(self, value: float | None) -> str:
        """With its sign and without its unit."""
        return numbers.fixed(None if value is None else value * self.scale, self.decimals, signed=True)


@dataclass(frozen=True)
class _Kind:
    """A metric whatever it is measured on."""

    group: str
    noun: str
    better: Better
    scale: float = 100.0
    decimals: int = 2
    unit: str = "points"


_REJECTION = {
    "fpr95": _Kind("FPR95 (ID+)", "FPR95", "lower", decimals=1),
    "fpr95_ood_positive": _Kind("FPR95 (OOD+)", "FPR95 (OOD positive)", "lower", decimals=1),
    "auroc": _Kind("AUROC", "AUROC", "higher"),
    "aupr_in": _Kind("AUPR-in", "AUPR-in", "higher"),
    "aupr_out": _Kind("AUPR-out", "AUPR-out", "higher"),
}
_CALIBRATION = {
    "ece": _Kind("ECE", "ECE", "lower"),
    "nll": _Kind("NLL", "NLL", "lower", scale=1.0, decimals=3, unit="nats"),
    "brier": _Kind("Brier", "Brier score", "lower", scale=1.0, decimals=4, unit=""),
}
_TABLE_RATES = ("fpr95", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out")
REJECTION_METRICS = tuple(_REJECTION)


def resolve(name: str, headline: str) -> str:
    """A declared name as trials record it: ``ood/near/fpr95`` becomes that of the headline score."""
    parts = name.split("/")
    return "/".join(["ood", headline, *parts[1:]]) if parts[0] == "ood" and len(parts) == 3 else name


def describe(name: str, headline: str) -> Metric:
    """The reading of a metric. A name that is not known is shown as it is, with no better direction."""
    parts = resolve(name, headline).split("/")
    if parts[0] == "ood" and len(parts) == 4 and parts[3] in _REJECTION:
        return _rejection(parts, headline)
    if parts[0] == "calibration" and parts[-1].removesuffix("_ts") in _CALIBRATION:
        return _calibration(parts[-1])
    if parts == ["calibration", "temperature"]:
        return Metric(name, "T*", "", "T*", "", "neither", scale=1.0, decimals=3, unit="")
    if parts[-1] == "accuracy":
        noun = "accuracy" if parts[0] == "test" else f"{parts[0]} accuracy"
        return Metric(name, noun.capitalize(), "", noun, "classifies", "higher")
    if parts[0] == "noise" and parts[-1] in _REJECTION:
        kind = _REJECTION[parts[-1]]
        claim = "rejects Gaussian noise"
        return Metric(name, kind.group, "noise", kind.noun, claim, kind.better, decimals=kind.decimals)
    return Metric(name, name, "", name, "", "neither", scale=1.0, decimals=4, unit="")


def table_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """The columns of the main table, in order; a primary metric that is not among them comes last."""
    sides = [side for side, sets in _sides(spec).items() if sets]
    names = ["test/accuracy"]
    names += [f"ood/{side}/{rate}" for rate in _TABLE_RATES for side in sides]
    names += ["calibration/ece", "calibration/ece_ts", "calibration/temperature"]
    headline = spec.evaluation.headline
    full = [resolve(name, headline) for name in (*names, *spec.report.primary)]
    return tuple(describe(name, headline) for name in dict.fromkeys(full))


def primary_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """Those the answer rests on, as declared."""
    headline = spec.evaluation.headline
    full = dict.fromkeys(resolve(name, headline) for name in spec.report.primary)
    return tuple(describe(name, headline) for name in full)


def secondary_metrics(spec: StudySpec) -> tuple[Metric, ...]:
    """The other metrics of the main table that have a better direction."""
    primary = {metric.name for metric in primary_metrics(spec)}
    return tuple(m for m in table_metrics(spec) if m.name not in primary and m.better != "neither")


def _sides(spec: StudySpec) -> dict[str, tuple[str, ...]]:
    return {"near": near_sets(spec.data), "far": far_sets(spec.data)}


def _rejection(parts: list[str], headline: str) -> Metric:
    _, score, target, rate = parts
    kind = _REJECTION[rate]
    what = f"{target} OOD" if target in ("near", "far") else target
    by_score = "" if score == headline else f" by {score}"
    return Metric(
        "/".join(parts),
        kind.group + by_score,
        target,
        kind.noun + by_score,
        f"rejects {what}",
        kind.better,
        decimals=kind.decimals,
    )


def _calibration(last: str) -> Metric:
    kind = _CALIBRATION[last.removesuffix("_ts")]
    after = last.endswith("_ts")
    return Metric(
        f"calibration/{last}",
        kind.group,
        "after TS" if after else "before TS",
        f"{kind.noun} after temperature scaling" if after else kind.noun,
        "is calibrated" if kind.noun == "ECE" else "predicts probabilities",
        kind.better,
        scale=kind.scale,
        decimals=kind.decimals,
        unit=kind.unit,
    )
