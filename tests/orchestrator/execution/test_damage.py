"""Damaged files of a real study: what is made again, what is kept, and that the tables stay the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.campaign.record import TrialRecord
from tests.orchestrator.execution.driver import COMMAND, Driver, reports, study_file, undisturbed_run
from tests.orchestrator.execution.test_study_run import assert_same_study, record_of, runs, tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LEDGER, COPY = "ledger.jsonl", "ledger.copy.jsonl"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory)


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory, study, 300.0)


@pytest.fixture
def out(undisturbed: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    shutil.copytree(undisturbed, tmp_path / "out")
    return tmp_path / "out"


def flip(path: Path, share: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(share * len(content))] ^= 4
    path.write_bytes(content)


def folder_of(out: Path, trial: TrialRecord) -> Path:
    return out / "small" / "trials" / trial.key


def confirmed(out: Path) -> list[TrialRecord]:
    """The four confirm trials."""
    return [trial for arm in record_of(out).arms.values() for trial in arm.confirm_trials]


def written(out: Path, name: str) -> dict[str, int]:
    """When each confirm trial's file was written."""
    return {trial.key: (folder_of(out, trial) / name).stat().st_mtime_ns for trial in confirmed(out)}


def points(out: Path) -> dict[str, list[tuple[int, float]]]:
    """Every point of every curve of the trials in MLflow: step and value."""
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    found = {}
    for run in runs(out):
        if "orchestrate.key" in run.data.tags:
            for metric in ("noise/fpr95", "test/accuracy"):
                history = client.get_metric_history(run.info.run_id, metric)
                found[f"{run.data.tags['orchestrate.key']} {metric}"] = [(m.step, m.value) for m in history]
    return found


def models(out: Path) -> int:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    return len(client.search_logged_models([client.get_experiment_by_name("small").experiment_id]))


def again(study: Path, out: Path) -> str:
    """Run the command, once more where it has run; what it prints."""
    driver = Driver(study, out)
    try:
        status, output = driver.finish(300.0)
    finally:
        driver.close()
    assert status == 0, output
    return output


def assert_nothing_doubled(out: Path, undisturbed: Path) -> None:
    assert_same_study(out, undisturbed)
    found, wanted = points(out), points(undisturbed)
    assert found.keys() == wanted.keys()
    trials = record_of(out).trials
    for name, curve in found.items():
        assert len({step for step, _ in curve}) == len(curve), f"{name}: a point is there twice"
        # How many epochs a trial still reports after it was stopped is a matter of chance.
        if trials[name.split()[0]].state == "complete":
            assert curve == wanted[name]
    assert models(out) == models(undisturbed) == 4


@pytest.mark.faults
def test_damaged_results_and_outputs_are_made_again_without_training(
    study: Path, out: Path, undisturbed: Path
) -> None:
    trials = confirmed(out)
    folders = [folder_of(out, trial) for trial in trials]
    flip(folders[0] / "outputs" / "uniform.npz")
    flip(folders[1] / "result.json")
    flip(folders[2] / "outputs" / "index.json")
    flip(folders[3] / "outputs" / "reliability.json")
    flip(folders[3] / "checkpoint.pt")
    before = written(out, "checkpoint.pt")
    output = again(study, out)
    for trial, said in zip(
        trials,
        (
            "outputs/uniform.npz does not hold what was written (its SHA-256 differs); measured again",
            "result.json does not hold what was written",
            "outputs/index.json does not hold what was written",
            "trained again, as checkpoint.pt does not hold what was written",
        ),
        strict=True,
    ):
        assert re.search(f"{trial.arm} confirm seed {trial.seed}: .*{re.escape(said)}", output), output
    assert_nothing_doubled(out, undisturbed)
    after = written(out, "checkpoint.pt")
    assert {key for key in after if after[key] != before[key]} == {trials[3].key}
    record = record_of(out)
    assert all(t.attempts == (2 if t.stage == "confirm" else 1) for t in record.trials.values())
    for trial in trials:
        assert record.trials[trial.key].metrics == trial.metrics
        own, other = (folder_of(each, trial) / "outputs" for each in (out, undisturbed))
        assert {f.name: f.read_bytes() for f in own.iterdir()} == {
            f.name: f.read_bytes() for f in other.iterdir()
        }
    assert "again" not in again(study, out), "a second run finds everything whole"


def test_a_damaged_ledger_line_and_a_damaged_model_cost_nothing_and_are_told(
    study: Path, out: Path, undisturbed: Path
) -> None:
    ledger = out / "small" / LEDGER
    whole, trial = ledger.read_bytes(), confirmed(out)[1]
    flip(ledger)
    flip(folder_of(out, trial) / "checkpoint.pt")
    damaged = ledger.read_bytes()
    done = subprocess.run(
        [COMMAND, "status", "small", "--out", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"line \d+ was damaged .* and was read from ledger\.copy\.jsonl", done.stderr)
    assert ledger.read_bytes() == damaged, "a reader changes nothing"
    before = written(out, "result.json")
    output = again(study, out)
    assert re.search(r"line \d+ was damaged .* and was restored from ledger\.copy\.jsonl", output)
    assert f"{trial.arm} confirm seed {trial.seed}: checkpoint.pt does not hold what was written" in output
    assert "Ray is up" not in output, "nothing is to be done"
    assert ledger.read_bytes().startswith(whole)
    assert len(list(ledger.parent.glob("ledger.damaged-*.jsonl"))) == 1
    assert written(out, "result.json") == before
    assert_nothing_doubled(out, undisturbed)


@pytest.mark.faults
def test_a_ledger_whose_second_half_is_lost_is_worked_out_again_without_training(
    study: Path, out: Path, undisturbed: Path
) -> None:
    for name in (LEDGER, COPY):
        flip(out / "small" / name, 0.4)
    before = written(undisturbed, "result.json"), written(undisturbed, "checkpoint.pt")
    output = again(study, out)
    assert re.search(r"line \d+ is damaged here and in ledger\.copy\.jsonl; from there on \d+ lines", output)
    assert_nothing_doubled(out, undisturbed)
    assert (written(out, "result.json"), written(out, "checkpoint.pt")) == before
    assert {t.key: t.metrics for t in confirmed(out)} == {t.key: t.metrics for t in confirmed(undisturbed)}


@pytest.mark.faults
def test_without_ledger_and_without_a_trials_folder_a_killed_study_goes_on_to_the_same_table(
    study: Path, tmp_path: Path, undisturbed: Path
) -> None:
    out = tmp_path / "out"
    driver = Driver(study, out)
    try:
        driver.wait_for(reports(28, "confirm"), seconds=300.0)
        driver.kill_everything()
    finally:
        driver.close()
    record = record_of(out)
    confirms = [t for t in record.trials.values() if t.stage == "confirm"]
    running = [t for t in confirms if t.ended is None and (folder_of(out, t) / "checkpoint.pt").exists()]
    over = [t for t in confirms if t.ended is not None]
    assert running
    flip(folder_of(out, running[0]) / "checkpoint.pt")
    shutil.rmtree(folder_of(out, over[-1]))
    for name in (LEDGER, COPY):
        (out / "small" / name).unlink()
    kept = {t.key: (folder_of(out, t) / "result.json").stat().st_mtime_ns for t in over[:-1]}
    output = again(study, out)
    assert "ledger.jsonl and its copy are gone, and trials/ is not" in output
    assert_same_study(out, undisturbed)
    assert tables(out) == tables(undisturbed)
    assert {key: written(out, "result.json")[key] for key in kept} == kept
    assert points(out).keys() == points(undisturbed).keys()
    assert models(out) == 4
