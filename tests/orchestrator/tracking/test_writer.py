"""Written again after any failure, a store holds the same: nothing twice, nothing missing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType

from orchestrator.campaign.record import Event, StudyRecord
from orchestrator.tracking.writer import MlflowWriter
from tests.orchestrator.tracking.holdings import holdings
from tests.orchestrator.tracking.material import SUMMARIES, Session, spec_named

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("impatient")]

CALLS = (
    *("create_run", "set_tag", "update_run", "log_batch", "set_terminated", "create_logged_model"),
    *("log_model_artifacts", "log_outputs", "finalize_logged_model"),
)
"""What changes a store."""


@pytest.fixture
def record(finished: list[Event]) -> StudyRecord:
    return StudyRecord.fold(finished)


def opened(record: StudyRecord, name: str, folder: Path, store: str) -> MlflowWriter:
    return MlflowWriter(spec_named(name), folder, store, folder.as_uri())


def insist(act: Callable[[], Any]) -> None:
    """As the tracker does: again, where the store failed."""
    for _ in range(100):
        try:
            act()
        except ConnectionError:
            continue
        return
    raise AssertionError("it never went well")


def write(record: StudyRecord, writer: MlflowWriter) -> None:
    insist(lambda: writer.open_study(record))
    for trial in record.trials.values():
        insist(lambda trial=trial: writer.write_trial(record, trial))  # type: ignore[misc]


def close(record: StudyRecord, writer: MlflowWriter) -> None:
    insist(lambda: writer.close(record, "FINISHED", SUMMARIES))


@pytest.mark.parametrize("done", [True, False], ids=["answers are lost", "requests are lost"])
def test_a_store_whose_every_call_fails_one_time_in_three_holds_what_another_holds(
    done: bool,
    record: StudyRecord,
    folder: Path,
    store: str,
    undisturbed: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = {name: itertools.count(1) for name in CALLS}

    def unreliable(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            fails = next(counts[name]) % 3 == 2
            answer = whole(*args, **kwargs) if done or not fails else None
            if fails:
                raise ConnectionError("no answer")
            return answer

        return call

    experiment = f"failing {done}"
    with monkeypatch.context() as patched:
        for name in CALLS:
            patched.setattr(MlflowClient, name, unreliable(name, getattr(MlflowClient, name)))
        writer = opened(record, experiment, folder, store)
        write(record, writer)
    close(record, writer)
    assert min(next(count) for count in counts.values()) > 3, "each must have failed and been tried again"
    assert holdings(store, experiment) == undisturbed
    taken_back = MlflowClient(store).search_runs([writer.experiment_id], run_view_type=ViewType.DELETED_ONLY)
    assert taken_back == [], "what was made unheard of is found, and not made again"


def test_a_run_or_model_that_came_into_being_after_all_is_taken_back(
    record: StudyRecord, folder: Path, store: str, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst case: made after it was looked for, because the server was slow, and then made again."""
    hidden = True

    def fails_once(name: str) -> None:
        whole, asked = getattr(MlflowClient, name), set[str]()

        def failing(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
            made = whole(self, *args, **kwargs)
            what = str(kwargs.get("run_name") or kwargs.get("source_run_id"))
            if what not in asked:
                asked.add(what)
                raise ConnectionError("no answer")
            return made

        monkeypatch.setattr(MlflowClient, name, failing)

    def hides(name: str) -> None:
        whole = getattr(MlflowClient, name)

        def hiding(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
            return whole(self, ["0"] if hidden else args[0], *args[1:], **kwargs)

        monkeypatch.setattr(MlflowClient, name, hiding)

    for made, searched in (("create_run", "search_runs"), ("create_logged_model", "search_logged_models")):
        fails_once(made)
        hides(searched)
    writer = opened(record, "late birth", folder, store)
    write(record, writer)
    hidden = False
    with pytest.raises(AssertionError, match="twice"):
        holdings(store, "late birth")
    close(record, writer)
    assert holdings(store, "late birth") == undisturbed


def test_a_session_that_was_killed_leaves_doubles_that_the_next_one_takes_back(
    record: StudyRecord, folder: Path, store: str, undisturbed: Any
) -> None:
    writer = opened(record, "doubles", folder, store)
    write(record, writer)
    client = MlflowClient(store)
    for run in client.search_runs([writer.experiment_id]):
        tags = {
            k: v for k, v in run.data.tags.items() if k not in ("orchestrate.state", "mlflow.note.content")
        }
        client.create_run(writer.experiment_id, start_time=run.info.start_time, tags=tags)
    again = opened(record, "doubles", folder, store)
    write(record, again)
    close(record, again)
    assert holdings(store, "doubles") == undisturbed


def test_an_interrupted_trial_that_ended_unheard_of_is_shown_as_it_ended(
    record: StudyRecord, folder: Path, store: str, undisturbed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run is KILLED from the interruption, has its state, and lacks the status: that is no end."""
    trial = next(t for t in record.trials.values() if t.state == "complete")
    writer = opened(record, "half ended", folder, store)
    write(record, writer)
    run_id = writer.run_ids()[f"trial:{trial.key}"]
    MlflowClient(store).set_terminated(run_id, "KILLED")
    again = opened(record, "half ended", folder, store)
    write(record, again)
    close(record, again)
    assert holdings(store, "half ended") == undisturbed


def test_a_finished_study_that_is_run_again_adds_nothing(
    finished: list[Event], folder: Path, store: str, undisturbed: Any
) -> None:
    for moment in (30.0, 40.0):
        events = [*finished[:-1], {**finished[-1], "t": moment}]
        session = Session(store, "run again", folder, events)
        session.events()
        assert session.end(), session.tracker.trouble
    assert holdings(store, "run again") == undisturbed


def test_a_trial_that_is_done_again_because_its_files_were_damaged_stands_there_once(
    finished: list[Event], folder: Path, store: str, undisturbed: Any
) -> None:
    confirm = next(e for e in finished if e["event"] == "started" and e["stage"] == "confirm")
    end = next(e for e in finished if e["event"] == "finished" and e["key"] == confirm["key"])
    session = Session(store, "reopened", folder, finished)
    session.events()
    assert session.end(), session.tracker.trouble
    reopened = {"event": "reopened", "t": 20.0, "key": end["key"], "reason": "its checkpoint was damaged"}
    events = [*finished, reopened, {**confirm, "t": 21.0, "attempt": 2}]
    for more, status in (([], "KILLED"), ([{**end, "t": 22.0}], "FINISHED")):
        again = Session(store, "reopened", folder, [*events, *more])
        again.events()
        assert again.end(), again.tracker.trouble
        assert holdings(store, "reopened")[0][f"trial:{end['key']}"].status == status
    assert holdings(store, "reopened") == undisturbed


def test_a_trial_that_is_done_again_and_measures_otherwise_shows_what_it_measured_last(
    finished: list[Event], folder: Path, store: str
) -> None:
    confirm = next(e for e in finished if e["event"] == "started" and e["stage"] == "confirm")
    end = next(e for e in finished if e["event"] == "finished" and e["key"] == confirm["key"])
    reopened = {"event": "reopened", "t": 20.0, "key": end["key"], "reason": "its checkpoint was damaged"}
    other = {**end, "t": 22.0, "metrics": {**end["metrics"], "validation/accuracy": 0.25}}
    for more in ([], [reopened, {**confirm, "t": 21.0, "attempt": 2}, other]):
        session = Session(store, "otherwise", folder, [*finished, *more])
        session.events()
        assert session.end(), session.tracker.trouble
    found = MlflowClient(store).search_runs(
        [MlflowClient(store).get_experiment_by_name("otherwise").experiment_id],
        f"tags.`orchestrate.key` = '{end['key']}'",
    )
    assert [run.data.metrics["validation/accuracy"] for run in found] == [0.25]
    assert [run.info.end_time for run in found] == [22000]


def test_a_session_that_begins_again_sends_nothing_of_trials_that_have_ended(
    record: StudyRecord, folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(record, opened(record, "resumed", folder, store))
    again = opened(record, "resumed", folder, store)
    again.open_study(record)

    def forbidden(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("all of it is there")

    for name in ("create_run", "log_batch", "set_terminated", "search_runs", "get_metric_history"):
        monkeypatch.setattr(MlflowClient, name, forbidden)
    for trial in record.trials.values():
        again.write_trial(record, trial)


def test_what_the_last_epoch_reported_and_the_model_keeps_is_one_point(
    record: StudyRecord, store: str, undisturbed: Any
) -> None:
    """Also where the clock went on between the two."""
    runs, models = undisturbed
    for key, model in models.items():
        trial = record.trials[key]
        last = [point for point in runs[f"trial:{key}"].points if point[1] == 6]
        assert last == model.points == sorted((name, 6, value) for name, value in trial.metrics.items())


def test_a_run_that_is_made_sessions_later_says_what_its_trial_was_made_with(
    finished: list[Event], folder: Path, store: str
) -> None:
    ended = next(e for e in finished if e["event"] == "finished" and e["state"] == "complete")
    made = {**ended, "environment": {"device": "a GPU", "torch": "2.15.0+cu130"}}
    again = {**finished[0], "t": finished[-1]["t"], "commit": "fedc", "command": ["orchestrate", "later"]}
    record = StudyRecord.fold([made if e is ended else e for e in [*finished, again]])
    writer = opened(record, "later", folder, store)
    write(record, writer)
    client = MlflowClient(store)
    found = {
        run.data.tags["orchestrate.role"]: run.data.tags
        for run in client.search_runs([writer.experiment_id], max_results=1000)
    }
    tags = found[f"trial:{ended['key']}"]
    assert tags["orchestrate.commit"] == finished[0]["commit"] != "fedc"
    assert tags.get("mlflow.source.git.commit", "") == finished[0]["commit"]
    assert (tags["orchestrate.device"], tags["orchestrate.torch"]) == ("a GPU", "2.15.0+cu130")
    assert found["study"]["orchestrate.commit"] == "fedc", "that is about the session"
