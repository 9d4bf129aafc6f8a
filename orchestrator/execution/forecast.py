"""How much of a study is left: pure arithmetic over its record."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.campaign.standing import (
    audits_ended,
    audits_planned,
    confirms_ended,
    confirms_planned,
    searches,
)
from orchestrator.study import terms
from orchestrator.study.plan import audits_at_most
from orchestrator.study.regimes import main_regime, regimes
from orchestrator.study.spec import StudySpec

_ENOUGH = 4
"""Trials that must have ended before a time is named."""


def trials_left(spec: StudySpec, record: StudyRecord) -> tuple[float, float]:
    """Search and confirm trials that have not ended, over all arms and repeats.

    Configurations still to come are taken to need as many seeds as those that are settled needed.
    """
    search = confirm = 0.0
    for arm in searches(spec, record):
        if arm.failure:
            continue
        confirm += confirms_planned(spec, record, arm) - confirms_ended(arm)
        if arm.selected is None:
            search += _search_left(spec, arm)
    return search, confirm


def _search_left(spec: StudySpec, arm: ArmRecord) -> float:
    """Search trials of one search that have not ended."""
    settled = [c for c in arm.configurations if c.state != "running"]
    seeds = len(spec.search.seeds)
    usual = sum(len(c.trials) for c in settled) / len(settled) if settled else (seeds + 1) / 2
    running = [c for c in arm.configurations if c.state == "running"]
    left = sum(max(0.5, usual - _ended(c.trials.values())) for c in running)
    if arm.spent is not None:
        return left
    to_come = terms.configurations(spec.arms[arm.name].space, spec.search.trials) - len(arm.configurations)
    left += to_come * usual
    if spec.budget.trials is not None:
        left = min(left, max(0.0, spec.budget.trials - _ended(arm.search_trials)))
    return left


def seconds_left(spec: StudySpec, record: StudyRecord, slots: int) -> float | None:
    """Wall seconds until the end at the speed so far; None while nothing has ended yet.

    Where the budget limits seconds, searches are not reckoned with for longer than it lets them go on.
    """
    ended = [t for t in record.trials.values() if t.ended is not None]
    if len(ended) < _ENOUGH:
        return None
    # The median: the first trials of a session also pay for the start of their workers.
    usual = {
        stage: statistics.median(seconds)
        for stage in ("search", "confirm", "audit")
        if (seconds := [t.seconds for t in ended if t.stage == stage])
    }
    for_search = usual.get("search", usual.get("confirm", 0.0))
    for_confirm = usual.get("confirm", for_search)
    confirm = sum(
        count * _usual_seconds(record, regime, for_confirm) for regime, count in _confirms_left(spec, record)
    )
    searching = _search_seconds_left(spec, record, for_search) / max(slots, 1)
    if spec.budget.wall_seconds is not None:
        worked = record.earlier_seconds + record.session_seconds
        searching = min(searching, max(0.0, spec.budget.wall_seconds - worked))
    audit = _audits_left(spec, record) * usual.get("audit", for_confirm)
    return searching + (confirm + audit) / max(slots, 1)


def _search_seconds_left(spec: StudySpec, record: StudyRecord, usual: float) -> float:
    """Device seconds that the searches still take."""
    budget, total = spec.budget, 0.0
    for arm in searches(spec, record):
        if arm.failure or arm.selected is not None:
            continue
        seconds = _search_left(spec, arm) * usual
        if budget.device_seconds is not None and arm.spent is None:
            seconds = min(seconds, max(0.0, budget.device_seconds - arm.search_seconds))
        total += seconds
    return total


def _audits_left(spec: StudySpec, record: StudyRecord) -> int:
    """Audit trials that have not ended; of an arm without a winner, as many as there may be."""
    left = 0
    for arm in record.arms.values():
        if arm.selected is not None:
            left += audits_planned(spec, arm) - audits_ended(spec, arm)
        elif not arm.failure and arm.name in spec.arms:
            left += audits_at_most(spec, arm.name)
    return left


def _confirms_left(spec: StudySpec, record: StudyRecord) -> Iterable[tuple[str, int]]:
    """Every regime, and its confirm trials that have not ended."""
    for regime in regimes(spec):
        left = 0
        for arm in searches(spec, record):
            first = record.arms.get(arm.name, arm)
            if arm.failure or regime in first.skipped or (arm.repeat and regime != main_regime(spec)):
                continue
            left += len(spec.confirm.seeds) - _ended(arm.confirms.get(regime, {}).values())
        yield regime, left


def _usual_seconds(record: StudyRecord, regime: str, otherwise: float) -> float:
    """The median of a regime's own trials: those of a stream may take ten times those of another."""
    trials = [t for arm in record.arms.values() for t in arm.confirms.get(regime, {}).values()]
    seconds = [t.seconds for t in trials if t.ended is not None]
    return statistics.median(seconds) if seconds else otherwise


def _ended(trials: Iterable[TrialRecord]) -> int:
    return sum(t.ended is not None for t in trials)
