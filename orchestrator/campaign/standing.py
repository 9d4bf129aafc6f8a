"""How far a study is: what has ended of what is planned, over all arms and the repeats of their searches."""

from __future__ import annotations

from collections.abc import Iterator

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


def is_settled(spec: StudySpec, record: StudyRecord) -> bool:
    """Every search has a winner whose confirm trials have ended, or none and a reason."""
    return bool(record.arms) and all(
        bool(arm.failure)
        or (arm.selected is not None and confirms_ended(arm) >= confirms_planned(spec, record, arm))
        for arm in searches(spec, record)
    )
