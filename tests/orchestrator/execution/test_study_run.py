"""The real command on real data: kills, stops and failures, each compared with an undisturbed run."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.cli import main
from tests.orchestrator.execution.driver import COMMAND, Driver, reports, study_file, undisturbed_run
from tests.orchestrator.simulation import decisions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

TABLES = ("table.csv", "comparison.csv", "per_set.csv")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory)


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory, study)


@pytest.fixture
def drivers(study: Path, tmp_path: Path) -> Iterator[Callable[[], Driver]]:
    """Starts the study, or goes on with it; what is left of every run is killed at the end."""
    running: list[Driver] = []

    def start() -> Driver:
        running.append(Driver(study, tmp_path))
        return running[-1]

    yield start
    for driver in running:
        driver.close()


def record_of(out: Path) -> StudyRecord:
    return StudyRecord.fold(read_events(out / "small" / "ledger.jsonl"))


def tables(out: Path) -> dict[str, str]:
    return {name: (out / "small" / "report" / name).read_text() for name in TABLES}


def runs(out: Path, study: str = "small") -> list[Any]:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study)
    return list(client.search_runs([experiment.experiment_id], max_results=1000))


def ended_attempts(out: Path) -> dict[str, int]:
    """How often each trial that is over was started."""
    record = record_of(out)
    return {key: trial.attempts for key, trial in record.trials.items() if trial.ended is not None}


def assert_same_study(out: Path, undisturbed: Path) -> None:
    assert decisions(record_of(out)) == decisions(record_of(undisturbed))
    assert tables(out) == tables(undisturbed)
    found = runs(out)
    roles = Counter(r.data.tags["orchestrate.role"] for r in found)
    assert max(roles.values()) == 1, "MLflow holds a run twice"
    assert set(roles) == {r.data.tags["orchestrate.role"] for r in runs(undisturbed)}
    statuses = {r.data.tags["orchestrate.role"]: r.info.status for r in found}
    assert statuses == {r.data.tags["orchestrate.role"]: r.info.status for r in runs(undisturbed)}
    assert "RUNNING" not in statuses.values()


def test_a_study_ends_with_every_result_where_it_belongs(undisturbed: Path) -> None:
    record = record_of(undisturbed)
    assert {len(a.confirm_trials) for a in record.arms.values()} == {2}
    by_key = {r.data.tags.get("orchestrate.key"): r for r in runs(undisturbed)}
    for key, trial in record.trials.items():
        run = by_key[key]
        assert run.info.status == {"complete": "FINISHED", "pruned": "KILLED"}[trial.state]
        assert run.data.tags["orchestrate.stage"] == trial.stage
        assert run.data.tags["orchestrate.data_hash"] == record.sessions[0]["data"]["hash"]
        assert {k: float(v) for k, v in run.data.params.items() if k in trial.params} == trial.params
        last = trial.reports[max(trial.reports)]
        assert run.data.metrics["noise/fpr95"] == last["noise/fpr95"]
        assert set(trial.environment) == ({"device", "torch"} if trial.state == "complete" else set())
        for name, value in trial.environment.items():
            assert run.data.tags[f"orchestrate.{name}"] == value
        if trial.stage == "confirm":
            assert run.data.metrics["test/accuracy"] == trial.metrics["test/accuracy"]


def test_mlflow_holds_the_curves_and_the_confirmed_models_with_their_metrics(undisturbed: Path) -> None:
    client = MlflowClient(f"sqlite:///{undisturbed / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    record = record_of(undisturbed)
    models = client.search_logged_models([experiment.experiment_id])
    confirms = {t.key: t for a in record.arms.values() for t in a.confirm_trials}
    assert {m.tags["orchestrate.key"] for m in models} == set(confirms)
    for model in models:
        trial = confirms[model.tags["orchestrate.key"]]
        found = {m.key: m.value for m in model.metrics or []}
        assert found["ood/near/msp/fpr95_id_positive"] == trial.metrics["ood/near/msp/fpr95_id_positive"]
        assert model.status == "READY"
        assert client.list_logged_model_artifacts(model.model_id)
        curve = client.get_metric_history(model.source_run_id, "noise/fpr95")
        assert {m.step: m.value for m in curve} == {
            epoch: metrics["noise/fpr95"] for epoch, metrics in trial.reports.items()
        }
    study_run = next(r for r in runs(undisturbed) if r.data.tags["orchestrate.role"] == "study")
    names = {f.path for f in client.list_artifacts(study_run.info.run_id, "report")}
    assert {"report/index.html", "report/table.csv", "report/report.md"} <= names


def test_optunas_journal_holds_every_configuration_as_it_ended(undisturbed: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(undisturbed / "small" / "optuna.journal")))
    for name, arm in record_of(undisturbed).arms.items():
        trials = optuna.load_study(study_name=f"small/{name}", storage=storage).trials
        assert [t.params for t in trials] == [c.params for c in arm.configurations]
        assert [(t.state.name, t.value) for t in trials] == [
            (c.state.upper(), c.value) for c in arm.configurations
        ]


def test_the_report_made_again_is_the_same_to_the_byte(undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed / "small", tmp_path / "small")
    folder = tmp_path / "small" / "report"
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    done = subprocess.run(
        [COMMAND, "report", "small", "--out", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before


def test_the_same_command_again_trains_nothing_and_prints_the_same_table(
    study: Path, undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    status, output = Driver(study, out).finish()
    assert status == 0, output
    assert "Test results" in output
    assert (tables(out), len(runs(out))) == (tables(undisturbed), len(runs(undisturbed)))
    assert set(ended_attempts(out).values()) == {1}


def test_a_study_that_is_killed_and_stopped_in_every_way_goes_on_to_the_same_table(
    study: Path, drivers: Callable[[], Driver], undisturbed: Path
) -> None:
    first = drivers()
    first.wait_for(reports(5))
    status, output = Driver(study, first.out).finish()
    assert status == 2
    assert "another driver works on this study" in output
    assert f"process {first.process.pid}" in output
    first.kill_worker()
    first.wait_for(lambda events: any(e["event"] == "attempt_failed" for e in events))
    first.wait_for(reports(20))
    assert "attempt failed: lost" in stopped(first, study, signal.SIGINT)

    second = drivers()
    second.wait_for(reports(30))
    second.kill_driver()
    ended = ended_attempts(second.out)

    third = drivers()
    third.wait_for(reports(5, "confirm"))
    third.kill_everything()
    interrupted = [t for t in record_of(third.out).trials.values() if t.state == "running"]

    fourth = drivers()
    fourth.wait_for(reports(20, "confirm"))
    stopped(fourth, study, signal.SIGTERM)

    fifth = drivers()
    fifth.wait_for(lambda events: events[-1]["event"] == "closed")
    # The study is over; what MLflow has not got yet waits for the next run.
    fifth.process.send_signal(signal.SIGTERM)
    status, output = fifth.finish(30)
    assert status == 0, output
    assert "going on with study small" in output
    assert "Test results" in output
    assert not list(fifth.processes()), "processes were left behind"

    status, output = drivers().finish()
    assert status == 0, output
    assert_same_study(first.out, undisturbed)
    attempts = ended_attempts(first.out)
    assert {key: count for key, count in attempts.items() if key in ended} == ended
    assert all(attempts[trial.key] > trial.attempts for trial in interrupted)


def stopped(driver: Driver, study: Path, number: signal.Signals) -> str:
    """What a driver prints that is told to stop: it ends in time, in words, and leaves nothing behind."""
    driver.process.send_signal(number)
    status, output = driver.finish(30)
    assert status == 130, output
    assert f"orchestrate study {study} --out {driver.out}" in output
    assert "RUNNING" not in {r.info.status for r in runs(driver.out)}
    assert not list(driver.processes()), "processes were left behind"
    return output


def rescored(out: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [COMMAND, "rescore", "small", "--out", out, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    return done.returncode, done.stdout


def test_scores_and_sets_are_added_to_a_finished_study_without_changing_what_it_found(
    undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    before = record_of(out)
    options = ("--score", "energy:T=0.1", "--score", "msp", "--ood", "strange=gaussian")
    status, output = rescored(out, *options)
    assert status == 0, output
    after = record_of(out)
    for key, trial in before.trials.items():
        now = after.trials[key]
        assert {name: now.metrics[name] for name in trial.metrics} == trial.metrics
        fresh = set(now.metrics) - set(trial.metrics)
        if trial.stage == "confirm":
            assert {"ood/near/energy-T0.1/auroc", "ood/strange/msp/fpr95_id_positive"} <= fresh
        else:
            assert not fresh
    assert tables(out)["table.csv"] == tables(undisturbed)["table.csv"]
    assert "strange" in tables(out)["per_set.csv"]
    by_key = {r.data.tags.get("orchestrate.key"): r for r in runs(out)}
    for arm in after.arms.values():
        for trial in arm.confirm_trials:
            found = by_key[trial.key].data.metrics
            assert found["ood/strange/msp/auroc"] == trial.metrics["ood/strange/msp/auroc"]
    status, output = rescored(out, *options)
    assert status == 0, output
    assert {k: t.metrics for k, t in record_of(out).trials.items()} == {
        k: t.metrics for k, t in after.trials.items()
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--score", "enrgy"), "Did you mean 'energy'?"),
        (("--score", "energy:T=-1"), "must be > 0"),
        (("--ood", "uniform=gaussian"), "the study has a set of this name already"),
        (("--ood", "strange"), "must be NAME=PATH"),
        (("--ood", "strange=svhn"), "svhn"),
        ((), "name what to add"),
    ],
)
def test_a_rescoring_that_cannot_be_says_why_and_changes_nothing(
    undisturbed: Path, options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = undisturbed / "small" / "ledger.jsonl"
    content = ledger.read_bytes()
    assert main(["rescore", "small", "--out", str(undisturbed), *options]) != 0
    assert said in capsys.readouterr().err
    assert ledger.read_bytes() == content


def test_a_damaged_output_is_named_and_the_other_trials_are_rescored(
    undisturbed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed, out)
    broken, whole = record_of(out).arms["logitnorm"].confirm_trials
    (out / "small" / "trials" / broken.key / "outputs" / "uniform.npz").write_bytes(b"nothing")
    status, output = rescored(out, "--score", "energy:T=0.1")
    assert status != 0
    assert f"logitnorm confirm seed {broken.seed}" in output
    assert "uniform.npz does not hold what was written" in output
    metrics = record_of(out).trials
    assert "ood/near/energy-T0.1/auroc" not in metrics[broken.key].metrics
    assert "ood/near/energy-T0.1/auroc" in metrics[whole.key].metrics
