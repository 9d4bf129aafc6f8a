"""The real command over a study of several regimes, and what is left of it where a stream is interrupted."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.record import ArmRecord, Event, StudyRecord
from orchestrator.errors import UserError
from orchestrator.execution.rescoring import Rescoring, rescore
from orchestrator.study.loader import parse_study
from orchestrator.study.metric_names import metric_names
from orchestrator.study.regimes import regimes, split_name
from tests.orchestrator.execution.driver import COMMAND, Driver
from tests.orchestrator.simulation import decisions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

# The stream stands first, so that it can be interrupted early.
STUDY = """\
study: small
data: {source: digits, id_classes: [0, 1, 2, 3, 4, 5], near_ood: [held_out], far_ood: [uniform]}
model: small_cnn_8x8
training: {epochs: 2, batch_size: 64}
noise: {size: 100}
arms:
  cross_entropy: {lr: 0.1}
  ldam: {lr: 0.1}
protocols:
  continual: {strategies: [naive, replay], tasks: 2, buffer: 50, training: {epochs: 12, checkpoint_every: 2}}
  standard:
  long_tailed: {methods: [plain, drw], factor: 10, drw_from: 0.5}
confirm: {seeds: [100, 101]}
report:
  primary: [test/accuracy, imbalance/balanced_accuracy, "continual/replay:continual/class_il/forgetting"]
"""
SPEC = parse_study(STUDY, "small.yaml")
REASON = "the loss re-weights classes by itself (drw)"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.yaml"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output folder of a run that nothing happened to, and what the run printed."""
    out = tmp_path_factory.mktemp("undisturbed")
    status, output = Driver(study, out).finish()
    assert status == 0, output
    return out, output


def record_of(out: Path) -> StudyRecord:
    return StudyRecord.fold(read_events(out / "small" / "ledger.jsonl"))


def runs_by_role(out: Path) -> dict[str, Run]:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return {run.data.tags["orchestrate.role"]: run for run in found}


def test_every_arm_is_confirmed_in_every_regime_that_its_loss_fits(undisturbed: tuple[Path, str]) -> None:
    out, output = undisturbed
    record = record_of(out)
    for name, arm in record.arms.items():
        left_out = {"long_tailed/drw"} if name == "ldam" else set()
        assert set(arm.confirms) == set(regimes(SPEC)) - left_out
        assert set(arm.skipped) == left_out
        assert all(set(trials) == {100, 101} for trials in arm.confirms.values())
    assert {t.state for t in record.trials.values()} == {"complete"}
    assert {t.attempts for t in record.trials.values()} == {1}
    assert record.arms["ldam"].skipped["long_tailed/drw"].startswith(REASON)
    assert f"ldam: not trained in long_tailed/drw: {REASON}" in output
    assert "cross_entropy confirm continual/replay seed 101 complete" in output


def test_every_name_that_a_report_may_rest_on_was_measured(undisturbed: tuple[Path, str]) -> None:
    record = record_of(undisturbed[0])
    for full in metric_names(SPEC):
        regime, name = split_name(full, SPEC)
        for arm in record.arms.values():
            for trial in arm.confirms.get(regime, {}).values():
                assert name in trial.metrics, f"{full} of {arm.name}"


def test_a_long_tail_is_one_and_a_stream_forgets(undisturbed: tuple[Path, str]) -> None:
    confirms = record_of(undisturbed[0]).arms["cross_entropy"].confirms
    for seed in (100, 101):
        stream = confirms["continual/naive"][seed]
        assert stream.metrics["continual/class_il/forgetting"] > 0.5, "nothing holds the first classes"
        assert max(stream.reports) == 24, "epochs count over both tasks"
        assert "imbalance/g_mean" not in confirms["standard"][seed].metrics
        tails = [confirms[f"long_tailed/{m}"][seed].metrics for m in ("plain", "drw")]
        assert tails[0]["calibration/nll"] != tails[1]["calibration/nll"], "the second epoch is weighted"
        images = [confirms[r][seed].metrics for r in ("standard", "long_tailed/plain")]
        assert images[1]["train/forward_passes"] < 0.6 * images[0]["train/forward_passes"]


def test_mlflow_names_the_regime_of_every_trial_and_holds_its_metrics(undisturbed: tuple[Path, str]) -> None:
    out, _ = undisturbed
    record, runs = record_of(out), runs_by_role(out)
    for trial in record.trials.values():
        run = runs[f"trial:{trial.key}"]
        assert run.info.status == "FINISHED"
        assert run.data.tags["orchestrate.regime"] == trial.regime
        assert run.data.tags["orchestrate.protocol"] == trial.regime.split("/")[0]
        place = "confirm" if trial.regime == "standard" else f"confirm {trial.regime}"
        assert run.info.run_name == f"{trial.arm} {place} #0 seed {trial.seed}"
        own = {
            "standard": "test/accuracy",
            "long_tailed": "imbalance/balanced_accuracy",
            "continual": "continual/class_il/forgetting",
        }[trial.protocol]
        assert run.data.metrics[own] == trial.metrics[own]
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    models = client.search_logged_models([runs["study"].info.experiment_id], max_results=50)
    named = {(m.name, m.tags["orchestrate.key"]) for m in models}
    expected = set()
    for trial in record.trials.values():
        place = "" if trial.regime == "standard" else f"{trial.regime.replace('/', '-')}-"
        expected.add((f"small-{trial.arm}-{place}seed{trial.seed}", trial.key))
    assert named == expected


def test_an_arms_run_names_the_regimes_of_its_means_and_what_was_left_out(
    undisturbed: tuple[Path, str],
) -> None:
    out, _ = undisturbed
    record, runs = record_of(out), runs_by_role(out)
    for name, arm in record.arms.items():
        shown = runs[f"arm:{name}"].data.metrics

        def mean(regime: str, metric: str, arm: ArmRecord = arm) -> object:
            one, two = (t.metrics[metric] for t in arm.confirms[regime].values())
            return pytest.approx((one + two) / 2, rel=1e-12)

        assert shown["test/accuracy"] == mean("standard", "test/accuracy")
        assert shown["long_tailed/plain/test/accuracy"] == mean("long_tailed/plain", "test/accuracy")
        balanced = "imbalance/balanced_accuracy"
        assert shown[balanced] == mean("long_tailed/plain", balanced)
        assert f"std/{balanced}" in shown
        forgetting = "continual/class_il/forgetting"
        assert shown[forgetting] == mean("continual/naive", forgetting)
        assert shown[f"continual/replay/{forgetting}"] == mean("continual/replay", forgetting)
        assert (f"long_tailed/drw/{balanced}" in shown) == (name == "cross_entropy")
    notes = {n: runs[f"arm:{n}"].data.tags["mlflow.note.content"] for n in record.arms}
    assert "8 of 8 confirm trials are complete" in notes["ldam"]
    assert f"Not trained in long_tailed/drw: {REASON}" in notes["ldam"]
    assert "10 of 10 confirm trials are complete" in notes["cross_entropy"]
    assert "Not trained" not in notes["cross_entropy"]


@pytest.mark.faults
def test_the_same_command_again_trains_nothing(study: Path, undisturbed: tuple[Path, str]) -> None:
    out, _ = undisturbed
    before = decisions(record_of(out))
    status, output = Driver(study, out).finish()
    assert status == 0, output
    after = record_of(out)
    assert decisions(after) == before
    assert {t.attempts for t in after.trials.values()} == {1}
    assert [session["cluster"][:4] for session in after.sessions][1:] == ["none"]


def within_the_second_task(events: list[Event]) -> bool:
    """A trial of the stream has reported an epoch of its second task, and has not ended."""
    streams = {e["key"] for e in events if e["event"] == "started" and e["protocol"] == "continual"}
    ended = {e["key"] for e in events if e["event"] == "finished"}
    epochs = {e["key"]: e["epoch"] for e in events if e["event"] == "reported"}
    return any(12 < epochs.get(key, 0) < 22 for key in streams - ended)


@pytest.mark.faults
def test_a_driver_killed_inside_a_stream_goes_on_to_the_same_results(
    study: Path, undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    driver = Driver(study, tmp_path)
    try:
        driver.wait_for(within_the_second_task)
        driver.kill_everything()
    finally:
        driver.close()
    cut = [t for t in record_of(tmp_path).trials.values() if t.state == "running"]
    assert any(max(t.reports, default=0) > 12 for t in cut), "in its second task"
    status, output = Driver(study, tmp_path).finish()
    assert status == 0, output
    assert decisions(record_of(tmp_path)) == decisions(record_of(undisturbed[0]))
    again = record_of(tmp_path).trials
    assert {again[t.key].attempts for t in cut} == {2}
    assert {r: run.info.status for r, run in runs_by_role(tmp_path).items()} == {
        r: run.info.status for r, run in runs_by_role(undisturbed[0]).items()
    }


def test_new_scores_are_added_where_outputs_were_kept_and_streams_are_left(
    undisturbed: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    before = record_of(out).trials
    done = subprocess.run(
        [COMMAND, "rescore", "small", "--out", out, "--score", "energy:T=0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "to 10 confirm trials" in done.stdout
    assert "  ldam confirm long_tailed/plain seed 100: " in done.stdout
    for key, trial in record_of(out).trials.items():
        fresh = set(trial.metrics) - set(before[key].metrics)
        assert ("ood/near/energy-T0.1/auroc" in fresh) == (trial.protocol != "continual"), trial.regime
        assert bool(fresh) == (trial.protocol != "continual")
        assert {name: trial.metrics[name] for name in before[key].metrics} == before[key].metrics


def test_a_study_of_streams_alone_cannot_be_rescored(undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    out = tmp_path / "small"
    out.mkdir()
    streams = {"continual": SPEC.protocols["continual"]}
    spec = dataclasses.replace(SPEC, protocols=streams)
    record = record_of(undisturbed[0])
    others = {key for key, trial in record.trials.items() if trial.protocol != "continual"}
    ledger = Ledger(out / "ledger.jsonl")
    for event in read_events(undisturbed[0] / "small" / "ledger.jsonl"):
        if event.get("key") not in others:
            ledger.append(event, durable=False)
    ledger.close()
    kept = ledger.path.read_bytes()
    said: list[str] = []
    with pytest.raises(UserError, match="its continual trials keep no outputs; there is nothing to rescore"):
        rescore(Rescoring(spec, out, tmp_path, ("msp",), {}, said.append))
    assert said == []
    assert ledger.path.read_bytes() == kept
