"""What a person finds in MLflow: names, descriptions, data sets, and where a run comes from."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.tracking.descriptions import LONGEST, experiment_text, sources, study_text
from orchestrator.tracking.tracker import make_writer
from tests.orchestrator.simulation import Simulator, study

SPEC = study(arms=dict(list(study().arms.items())[:1]), question="Which one?")
SPEC = dataclasses.replace(SPEC, search=dataclasses.replace(SPEC.search, trials=1, seeds=(0,)))
SETS = {
    "train": {"kind": "train", "size": 434, "hash": "aff7ab8044c0b811", "encoding": "raw"},
    "validation": {"kind": "validation", "size": 288, "hash": "4faa910f73eec9e3", "encoding": "raw"},
    "test": {"kind": "test", "size": 361, "hash": "2fd115d7daece2b3", "encoding": "raw"},
    "noise_0.25": {"kind": "noise", "size": 1000, "hash": "de7a5447a5a9e7bb", "encoding": "synthetic"},
    "held_out": {"kind": "near", "size": 714, "hash": "7a7e153d3ddcbf39", "encoding": "raw"},
    "uniform": {"kind": "far", "size": 1000, "hash": "cb35df2b97033f2c", "encoding": "synthetic"},
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyRecord, MlflowClient]:
    """A simulated study, and the store that was told of it, in two sessions."""
    folder = tmp_path_factory.mktemp("told")
    Simulator(SPEC, folder).run()
    events = []
    for event in read_events(folder / "ledger.jsonl"):
        if event["event"] == "opened":
            facts = {
                **event["data"],
                "sets": SETS,
                "num_train": 434,
                "num_classes": 6,
                "image_shape": [1, 8, 8],
            }
            command = ["orchestrate", "study", "/some/where/a file.yaml"]
            event = {**event, "data": facts, "instance": "one", "command": command, "commit": "c0ffee"}
        events.append(event)
    record = StudyRecord.fold(events)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    for part in (events[: len(events) // 2], events):
        writer = make_writer(SPEC, folder, uri, folder.as_uri())()
        now = StudyRecord.fold(part)
        writer.open_study(now)
        for trial in now.trials.values():
            writer.write_trial(now, trial)
    writer.close(record, "FINISHED", {}, {}, "Nobody wins.")
    return record, MlflowClient(uri)


def runs(client: MlflowClient) -> dict[str, Any]:
    (experiment,) = [e for e in client.search_experiments() if e.name == SPEC.name]
    return {r.data.tags["orchestrate.role"]: r for r in client.search_runs([experiment.experiment_id])}


def test_a_trial_names_the_images_that_it_saw_and_the_search_saw_no_test(
    told: tuple[StudyRecord, MlflowClient],
) -> None:
    record, client = told
    found = runs(client)
    searched = [("train", "training"), ("validation", "validation"), ("noise_0.25", "validation noise")]
    sealed = [("test", "test"), ("held_out", "near OOD"), ("uniform", "far OOD")]
    source = SPEC.data.source
    for key, trial in record.trials.items():
        inputs = found[f"trial:{key}"].inputs.dataset_inputs
        seen = {(each.dataset.name, each.tags[0].value, each.dataset.digest) for each in inputs}
        expected = {
            (
                f"{source} {name}" if name in ("train", "validation", "test") else name,
                context,
                SETS[name]["hash"],
            )
            for name, context in searched + (sealed if trial.stage == "confirm" else [])
        }
        assert seen == expected
        assert len(inputs) == len(expected), "said once, also over two sessions"
    (train,) = [each.dataset for each in inputs if each.dataset.digest == "aff7ab8044c0b811"]
    assert json.loads(train.profile) == {"images": 434, "image_shape": [1, 8, 8], "classes": 6}
    assert json.loads(train.source) == {"encoding": "raw"}


def test_the_experiment_and_the_studys_run_say_what_this_is(told: tuple[StudyRecord, MlflowClient]) -> None:
    _, client = told
    (experiment,) = [e for e in client.search_experiments() if e.name == SPEC.name]
    assert experiment.tags["mlflow.note.content"] == experiment_text(SPEC)
    assert "**Which one?**" in experiment_text(SPEC)
    note = runs(client)["study"].data.tags["mlflow.note.content"]
    assert note.startswith("**Which one?**\n\nNobody wins.\n\nThe report is among the artifacts")
    assert "434 training images" in note
    assert "`orchestrate study '/some/where/a file.yaml'`" in note


def test_while_there_is_no_answer_the_studys_run_says_so(told: tuple[StudyRecord, MlflowClient]) -> None:
    assert "there is no answer yet" in study_text(SPEC, told[0])


def test_every_run_names_the_command_and_the_commit_it_came_from(
    told: tuple[StudyRecord, MlflowClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    record, client = told
    for run in runs(client).values():
        assert run.data.tags["mlflow.source.name"] == "orchestrate study 'a file.yaml'"
        assert run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    monkeypatch.setenv("LAB_API_KEY", "a file.yaml")
    assert sources(record.sessions[-1])["mlflow.source.name"] == "orchestrate study '***'"


def test_a_question_as_long_as_a_book_fits_into_a_tag() -> None:
    long = dataclasses.replace(SPEC, question="why " * 5000)
    assert len(experiment_text(long)) == LONGEST
