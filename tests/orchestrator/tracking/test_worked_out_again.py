"""A ledger that was lost is worked out again at other times: MLflow's curves stay as they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.tracking.tracker import make_writer
from tests.orchestrator.simulation import Simulator, study

SPEC = study(arms=dict(list(study().arms.items())[:1]))
SPEC = dataclasses.replace(SPEC, search=dataclasses.replace(SPEC.search, trials=2, seeds=(0,)))


def curves(uri: str) -> dict[str, list[Any]]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(SPEC.name)
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        for name in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, name)
            role = run.data.tags["orchestrate.role"]
            found[f"{role} {name}"] = [(m.step, m.value) for m in history]
    return found


def test_points_that_mlflow_holds_at_another_time_are_not_added_again(tmp_path: Path) -> None:
    Simulator(SPEC, tmp_path).run()
    events = [{"instance": "one", **e} for e in read_events(tmp_path / "ledger.jsonl")]
    later = [{**e, "t": e["t"] + 1000.0} for e in events]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    cut = next(n for n, e in enumerate(events) if e["event"] == "reported" and e["epoch"] == 3) + 1
    # As it was when the ledger was lost; then worked out again, first a little of it and then all.
    for told in (events[:cut], later[: cut - 2], later):
        writer = make_writer(SPEC, tmp_path, uri, tmp_path.as_uri())()
        for part in [told[: len(told) // 2], told] if told is later else [told]:
            record = StudyRecord.fold(part)
            writer.open_study(record)
            for trial in record.trials.values():
                writer.write_trial(record, trial)
        if told is not later:
            writer.close(record, "KILLED", {})
    found = curves(uri)
    trials = StudyRecord.fold(later).trials
    assert len(trials) == 2 + 3
    for key, trial in trials.items():
        expected = [(epoch, report["noise/fpr95"]) for epoch, report in sorted(trial.reports.items())]
        ends = [(max(trial.reports), trial.metrics["noise/fpr95"])] if trial.stage == "confirm" else []
        assert sorted(set(found[f"trial:{key} noise/fpr95"])) == sorted({*expected, *ends})
        if trial.stage == "search":
            assert found[f"trial:{key} noise/fpr95"] == expected


def test_a_trial_whose_later_reports_alone_were_lost_keeps_one_curve(tmp_path: Path) -> None:
    Simulator(SPEC, tmp_path).run()
    events = [{"instance": "one", **e} for e in read_events(tmp_path / "ledger.jsonl")]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    cut = next(n for n, e in enumerate(events) if e["event"] == "reported" and e["epoch"] == 3) + 1
    again = events[:cut] + [{**e, "t": e["t"] + 1000.0} for e in events[cut:]]
    halfway = next(n for n, e in enumerate(events) if e["event"] == "reported" and e["epoch"] == 6)
    # All of it at first; then what was kept, what came next with it, and all that was worked out again.
    for parts in ([events], [again[:cut], again[:halfway], again]):
        writer = make_writer(SPEC, tmp_path, uri, tmp_path.as_uri())()
        for part in parts:
            record = StudyRecord.fold(part)
            writer.open_study(record)
            for trial in record.trials.values():
                writer.write_trial(record, trial)
        if parts == [events]:
            held = curves(uri)
    assert len(held) > 2
    assert curves(uri) == held
