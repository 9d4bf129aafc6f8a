"""The proxy audit: does the noise FPR95 of validation order models as the FPR95 of real OOD sets does?

Asked three times: inside each arm over its configurations, over all trials, and between the arms' means. Pure
arithmetic over the record. Rates: share of OOD accepted where 95 % of ID is, by the headline score.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.campaign.audit import draw
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.report.agreement import Agreement, agreement
from orchestrator.report.comparison import arm_record, ordered_arms
from orchestrator.report.metrics import sides
from orchestrator.report.pruning_audit import is_complete
from orchestrator.study.spec import StudySpec
from workloads.evaluation.score_names import parse_score

NOISE = "noise/fpr95"
Unit = Literal["configuration", "trial", "arm"]


@dataclass(frozen=True)
class Point:
    """One model, or the mean of several."""

    arm: str
    number: int
    """Its configuration."""
    noise: float
    real: float
    """Of one OOD set, or the mean over those of a side."""


@dataclass(frozen=True)
class Reading:
    """How far noise orders some points as a real OOD set does."""

    level: str
    """The arm, ``all trials`` or ``arm means``."""
    unit: Unit
    target: str
    """``near``, ``far`` or an OOD set."""
    order: Agreement
    zeros: int
    """Points whose noise FPR95 is 0."""


def targets(spec: StudySpec) -> tuple[str, ...]:
    """The sides that have OOD sets, then the sets; a set that is alone on its side is that side."""
    both = sides(spec)
    return (*both, *(name for sets in both.values() if len(sets) > 1 for name in sets))


def proxy_readings(spec: StudySpec, record: StudyRecord) -> list[Reading]:
    """Every level and target with at least two points; nothing where the audit is not asked for."""
    if spec.audit.proxy is None:
        return []
    arms = ordered_arms(spec)
    found = []
    for target in targets(spec):
        for arm in arms:
            found.append(
                _reading(spec, arm, "configuration", target, configurations(spec, record, arm, target))
            )
        several = [point for arm in arms for point in trials(spec, record, arm, target)]
        found.append(_reading(spec, "all trials", "trial", target, several))
        means = [mean for arm in arms if (mean := arm_mean(spec, record, arm, target)) is not None]
        found.append(_reading(spec, "arm means", "arm", target, means))
    order = {level: place for place, level in enumerate((*arms, "all trials", "arm means"))}
    return sorted((r for r in found if r.order.n > 1), key=lambda r: order[r.level])


def configurations(spec: StudySpec, record: StudyRecord, arm: str, target: str) -> list[Point]:
    """The drawn configurations of an arm, each as the mean over its search seeds; complete ones alone."""
    found = []
    for number, audited in _drawn(spec, record, arm):
        if is_complete(spec, audited):
            points = list(_points(spec, audited.values(), target))
            if len(points) == len(audited):
                found.append(_mean(arm, number, points))
    return found


def trials(spec: StudySpec, record: StudyRecord, arm: str, target: str) -> list[Point]:
    """Every complete audit trial of the drawn configurations, and confirm trial of the standard regime."""
    audited = [trial for _, trials in _drawn(spec, record, arm) for trial in trials.values()]
    confirmed = arm_record(record, arm).confirms.get("standard", {}).values()
    return list(_points(spec, (*audited, *confirmed), target))


def arm_mean(spec: StudySpec, record: StudyRecord, arm: str, target: str) -> Point | None:
    """The winner's mean over its confirm trials."""
    entry = arm_record(record, arm)
    points = list(_points(spec, entry.confirms.get("standard", {}).values(), target))
    return _mean(arm, entry.selected or 0, points) if points else None


def _drawn(spec: StudySpec, record: StudyRecord, arm: str) -> Iterator[tuple[int, dict[int, TrialRecord]]]:
    entry = arm_record(record, arm)
    for number in draw(spec, entry).proxy:
        yield number, entry.audits.get(number, {})


def _points(spec: StudySpec, those: Iterable[TrialRecord], target: str) -> Iterator[Point]:
    real = f"ood/{target}/{parse_score(spec.evaluation.headline).label}/fpr95_id_positive"
    for trial in those:
        if trial.state == "complete" and NOISE in trial.metrics and real in trial.metrics:
            yield Point(trial.arm, trial.number, trial.metrics[NOISE], trial.metrics[real])


def _mean(arm: str, number: int, points: Sequence[Point]) -> Point:
    noise, real = ([p.noise for p in points], [p.real for p in points])
    return Point(arm, number, statistics.fmean(noise), statistics.fmean(real))


def _reading(spec: StudySpec, level: str, unit: Unit, target: str, points: Sequence[Point]) -> Reading:
    order = agreement(
        [p.noise for p in points],
        [p.real for p in points],
        spec.report.confidence,
        [(p.arm, p.number) for p in points],
    )
    return Reading(level, unit, target, order, sum(p.noise == 0 for p in points))
