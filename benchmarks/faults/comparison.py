"""Whether a study that was disturbed ended as one that was not."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import ArmRecord, Event, StudyRecord

_ROLE = "orchestrate.role"
_MEASURED_TIME = ("seconds", "time", "attempts", "hour")
"""A table with such a column says how the run went, not what the study found."""


@dataclass(frozen=True)
class Ended:
    """What is left of a study when it has ended."""

    events: list[Event]
    tables: Mapping[str, str]
    """By file name, those that say what was found."""
    runs: list[Run]

    @property
    def record(self) -> StudyRecord:
        return StudyRecord.fold(self.events)


def read_ended(out: Path, name: str) -> Ended:
    client = MlflowClient(f"sqlite:///{(out / 'mlflow.db').resolve()}")
    experiment = client.get_experiment_by_name(name)
    runs = (
        [] if experiment is None else list(client.search_runs([experiment.experiment_id], max_results=1000))
    )
    return Ended(list(read_events(out / name / "ledger.jsonl")), read_tables(out / name / "report"), runs)


def read_tables(folder: Path) -> dict[str, str]:
    """By file name, the tables that an undisturbed run would give again to the last digit."""
    found = {path.name: path.read_text() for path in sorted(folder.glob("*.csv"))}
    return {name: text for name, text in found.items() if not _is_of_the_run(text)}


def _is_of_the_run(text: str) -> bool:
    head = next(csv.reader(text.splitlines()), [])
    return any(word in column.lower() for column in head for word in _MEASURED_TIME)


def differences(found: Ended, wanted: Ended) -> list[str]:
    """What is not as in the undisturbed study, a sentence each; empty where nothing is."""
    said = [
        f"table {name} differs"
        for name in sorted(set(found.tables) | set(wanted.tables))
        if found.tables.get(name) != wanted.tables.get(name)
    ]
    decided, expected = decisions(found.record), decisions(wanted.record)
    said += [f"arm {arm} was decided otherwise" for arm in expected if decided.get(arm) != expected[arm]]
    return said + _of_the_runs(found.runs, wanted.runs) + twice_ended(found.events)


def decisions(record: StudyRecord) -> dict[str, Any]:
    """What a study decided and measured, without times and order."""
    return {name: _decided(arm) for name, arm in record.arms.items()}


def _decided(arm: ArmRecord) -> tuple[Any, ...]:
    confirmed = {
        (regime, seed): (dict(trial.params), trial.state, dict(trial.metrics))
        for regime, trials in arm.confirms.items()
        for seed, trial in trials.items()
    }
    searched = [(dict(c.params), c.state, c.value, c.reason) for c in arm.configurations]
    return searched, arm.selected, arm.failure, confirmed, dict(arm.skipped)


def _of_the_runs(found: list[Run], wanted: list[Run]) -> list[str]:
    roles = Counter(run.data.tags[_ROLE] for run in found)
    expected = {run.data.tags[_ROLE]: run.info.status for run in wanted}
    said = [f"MLflow holds {role} {count} times" for role, count in roles.items() if count > 1]
    said += [f"MLflow lacks {role}" for role in expected if role not in roles]
    said += [f"MLflow holds {role}, which nobody ran" for role in roles if role not in expected]
    for run in found:
        role, status = run.data.tags[_ROLE], run.info.status
        if role in expected and status != expected[role]:
            said.append(f"MLflow says {status} of {role}, not {expected[role]}")
        if run.info.end_time is not None and run.info.end_time < run.info.start_time:
            said.append(f"in MLflow {role} ends before it starts")
    return said


def twice_ended(events: list[Event]) -> list[str]:
    ends = Counter(event["key"] for event in events if event["event"] == "finished")
    return [f"trial {key} finished {count} times" for key, count in ends.items() if count > 1]


def trained_again(events: list[Event]) -> int:
    """Starts of trials that were finished already."""
    finished: set[str] = set()
    count = 0
    for event in events:
        if event["event"] == "finished":
            finished.add(event["key"])
        count += event["event"] == "started" and event["key"] in finished
    return count
