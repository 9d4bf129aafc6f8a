"""The real command with a real MLflow server that is away, dies, is slow, or must not learn a secret."""

from __future__ import annotations

import base64
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.record import Event
from orchestrator.execution import trial
from orchestrator.execution.folder import claimed
from orchestrator.execution.provenance import session_facts
from orchestrator.study.loader import load_study
from orchestrator.study.spec import TrackingSpec
from tests.orchestrator.execution.driver import Driver, reports, study_file, undisturbed_run
from tests.orchestrator.simulation import study as simulated
from tests.orchestrator.tracking.holdings import holdings
from tests.orchestrator.tracking.server import Proxy, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

DATA = """\
study: small
baseline: cross_entropy
data:
  source: digits
  id_classes: [0, 1, 2, 3, 4, 5]
  near_ood: [held_out]
  far_ood: [uniform]
model: small_cnn_8x8
training: {epochs: 12, batch_size: 64}
noise: {size: 200}
execution: {max_concurrent: 1}
"""
# Without a pruner: how many epochs a trial still reports after it was stopped is a matter of chance.
STUDY = (
    DATA
    + """\
arms:
  cross_entropy: {lr: {log_uniform: [0.02, 0.3]}}
  logitnorm: {tau: {log_uniform: [0.1, 1.0]}, lr: {log_uniform: [0.02, 0.3]}}
search: {trials: 2, seeds: [0], parallel: 1}
confirm: {seeds: [100]}
"""
)
USER, PASSWORD, SECRET = "ann", "s3cretpw+x", "key-0a1b2c3d4e5f"
LOSS = """\
import os
from workloads.losses.base import Loss


class Tells(Loss):
    def value(self, output, targets):
        uri = os.environ["MLFLOW_TRACKING_URI"]
        raise RuntimeError(f"no access with {os.environ['LAB_API_KEY']} to {uri}\\nsecond line")
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory, STUDY)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(running: Server) -> Server:
    """Up, whatever an earlier test did to it."""
    if not running.answers():
        running.kill()
        running.start()
    return running


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    between = Proxy(server.uri)
    yield between
    between.close()


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """The table of a run that nothing happened to, and what MLflow holds of it."""
    out = undisturbed_run(tmp_path_factory, study)
    return table(out), told(f"sqlite:///{out / 'mlflow.db'}", "small")


def table(out: Path) -> str:
    return (out / "small" / "report" / "table.csv").read_text()


def told(uri: str, experiment: str) -> Any:
    """What MLflow holds, but for the times that a run measured."""
    runs, models = holdings(uri, experiment)

    def exact(points: list[tuple[str, int, float]]) -> list[tuple[str, int, float]]:
        return [(name, step, 0.0 if "second" in name else value) for name, step, value in points]

    return (
        {role: dataclasses.replace(run, points=exact(run.points)) for role, run in runs.items()},
        {key: dataclasses.replace(model, points=exact(model.points)) for key, model in models.items()},
    )


def named(study: Path, experiment: str) -> Path:
    """The same study, recorded under another name."""
    path = study.with_name(f"{experiment}.yaml")
    path.write_text(f"{STUDY}tracking: {{experiment: {experiment}}}\n")
    return path


def closed(count: int) -> Callable[[list[Event]], bool]:
    return lambda events: sum(e["event"] == "closed" for e in events) == count


def test_a_server_that_is_down_at_the_start_is_said_and_nothing_runs(study: Path, tmp_path: Path) -> None:
    driver = Driver(study, tmp_path / "out", variables={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"})
    status, output = driver.finish()
    assert status == 2, output
    assert "the MLflow server at http://127.0.0.1:9 does not answer" in output
    assert "nothing was run" in output
    assert not (tmp_path / "out").exists()


@pytest.mark.faults
def test_a_server_that_dies_and_comes_back_gets_every_record_once(
    study: Path, server: Server, undisturbed: tuple[str, Any], tmp_path: Path
) -> None:
    driver = Driver(named(study, "back"), tmp_path, variables={"MLFLOW_TRACKING_URI": server.uri})
    try:
        driver.wait_for(reports(5))
        server.kill()
        driver.wait_for(reports(5, "confirm"))
        server.start()
        status, output = driver.finish()
    finally:
        driver.close()
    assert status == 0, output
    assert output.count("training goes on, and the records wait") == 1
    assert "NOT all" not in output
    assert (table(tmp_path), told(server.uri, "back")) == undisturbed


@pytest.mark.faults
def test_what_a_slow_and_then_dead_server_missed_is_delivered_by_the_same_command_again(
    study: Path, server: Server, proxy: Proxy, undisturbed: tuple[str, Any], tmp_path: Path
) -> None:
    path, environment = named(study, "missed"), {"MLFLOW_TRACKING_URI": proxy.uri}
    first = Driver(path, tmp_path, variables=environment)
    second = None
    try:
        first.wait_for(reports(5))
        proxy.waits.clear()
        first.wait_for(reports(15))
        first.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        status, output = first.finish(40)
        print(f"ended {time.monotonic() - began:.1f} s after SIGTERM")
        assert status == 130, output
        assert "NOT all was delivered" in output
        assert "run the same command again" in output
        proxy.waits.set()
        second = Driver(path, tmp_path, variables=environment)
        second.wait_for(lambda events: any(e["event"] == "selected" for e in events))
        server.kill()
        second.wait_for(closed(2))
        # The study is over; who does not want to wait for the server need not.
        second.process.send_signal(signal.SIGINT)
        status, output = second.finish(60)
        assert status == 0, output
        assert "Test results" in output
        assert f"NOT all was delivered to {proxy.uri}" in output
    finally:
        for driver in (first, second):
            if driver is not None:
                driver.close()
    server.start()
    status, output = Driver(path, tmp_path, variables=environment).finish()
    assert status == 0, output
    assert "NOT all" not in output
    assert (table(tmp_path), told(server.uri, "missed")) == undisturbed


@pytest.mark.faults
def test_no_secret_reaches_terminal_folder_or_mlflow(server: Server, proxy: Proxy, tmp_path: Path) -> None:
    proxy.login = (USER, PASSWORD)
    (tmp_path / "telling.py").write_text(LOSS)
    path = tmp_path / "study.yaml"
    path.write_text(
        f"{DATA}arms:\n  cross_entropy: {{lr: 0.1}}\n  tells: {{loss: 'telling:Tells', lr: 0.1}}\n"
        "confirm: {seeds: [100]}\ntracking: {experiment: secrets}\n"
    )
    uri = f"http://{USER}:s3cretpw%2Bx@{proxy.place}"
    environment = {"MLFLOW_TRACKING_URI": uri, "LAB_API_KEY": SECRET}
    out = tmp_path / "out"
    status, output = Driver(path, out, python_path=tmp_path, variables=environment).finish()
    assert status == 1, output
    assert "RuntimeError: no access with *** to http://***@127.0.0.1" in output
    assert f"MLflow   {proxy.uri}/#/experiments/" in output
    runs, _ = told(server.uri, "secrets")
    reasons = [
        run.tags["orchestrate.reason"] for run in runs.values() if run.status == "FAILED" and run.parent
    ]
    assert any("no access with ***" in reason for reason in reasons)
    files = {f: f.read_bytes() for f in [*out.rglob("*"), *server.folder.rglob("*")] if f.is_file()}
    assert {"error.txt", "study.yaml", "ledger.jsonl", "index.html", "server.db"} <= {f.name for f in files}
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    for secret in (SECRET, PASSWORD, "s3cretpw", basic):
        assert secret not in output
        assert [f for f, data in files.items() if secret.encode() in data] == []


def test_the_kept_study_has_no_password_and_goes_on_with_the_file_s(tmp_path: Path) -> None:
    spec = simulated(tracking=TrackingSpec(f"http://{USER}:{PASSWORD}@host:5000/base"))
    for _ in range(2):
        with claimed(spec, tmp_path / "s", fresh=False):
            (tmp_path / "s" / "ledger.jsonl").write_text("begun")
        assert load_study(tmp_path / "s" / "study.yaml").tracking.uri == "http://host:5000/base"


def test_a_command_s_secrets_are_not_kept() -> None:
    facts = session_facts(["orchestrate", "study", "a.yaml", "--address", f"ray://{USER}:{PASSWORD}@head:1"])
    assert facts["command"][-1] == "ray://***@head:1"


def test_a_secret_in_an_exception_is_hidden_before_the_reason_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_API_KEY", SECRET)
    try:
        raise RuntimeError(f"{'.' * 270} {SECRET}")
    except RuntimeError as error:
        outcome = trial._failure(error, tmp_path)
    assert outcome["reason"].endswith(". ***")
    assert SECRET[:6] not in outcome["reason"] + (tmp_path / "error.txt").read_text()
    with pytest.raises(SystemExit) as stop:
        raise SystemExit(f"no {SECRET}")
    assert SECRET not in trial._failure(stop.value, tmp_path)["reason"]
