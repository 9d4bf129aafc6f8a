"""What a worker tells of a trial on a store, and that a trial goes on anywhere from its checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from orchestrator.execution import trial
from orchestrator.execution.storage import home as homes
from orchestrator.execution.storage.home import Stored
from orchestrator.execution.storage.prepared import send_data
from orchestrator.execution.trial import OUTCOME, data_folder, prepare, request_of, train
from orchestrator.objects import Objects, Refused
from orchestrator.study.resolve import trial_config
from tests.orchestrator.execution.storage.objects import FolderStore
from tests.orchestrator.simulation import study
from workloads import run
from workloads.contract import TrainingConfig, TrialConfig, TrialResult
from workloads.training.engine import Engine


class Worker:
    """Workers on machines that share nothing, and a store."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.folder = folder
        spec = study(training=TrainingConfig(epochs=6, checkpoint_every=2))
        facts = prepare(spec.data, spec.noise, folder / "prepared", folder)
        data = data_folder(spec.data, spec.noise, folder / "prepared", facts.hash)
        self.store = FolderStore(folder / "store")
        send_data(self.store, data)
        self.config: TrialConfig = trial_config(
            spec, "cross_entropy", {"lr": 0.1}, 100, "confirm", facts.hash
        )
        self.stored = Stored(self.store.uri, "s", data.name, "a sign that no machine has")
        monkeypatch.setenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")
        monkeypatch.setattr(homes, "PATIENCE_SECONDS", 0.0)

    def train(
        self, machine: str, report: Callable[[dict[str, Any]], None] = lambda m: None
    ) -> dict[str, Any]:
        sent = []
        self.patch.setenv("ORCHESTRATE_CACHE", str(self.folder / machine))

        def take(message: dict[str, Any]) -> None:
            sent.append(message)
            report(message)

        self.patch.setattr(tune, "report", take)
        train(
            request_of(
                self.config,
                "key",
                trials=self.folder / "driver" / "s" / "trials",
                data_root=self.folder / "driver" / "data",
                resources={"cpu": 1, "gpu": 0.0},
                store={"store": asdict(self.stored)},
            )
        )
        outcome: dict[str, Any] = json.loads(sent[-1][OUTCOME])
        return outcome

    def names(self) -> set[str]:
        return set(self.store.listed("s/trials/key"))


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(tmp_path, monkeypatch)


def test_a_trial_goes_on_elsewhere_from_its_sent_checkpoint_to_the_same_numbers(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = worker.train("undisturbed")
    assert whole["state"] == "complete"
    assert {"checkpoint.pt", "result.json", "outputs/scores.npz"} <= worker.names()
    shutil.rmtree(worker.store.folder / "s")

    epochs = 0
    real = Engine.train_epoch

    def counted(engine: Engine) -> Any:
        nonlocal epochs
        epochs += 1
        return real(engine)

    def stopping(message: dict[str, Any]) -> None:
        # The fourth epoch is reported, and its worker ends there and then.
        raise SystemExit(0)

    monkeypatch.setattr(Engine, "train_epoch", counted)
    monkeypatch.setattr(homes, "_PUSH_SECONDS", 0.0)
    monkeypatch.setattr(homes, "_PUSH_SHARE", 0)
    monkeypatch.setattr(homes.StoredHome, "reported", _at_once(homes.StoredHome.reported))
    monkeypatch.setattr(trial, "_INTERVAL_SECONDS", 1e9)
    take = trial._Reporter.take
    monkeypatch.setattr(trial._Reporter, "take", _stop_after(4, take))
    with pytest.raises(SystemExit):
        worker.train("first", stopping)
    assert epochs == 4
    assert worker.names() == {"checkpoint.pt"}
    assert not list((worker.folder / "first").glob("stores/*/scratch/*"))

    monkeypatch.setattr(trial._Reporter, "take", take)
    again = worker.train("second")
    assert epochs == worker.config.training.epochs, "no epoch was trained twice"
    assert again["metrics"] == whole["metrics"]
    worker.train("third")
    assert epochs == worker.config.training.epochs, "a finished trial is taken as it is"


def _at_once(reported: Callable[[Any], None]) -> Callable[[Any], None]:
    def waiting(home: Any) -> None:
        reported(home)
        if home._pushing is not None:
            home._pushing.join()

    return waiting


def _stop_after(epochs: int, take: Callable[..., None]) -> Callable[..., None]:
    def taking(reporter: Any, report: Any) -> None:
        take(reporter, report)
        if report.epoch == epochs:
            reporter.stopped = True
            raise SystemExit(0)

    return taking


RESULT = TrialResult({"test/accuracy": 0.5}, 1.0, 0.5, 10, ())


def test_a_store_that_refuses_stops_the_study_and_one_that_is_away_costs_an_attempt(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(config: Any, report: Any, *, folder: Path, **_: Any) -> TrialResult:
        folder.mkdir(parents=True)
        (folder / "checkpoint.pt").write_bytes(b"1")
        return RESULT

    monkeypatch.setattr(run, "run", work)
    real = Objects.put
    for error, kind in ((Refused("no room"), "refused"), (OSError("no route"), "lost")):

        def put(objects: Any, name: str, content: Any, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr(Objects, "put", put)
        outcome = worker.train("machine")
        assert (outcome["state"], outcome["kind"]) == ("failed", kind)
        assert str(error) in outcome["reason"]
    monkeypatch.setattr(Objects, "put", real)
    assert worker.train("machine")["state"] == "complete"


def test_a_failed_trial_leaves_its_traceback_on_the_store_and_its_own_reason_counts(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(config: Any, report: Any, **_: Any) -> TrialResult:
        raise ValueError("tau must be positive")

    monkeypatch.setattr(run, "run", work)
    assert worker.train("machine")["reason"] == "ValueError: tau must be positive"
    assert b"tau must be positive" in worker.store.get("s/trials/key/error.txt")

    def put(objects: Any, name: str, content: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(Objects, "put", put)
    assert worker.train("machine")["reason"] == "ValueError: tau must be positive"
