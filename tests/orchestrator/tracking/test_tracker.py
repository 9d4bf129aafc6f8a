"""The tracker keeps the control loop free, survives a failing store, and writes nothing twice."""

from __future__ import annotations

import dataclasses
import threading
import time
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
    monkeypatch.setattr(module, "_FIRST_RETRY_SECONDS", 0.01)
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


class Memory:
    """A writer that only remembers, and fails where it is told to."""

    def __init__(self, failing: str = "", error: Exception | None = None) -> None:
        self.failing = failing
        self.error = error or ConnectionError("away")
        self.written: list[str] = []
        self.tries = 0

    def open_study(self, record: Any) -> None:
        """Nothing."""

    def write_trial(self, record: Any, trial: Any) -> None:
        if trial.key == self.failing:
            self.tries += 1
            raise self.error
        self.written.append(trial.key)


def told(writer: Memory, history: list[Event], **changes: Any) -> Tracker:
    tracker = Tracker(SPEC, lambda: writer, **changes)  # type: ignore[arg-type, return-value]
    tracker.start([])
    for event in history:
        tracker.put(event)
    return tracker


def keys_of(history: list[Event]) -> set[str]:
    return {e["key"] for e in history if "key" in e}


def test_a_trial_whose_record_fails_again_and_again_does_not_hold_up_the_others(
    history: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "_FIRST_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "_LAST_RETRY_SECONDS", 0.0)
    first = next(e["key"] for e in history if "key" in e)
    writer = Memory(failing=first)
    tracker = told(writer, history)
    assert not tracker.drain(0.5)
    assert tracker.trouble == "ConnectionError: away"
    assert set(writer.written) == keys_of(history) - {first}
    assert writer.tries > 1


def test_a_record_that_is_refused_for_good_is_said_and_not_sent_again_and_again(history: list[Event]) -> None:
    class Refusal(Exception):
        error_code = "INVALID_PARAMETER_VALUE"

    first = next(e["key"] for e in history if "key" in e)
    writer = Memory(first, Refusal("no such letters"))
    tracker = told(writer, history)
    assert not tracker.drain(30.0)
    assert tracker.trouble == "Refusal: no such letters"
    assert set(writer.written) == keys_of(history) - {first}
    assert writer.tries < 5


def test_what_ends_a_session_is_tried_again_until_it_is_written(
    history: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LAST_RETRY_SECONDS", 0.0)
    ends: list[str] = []

    def finish(writer: Any) -> None:
        ends.append("asked")
        if len(ends) < 3:
            raise ConnectionError("away")

    assert told(Memory(), history).drain(30.0, finish)
    assert len(ends) == 3


def test_who_does_not_want_to_wait_for_the_store_need_not(history: list[Event]) -> None:
    held = threading.Event()
    tracker = told(Memory(), history)
    began = time.monotonic()
    assert not tracker.drain(600.0, lambda writer: void(held.wait()), give_up=lambda: True)
    assert time.monotonic() - began < 60.0
    held.set()


def void(_: object) -> None:
    """An expression as a statement."""


def test_an_outage_is_said_once_and_so_is_its_end(
    history: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(module, "_FIRST_RETRY_SECONDS", 0.0)
    said: list[str] = []
    first = next(e["key"] for e in history if "key" in e)
    writer = Memory(failing=first)
    tracker = told(writer, history, say=said.append)
    deadline = time.monotonic() + 60.0
    while writer.tries < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [text.split(";")[0] for text in said] == [
        "MLflow   does not take records now (ConnectionError: away)"
    ]
    writer.failing = ""
    while len(said) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert said[1:] == ["MLflow   takes records again; those that waited have been sent"]
    assert tracker.drain(30.0)
    assert len(said) == 2


def test_what_a_store_says_is_told_without_secrets(
    history: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_API_KEY", "key-0a1b2c3d")

    def never() -> Any:
        raise ConnectionError("http://ann:pass@host with key-0a1b2c3d")

    tracker = Tracker(SPEC, never)
    tracker.start([])
    tracker.put(history[0])
    assert not tracker.drain(0.0)
    assert tracker.trouble == "ConnectionError: http://***@host with ***"


def test_one_failure_that_is_gone_at_the_next_try_is_not_worth_a_word(
    history: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_RETRY_SECONDS", 0.0)
    said: list[str] = []
    first = next(e["key"] for e in history if "key" in e)

    class Once(Memory):
        def write_trial(self, record: Any, trial: Any) -> None:
            self.failing = first if self.tries == 0 else ""
            super().write_trial(record, trial)

    writer = Once()
    tracker = told(writer, history, say=said.append)
    deadline = time.monotonic() + 60.0
    while first not in writer.written and time.monotonic() < deadline:
        time.sleep(0.01)
    assert tracker.drain(30.0)
    assert (writer.tries, said) == (1, [])
