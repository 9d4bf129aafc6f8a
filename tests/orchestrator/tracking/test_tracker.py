"""The tracker keeps the control loop free, survives a failing store, and writes nothing twice."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import Event
from orchestrator.tracking import tracker as module
from orchestrator.tracking.tracker import Tracker, make_writer
from tests.orchestrator.simulation import Simulator, study

SPEC = dataclasses.replace(study(), search=dataclasses.replace(study().search, trials=3))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> list[Event]:
    folder = tmp_path_factory.mktemp("simulated")
    Simulator(SPEC, folder).run()
    events = [dict(e) for e in read_events(folder / "ledger.jsonl")]
    events[0] |= {"instance": "one"}
    return list(events)


def uri(folder: Path) -> str:
    return f"sqlite:///{folder / 'mlflow.db'}"


def deliver(folder: Path, history: list[Event], new: list[Event]) -> Tracker:
    tracker = Tracker(SPEC, make_writer(SPEC, folder, uri(folder), folder.as_uri()))
    tracker.start(history)
    for event in new:
        tracker.put(event)
    assert tracker.drain(60.0), tracker.trouble
    return tracker


def runs(folder: Path) -> dict[str, Any]:
    client = MlflowClient(uri(folder))
    experiment = client.get_experiment_by_name(SPEC.name)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    roles = Counter(r.data.tags["orchestrate.role"] for r in found)
    assert max(roles.values()) == 1
    return {r.data.tags["orchestrate.role"]: r for r in found}


def test_records_cut_at_any_event_and_sent_again_are_those_sent_at_once(
    history: list[Event], tmp_path: Path
) -> None:
    at_once, cut = tmp_path / "once", tmp_path / "cut"
    at_once.mkdir()
    cut.mkdir()
    deliver(at_once, [], history)
    reopened = {**history[0], "session": 2}
    for moment in (20, 75, len(history)):
        deliver(cut, history[: moment - 10], [reopened, *history[moment - 10 : moment]])
    left, right = runs(at_once), runs(cut)
    assert set(left) == set(right)
    client_left, client_right = MlflowClient(uri(at_once)), MlflowClient(uri(cut))
    for role, run in left.items():
        again = right[role]
        assert again.data.params == run.data.params
        assert again.data.metrics == run.data.metrics
        if role.startswith("trial:"):
            assert again.info.status == run.info.status != "RUNNING"
            curves = [
                [(m.step, m.value) for m in client.get_metric_history(r.info.run_id, "noise/fpr95")]
                for client, r in ((client_left, run), (client_right, again))
            ]
            assert sorted(curves[0]) == sorted(curves[1])


def test_an_earlier_study_of_the_same_name_is_left_alone(history: list[Event], tmp_path: Path) -> None:
    deliver(tmp_path, [], history)
    deliver(tmp_path, [], [{**history[0], "instance": "two"}, *history[1:]])
    client = MlflowClient(uri(tmp_path))
    experiment = client.get_experiment_by_name(SPEC.name)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    by_instance = Counter(r.data.tags["orchestrate.instance"] for r in found)
    assert by_instance["one"] == by_instance["two"]


def test_nothing_is_written_where_a_session_never_opened(history: list[Event], tmp_path: Path) -> None:
    deliver(tmp_path, history, [])
    experiment = MlflowClient(uri(tmp_path)).get_experiment_by_name(SPEC.name)
    assert MlflowClient(uri(tmp_path)).search_runs([experiment.experiment_id]) == []


def test_a_store_that_fails_for_a_while_gets_everything_in_the_end(
    history: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    open_writer = make_writer(SPEC, tmp_path, uri(tmp_path), tmp_path.as_uri())
    failures = iter(range(4))

    def failing() -> Any:
        writer = open_writer()
        whole = writer.write_trial

        def write_trial(*arguments: Any) -> None:
            if next(failures, None) is not None:
                raise ConnectionError("the store is away")
            whole(*arguments)

        monkeypatch.setattr(writer, "write_trial", write_trial)
        return writer

    tracker = Tracker(SPEC, failing)
    tracker.start([])
    for event in history:
        tracker.put(event)
    assert tracker.drain(60.0)
    trials = {role for role in runs(tmp_path) if role.startswith("trial:")}
    assert len(trials) == len({e["key"] for e in history if "key" in e})


def test_a_store_that_stays_away_is_said_and_ends_the_wait(history: list[Event]) -> None:
    def never() -> Any:
        raise ConnectionError("no store here")

    tracker = Tracker(SPEC, never)
    tracker.start([])
    tracker.put(history[0])
    assert not tracker.drain(0.0)
    assert tracker.trouble == "ConnectionError: no store here"
