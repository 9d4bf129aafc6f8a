"""How far a study is: what has ended of what is planned, over all arms and the repeats of their searches."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.campaign.audit import audit_trials
from orchestrator.campaign.record import ArmRecord, StudyRecord
from orchestrator.study import repeats
from orchestrator.study.regimes import main_regime, regimes
from orchestrator.study.spec import StudySpec


def searches(spec: StudySpec, record: StudyRecord) -> Iterator[ArmRecord]:
    """Every search that is planned, arm by arm; an empty record where one has not begun."""
    for name in spec.arms:
        first = record.arms.get(name) or ArmRecord(name)
        yield first
        for repeat in range(1, repeats.count(spec, name)):
            yield first.again.get(repeat) or ArmRecord(name, repeat)


def confirms_planned(spec: StudySpec, record: StudyRecord, arm: ArmRecord) -> int:
    """How many confirm trials a search's winner gets: one a seed in each regime that its loss fits, and of a
    repeat in the main regime alone."""
    first = record.arms.get(arm.name)
    skipped = first.skipped if first is not None else {}
    wanted = {main_regime(spec)} if arm.repeat else set(regimes(spec))
    return len(spec.confirm.seeds) * len(wanted - set(skipped))


def confirms_ended(arm: ArmRecord) -> int:
    """How many of a search's confirm trials have ended; one that others share counts here too."""
    return sum(trial.ended is not None for trial in arm.confirm_trials)


def confirmable(spec: StudySpec, record: StudyRecord) -> Iterator[ArmRecord]:
    """Searches whose winner may be confirmed: what two repeats share belongs to the first of them, whichever
    search ends first."""
    for first in record.arms.values():
        for repeat in range(repeats.count(spec, first.name)):
            arm = record.search(first.name, repeat)
            if arm.selected is not None:
                yield arm
            elif not arm.failure:
                break


def is_searched(spec: StudySpec, record: StudyRecord) -> bool:
    """Every search has a winner, or none and a reason: nothing is to be chosen any more."""
    return bool(record.arms) and all(
        bool(arm.failure) or arm.selected is not None for arm in searches(spec, record)
    )


def audits_ended(spec: StudySpec, arm: ArmRecord) -> int:
    """How many of the audit trials that a search is to have now have ended."""
    begun = ((arm.audits.get(number, {}).get(seed)) for number, seed in audit_trials(spec, arm))
    return sum(trial is not None and trial.ended is not None for trial in begun)


def audits_planned(spec: StudySpec, arm: ArmRecord) -> int:
    """How many audit trials a search is to have; not known, and 0, before its winner is frozen."""
    return sum(1 for _ in audit_trials(spec, arm))


def is_settled(spec: StudySpec, record: StudyRecord) -> bool:
    """Every search has a winner whose confirm trials have ended, or none and a reason; so have audits."""
    return (
        is_searched(spec, record)
        and all(
            bool(arm.failure) or confirms_ended(arm) >= confirms_planned(spec, record, arm)
            for arm in searches(spec, record)
        )
        and all(
            audits_ended(spec, arm) >= audits_planned(spec, arm)
            for arm in record.arms.values()
            if arm.name in spec.arms
        )
    )
