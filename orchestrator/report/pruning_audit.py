"""The pruning audit: what became of stopped configurations that were run to the end after all.

Pure arithmetic over the record. Values are the search's objective (smaller is better), all judged by the
accuracy guard that chose the winner.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.campaign.audit import draw, stop_of
from orchestrator.campaign.objective import Objective, meets_guard
from orchestrator.campaign.record import ArmRecord, ConfigurationRecord, StudyRecord, TrialRecord
from orchestrator.campaign.stops import Stop
from orchestrator.report.agreement import Agreement, agreement, share_interval
from orchestrator.report.bookkeeping import last_metrics
from orchestrator.report.comparison import arm_record
from orchestrator.study.spec import StudySpec
from workloads.catalogue import Value

Trials = Mapping[int, TrialRecord]


@dataclass(frozen=True)
class Audited:
    """A stopped configuration that was run to the end, on all search seeds."""

    number: int
    params: Mapping[str, Value]
    stop: Stop
    then: float | None
    """Its mean noise FPR95 where it was stopped; None where that epoch was not reported."""
    fpr95: float
    """Its mean noise FPR95 at the end."""
    value: float
    """Its objective at the end."""
    better: bool
    """Than that of the chosen one."""


@dataclass(frozen=True)
class PruningAudit:
    """Of one arm."""

    arm: str
    stopped: int
    """Configurations that the pruner stopped."""
    ruled_out: int
    """Others that were pruned: they could not win any more, or the budget ended. None of them is drawn."""
    drawn: int
    audited: tuple[Audited, ...]
    """Those of the drawn ones whose trials are all complete."""
    failed: int
    """Of the drawn ones, those with a trial that failed."""
    chosen: float
    """Objective of the winner."""
    chosen_fpr95: float
    """Its mean noise FPR95 in the search."""
    regret: float | None
    """By how much the best audited one would have been better than the winner; 0 where none would. None where
    none was audited, or the winner does not meet the guard."""
    share: tuple[float, float] | None
    """The interval of the share of stopped configurations that would have been better."""
    step: Stop | None
    """Where half of the audited had been stopped."""
    order: Agreement | None
    """Of the values at that step and at the end, over the audited and the completed configurations."""
    seconds: float
    """Busy seconds of the audited configurations' trials."""

    @property
    def better(self) -> int:
        """Audited configurations that would have been better than the winner."""
        return sum(each.better for each in self.audited)


def pruning_audit(spec: StudySpec, record: StudyRecord, name: str) -> PruningAudit | None:
    """The audit of an arm; None where it is not asked for, or no search has chosen anything yet."""
    arm = arm_record(record, name)
    if spec.audit.pruned is None or arm.selected is None or arm.selection.get("value") is None:
        return None
    judge = _Judge.of(spec, record, arm)
    drawn = draw(spec, arm).pruned
    audited = [each for number in drawn if (each := judge.audited(number)) is not None]
    pruned = [c for c in arm.configurations if c.state == "pruned"]
    stopped = sum(stop_of(spec, c) is not None for c in pruned)
    step = statistics.median_low(each.stop for each in audited) if audited else None
    best = min((each.value for each in audited), default=None)
    guarded = meets_guard(judge.chosen, len(spec.search.seeds))
    return PruningAudit(
        name,
        stopped,
        len(pruned) - stopped,
        len(drawn),
        tuple(audited),
        sum(any(t.state == "failed" for t in arm.audits.get(n, {}).values()) for n in drawn),
        judge.chosen,
        _mean_noise(arm.configurations[arm.selected].trials),
        max(0.0, judge.chosen - best) if best is not None and guarded else None,
        share_interval(sum(e.better for e in audited), len(audited), spec.report.confidence)
        if audited
        else None,
        step,
        None if step is None else judge.order(step, [each.number for each in audited]),
        sum(t.seconds for n in drawn for t in arm.audits.get(n, {}).values()),
    )


@dataclass(frozen=True)
class _Judge:
    """Values of an arm's configurations under the guard that its winner was chosen by."""

    spec: StudySpec
    arm: ArmRecord
    objective: Objective
    threshold: float
    chosen: float

    @classmethod
    def of(cls, spec: StudySpec, record: StudyRecord, arm: ArmRecord) -> _Judge:
        objective = Objective.of(spec, int(record.sessions[-1]["data"]["num_classes"]))
        complete = [c for c in arm.configurations if c.state == "complete"]
        best = max((_mean_accuracy(c) for c in complete), default=None)
        return cls(spec, arm, objective, objective.threshold(best), float(arm.selection["value"]))

    def audited(self, number: int) -> Audited | None:
        """A drawn configuration, where all of its trials are complete."""
        configuration = self.arm.configurations[number]
        trials = self.arm.audits.get(number, {})
        stop = stop_of(self.spec, configuration)
        if stop is None or not is_complete(self.spec, trials):
            return None
        value = self.final(trials)
        return Audited(
            number,
            configuration.params,
            stop,
            noise_then(self.spec, trials, stop),
            _mean_noise(trials),
            value,
            value < self.chosen,
        )

    def final(self, trials: Trials) -> float:
        return self._value([last_metrics(trials[seed]) for seed in self.spec.search.seeds])

    def _value(self, measured: list[Mapping[str, float]]) -> float:
        return statistics.fmean(self.objective.value(metrics, self.threshold) for metrics in measured)

    def order(self, step: Stop, audited: list[int]) -> Agreement:
        """Of the values at a step and at the end."""
        complete = [c.trials for c in self.arm.configurations if c.state == "complete"]
        before, after = [], []
        for trials in (*complete, *(self.arm.audits[number] for number in audited)):
            then = at(self.spec, trials, step)
            if then is not None:
                before.append(self._value(then))
                after.append(self.final(trials))
        return agreement(before, after, self.spec.report.confidence)


def at(spec: StudySpec, trials: Trials, step: Stop) -> list[Mapping[str, float]] | None:
    """What a pruner knew of a configuration at a step: the ends of the seeds that were through, and the epoch
    of the current one; None where that epoch was not reported."""
    seeds = spec.search.seeds
    known = [last_metrics(trials[seed]) for seed in seeds[: step.finished]]
    if step.epoch:
        current = trials[seeds[step.finished]].reports.get(step.epoch)
        if current is None:
            return None
        known.append(current)
    return known


def noise_then(spec: StudySpec, trials: Trials, stop: Stop) -> float | None:
    """A configuration's mean noise FPR95 where it was stopped; None where that epoch was not reported."""
    then = at(spec, trials, stop)
    return None if then is None else statistics.fmean(metrics["noise/fpr95"] for metrics in then)


def is_complete(spec: StudySpec, trials: Trials) -> bool:
    """Whether a configuration's trials on all search seeds are complete."""
    return all(seed in trials and trials[seed].state == "complete" for seed in spec.search.seeds)


def step_text(spec: StudySpec, step: Stop) -> str:
    """``epoch 5 of seed 0``, or ``the end of seed 0``."""
    seeds = spec.search.seeds
    if not step.epoch:
        return f"the end of seed {seeds[step.finished - 1]}"
    return f"epoch {step.epoch} of seed {seeds[step.finished]}"


def _mean_accuracy(configuration: ConfigurationRecord) -> float:
    return statistics.fmean(t.metrics["validation/accuracy"] for t in configuration.trials.values())


def _mean_noise(trials: Trials) -> float:
    return statistics.fmean(last_metrics(trial)["noise/fpr95"] for trial in trials.values())
