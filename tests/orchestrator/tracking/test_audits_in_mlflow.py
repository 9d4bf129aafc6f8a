"""Audit trials in MLflow: below a run of their own, with final metrics, and no part of an arm's results."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.campaign.standing import audits_planned
from orchestrator.study.spec import AuditSpec, ProxySpec, StudySpec, TrackingSpec
from orchestrator.tracking.writer import MlflowWriter
from tests.orchestrator.simulation import Metrics, Simulator, landscape, study
from tests.orchestrator.tracking.holdings import Run, holdings
from workloads.contract import TrialConfig

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("impatient")]

ARMS = dict(list(study().arms.items())[1:2])
SPEC = study(
    arms=ARMS,
    baseline="logitnorm",
    audit=AuditSpec(1, ProxySpec(2)),
    tracking=TrackingSpec(experiment="audited"),
)
SPEC = dataclasses.replace(SPEC, search=dataclasses.replace(SPEC.search, trials=6, seeds=(0, 1)))
FOUND = {"logitnorm": {"audit/pruned/regret": 0.02, "audit/proxy/far/tau": 0.4}}
REAL = "ood/far/msp/fpr95_id_positive"


def measured(config: TrialConfig, epoch: int) -> Metrics:
    real = {REAL: 0.25} if config.stage != "search" and epoch == config.training.epochs else {}
    return {**landscape(config, epoch), **real}


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    folder = tmp_path_factory.mktemp("audited")
    Simulator(SPEC, folder, metrics=measured).run()
    events: list[dict[str, Any]] = [dict(event) for event in read_events(folder / "ledger.jsonl")]
    for event in events:
        if event["event"] == "opened":
            event["instance"] = "audits"
        elif event["event"] == "finished":
            # As in a real trial: what is measured after the last epoch is no part of its report.
            event["t"] += 0.25
        elif event["event"] == "reported":
            event["metrics"] = {k: v for k, v in event["metrics"].items() if k != REAL}
    return StudyRecord.fold([*events, {"event": "closed", "t": 9.0, "reason": "done"}])


def delivered(record: StudyRecord, folder: Path, store: str, times: int, spec: StudySpec = SPEC) -> Any:
    """What the store holds after so many sessions that each write everything."""
    for arm in record.arms.values():
        for trial in arm.confirm_trials:
            (folder / "trials" / trial.key).mkdir(parents=True, exist_ok=True)
            (folder / "trials" / trial.key / "result.json").write_text("{}")
    for _ in range(times):
        writer = MlflowWriter(spec, folder, store, folder.as_uri())
        writer.open_study(record)
        for trial in record.trials.values():
            writer.write_trial(record, trial)
        writer.close(record, "FINISHED", {"logitnorm": {"test/accuracy": 0.9}}, FOUND)
    return holdings(store, spec.tracking.experiment or "")


def test_audits_have_a_run_of_their_own_and_are_not_among_the_arm_s_results(
    record: StudyRecord, tmp_path: Path, store: str
) -> None:
    runs, models = delivered(record, tmp_path, store, 1)
    arm = record.arms["logitnorm"]
    planned = audits_planned(SPEC, arm)
    assert planned == len(arm.audit_trials) >= 4
    audit: Run = runs["audit:logitnorm"]
    assert (audit.parent, audit.status) == ("arm:logitnorm", "FINISHED")
    assert {(name, value) for name, _, value in audit.points} == set(FOUND["logitnorm"].items())
    assert "Nothing that was chosen rests on them" in audit.tags["mlflow.note.content"]
    assert {name for name, _, _ in runs["arm:logitnorm"].points} == {"test/accuracy"}
    below = [run for run in runs.values() if run.parent == "audit:logitnorm"]
    assert len(below) == planned
    for trial in arm.audit_trials:
        run = runs[f"trial:{trial.key}"]
        assert run.parent == "audit:logitnorm"
        assert run.tags["orchestrate.stage"] == "audit"
        assert run.tags["orchestrate.audit"] in ("pruned", "proxy", "pruned proxy")
        assert run.status == "FINISHED"
        assert [(n, v) for n, _, v in run.points if n == REAL] == [(REAL, 0.25)]
        assert sum(name == "noise/fpr95" for name, _, _ in run.points) == SPEC.training.epochs
        assert run.models == 0
    assert set(models) == {trial.key for trial in arm.confirm_trials}
    assert {run.parent for role, run in runs.items() if run.tags.get("orchestrate.stage") == "search"} == {
        "arm:logitnorm"
    }


def test_written_again_in_another_session_nothing_is_there_twice(
    record: StudyRecord, tmp_path: Path, store: str
) -> None:
    spec = dataclasses.replace(SPEC, tracking=TrackingSpec(experiment="audited again"))
    once = delivered(record, tmp_path / "a", store, 1, spec)
    assert delivered(record, tmp_path / "a", store, 2, spec) == once


def test_a_session_that_died_before_the_final_metrics_is_made_good(
    record: StudyRecord, tmp_path: Path, store: str
) -> None:
    spec = dataclasses.replace(SPEC, tracking=TrackingSpec(experiment="audited late"))
    trial = record.arms["logitnorm"].audit_trials[0]
    writer = MlflowWriter(spec, tmp_path, store, tmp_path.as_uri())
    writer.open_study(record)
    running = dataclasses.replace(trial, state="running", ended=None, metrics={})
    writer.write_trial(record, running)
    runs, _ = delivered(record, tmp_path, store, 1, spec)
    points = runs[f"trial:{trial.key}"].points
    assert [value for name, _, value in points if name == REAL] == [0.25]
    assert sum(name == "noise/fpr95" for name, _, _ in points) == SPEC.training.epochs
