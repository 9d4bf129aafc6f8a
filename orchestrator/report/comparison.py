"""Every arm against the baseline, in the two families that were declared before anything ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.report.metric import Metric
from orchestrator.report.metrics import primary_metrics, secondary_metrics
from orchestrator.report.statistics import PairedTest, holm, paired_test, seeds_needed
from orchestrator.study.regimes import main_regime, regimes, split_name
from orchestrator.study.spec import StudySpec

Family = Literal["primary", "secondary"]
Verdict = Literal["better", "worse", "different", "not distinguishable", "no test"]


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline in one metric."""

    family: Family
    family_size: int
    arm: str
    baseline: str
    metric: Metric
    planned: int
    """Confirm seeds of the study."""
    test: PairedTest
    p_holm: float | None
    verdict: Verdict
    """Of the arm; ``different`` for a metric without a better direction."""
    seeds_needed: int | None
    """Pairs that would settle a difference of this size with 80 % power; None: too many, or undefined."""

    @property
    def left_out(self) -> int:
        """Planned seeds that are not complete in both arms."""
        return self.planned - self.test.n

    @property
    def distinguishable(self) -> bool:
        return self.verdict in ("better", "worse", "different")


def baseline_of(spec: StudySpec) -> str:
    return spec.baseline or next(iter(spec.arms))


def ordered_arms(spec: StudySpec) -> tuple[str, ...]:
    """The baseline, then the others as the study lists them."""
    baseline = baseline_of(spec)
    return (baseline, *(name for name in spec.arms if name != baseline))


def arm_record(record: StudyRecord, name: str) -> ArmRecord:
    """The arm's record; an empty one where nothing has happened yet."""
    return record.arms.get(name) or ArmRecord(name)


def confirm_trials(
    spec: StudySpec, record: StudyRecord, arm: str, regime: str | None = None
) -> dict[int, TrialRecord]:
    """The arm's confirm trials of a regime (None: the main one) that have started, by seed, in the study's
    order."""
    confirms = arm_record(record, arm).confirms.get(regime or main_regime(spec), {})
    return {seed: confirms[seed] for seed in spec.confirm.seeds if seed in confirms}


def all_confirm_trials(spec: StudySpec, record: StudyRecord, arm: str) -> list[TrialRecord]:
    """The arm's confirm trials of all regimes that have started, in the study's order."""
    return [trial for regime in regimes(spec) for trial in confirm_trials(spec, record, arm, regime).values()]


def confirm_values(spec: StudySpec, record: StudyRecord, arm: str, metric: str) -> dict[int, float]:
    """The metric of the complete confirm trials, by seed; its name may begin with a regime and a colon."""
    regime, name = split_name(metric, spec)
    return {
        seed: float(trial.metrics[name])
        for seed, trial in confirm_trials(spec, record, arm, regime).items()
        if trial.state == "complete" and name in trial.metrics
    }


def compare(spec: StudySpec, record: StudyRecord) -> tuple[Comparison, ...]:
    """All comparisons, the primary family first."""
    return (
        *_family("primary", primary_metrics(spec), spec, record),
        *_family("secondary", secondary_metrics(spec), spec, record),
    )


def _family(
    family: Family, metrics: Sequence[Metric], spec: StudySpec, record: StudyRecord
) -> list[Comparison]:
    baseline, *others = ordered_arms(spec)
    values: dict[tuple[str, str], Mapping[int, float]] = {
        (arm, metric.name): confirm_values(spec, record, arm, metric.name)
        for arm in (baseline, *others)
        for metric in metrics
    }
    pairs = [(arm, metric) for arm in others for metric in metrics]
    tests = [
        paired_test(values[arm, metric.name], values[baseline, metric.name], spec.report.confidence)
        for arm, metric in pairs
    ]
    corrected = holm([test.p for test in tests])
    alpha = 1 - spec.report.confidence
    return [
        Comparison(
            family,
            len(pairs),
            arm,
            baseline,
            metric,
            len(spec.confirm.seeds),
            test,
            p,
            _verdict(metric, test, p, alpha),
            # The strictest step of Holm's correction, so that the answer does not hang on the other arms.
            None if test.dz is None else seeds_needed(test.dz, alpha / len(pairs)),
        )
        for (arm, metric), test, p in zip(pairs, tests, corrected, strict=True)
    ]


def _verdict(metric: Metric, test: PairedTest, p: float | None, alpha: float) -> Verdict:
    if p is None or test.difference is None:
        return "no test"
    if p >= alpha:
        return "not distinguishable"
    if metric.better == "neither":
        return "different"
    return "better" if (test.difference < 0) == (metric.better == "lower") else "worse"
