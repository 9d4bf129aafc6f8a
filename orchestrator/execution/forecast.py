"""How much of a study is left: pure arithmetic over its record."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec
from orchestrator.study.terms import space_size

_ENOUGH = 4
"""Trials that must have ended before a time is named."""


def trials_left(spec: StudySpec, record: StudyRecord) -> tuple[float, float]:
    """Search and confirm trials that have not ended.

    Configurations still to come are taken to need as many seeds as those that are settled needed.
    """
    search = confirm = 0.0
    seeds = len(spec.search.seeds)
    for name, arm in record.arms.items():
        if arm.failure:
            continue
        confirm += arm.confirm_planned(regimes(spec), len(spec.confirm.seeds)) - _ended(arm.confirm_trials)
        if arm.selected is not None:
            continue
        size = space_size(spec.arms[name].space)
        budget = min(spec.search.trials, size or spec.search.trials)
        settled = [c for c in arm.configurations if c.state != "running"]
        usual = sum(len(c.trials) for c in settled) / len(settled) if settled else (seeds + 1) / 2
        search += (budget - len(arm.configurations)) * usual
        for configuration in arm.configurations:
            if configuration.state == "running":
                search += max(0.5, usual - _ended(configuration.trials.values()))
    return search, confirm


def seconds_left(spec: StudySpec, record: StudyRecord, slots: int) -> float | None:
    """Wall seconds until the end at the speed so far; None while nothing has ended yet."""
    search, _ = trials_left(spec, record)
    ended = [t for t in record.trials.values() if t.ended is not None]
    if len(ended) < _ENOUGH:
        return None
    # The median: the first trials of a session also pay for the start of their workers.
    usual = {
        stage: statistics.median(seconds)
        for stage in ("search", "confirm")
        if (seconds := [t.seconds for t in ended if t.stage == stage])
    }
    for_search = usual.get("search", usual.get("confirm", 0.0))
    for_confirm = usual.get("confirm", for_search)
    confirm = sum(
        count * _usual_seconds(record, regime, for_confirm) for regime, count in _confirms_left(spec, record)
    )
    return (search * for_search + confirm) / max(slots, 1)


def _confirms_left(spec: StudySpec, record: StudyRecord) -> Iterable[tuple[str, int]]:
    """Every regime, and its confirm trials that have not ended."""
    arms = [arm for arm in record.arms.values() if not arm.failure]
    for regime in regimes(spec):
        planned = len(spec.confirm.seeds) * sum(regime not in arm.skipped for arm in arms)
        yield regime, planned - sum(_ended(arm.confirms.get(regime, {}).values()) for arm in arms)


def _usual_seconds(record: StudyRecord, regime: str, otherwise: float) -> float:
    """The median of a regime's own trials: those of a stream may take ten times those of another."""
    trials = [t for arm in record.arms.values() for t in arm.confirms.get(regime, {}).values()]
    seconds = [t.seconds for t in trials if t.ended is not None]
    return statistics.median(seconds) if seconds else otherwise


def _ended(trials: Iterable[TrialRecord]) -> int:
    return sum(t.ended is not None for t in trials)
