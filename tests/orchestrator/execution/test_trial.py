"""What a worker tells the driver, and in how many messages."""

from __future__ import annotations

import errno
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray import tune

from orchestrator.execution import trial
from orchestrator.execution.trial import (
    MEMORY,
    OUTCOME,
    REPORTS,
    _kind,
    _reason,
    _Reporter,
    request_of,
    train,
)
from orchestrator.study.resolve import trial_config
from tests.orchestrator.simulation import study
from workloads import run
from workloads.contract import EpochReport, TrainingDiverged, TrialResult
from workloads.training import device_memory


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_short_epochs_share_a_message_and_none_is_lost() -> None:
    sent: list[dict[str, Any]] = []
    clock = Clock()
    reporter = _Reporter(sent.append, clock)
    for epoch in range(1, 11):
        clock.now += 0.1
        reporter.take(EpochReport(epoch, {"noise/fpr95": epoch / 10}))
    messages = [[r["epoch"] for r in json.loads(message[REPORTS])] for message in sent]
    assert messages == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert [r["epoch"] for r in reporter.waiting] == [10]


def test_a_long_epoch_is_reported_at_once() -> None:
    sent: list[dict[str, Any]] = []
    clock = Clock()
    reporter = _Reporter(sent.append, clock)
    clock.now = 60.0
    reporter.take(EpochReport(1, {"noise/fpr95": 0.5, "loss/s": math.nan}))
    assert json.loads(sent[0][REPORTS]) == [{"epoch": 1, "metrics": {"noise/fpr95": 0.5}}]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TrainingDiverged("loss is nan"), "diverged"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), "out_of_memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
        (KeyError("x"), "exception"),
    ],
)
def test_what_ended_an_attempt_is_told_apart(error: Exception, kind: str) -> None:
    assert _kind(error) == kind


Work = Callable[..., TrialResult]
MADE = {"device": "a GPU", "torch": "2.15.0"}
RESULT = TrialResult({"noise/fpr95": 0.5, "ood/x": math.nan}, 1.0, 0.5, 10, ("a note",), MADE)


class Worker:
    """A worker's function, with a made-up training run and what it sent."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.sent: list[dict[str, Any]] = []
        self.used: dict[str, Any] = {}
        self._patch = monkeypatch
        monkeypatch.setattr(tune, "report", self.sent.append)
        # Set by the function for its own process.
        monkeypatch.setenv("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")
        # On a busy machine a quarter of a second passes between any two lines.
        monkeypatch.setattr(trial, "_INTERVAL_SECONDS", 1e9)

    def train(self, work: Work, *, gpu: float = 0.0) -> dict[str, Any]:
        """What the driver learns of the end."""
        self._patch.setattr(run, "run", work)
        spec = study()
        config = trial_config(spec, "cross_entropy", {"lr": 0.1}, 0, "search", "da7a")
        train(
            request_of(
                config, "key", trials=self.folder, data_root=self.folder, resources={"cpu": 2.5, "gpu": gpu}
            )
        )
        outcome: dict[str, Any] = json.loads(self.sent[-1][OUTCOME])
        assert self.sent[-1]["done"]
        return outcome


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(tmp_path, monkeypatch)


def raising(error: BaseException) -> Work:
    def work(*_: Any, **__: Any) -> TrialResult:
        raise error

    return work


def test_a_finished_trial_says_what_it_measured_and_takes_the_cpus_it_was_given(worker: Worker) -> None:
    def work(config: Any, report: Any, **given: Any) -> TrialResult:
        worker.used = given
        report(EpochReport(1, {"noise/fpr95": 0.5}))
        return RESULT

    assert worker.train(work) == {
        "state": "complete",
        "metrics": {"noise/fpr95": 0.5},
        "seconds": 1.5,
        "notes": ["a note"],
        "environment": MADE,
    }
    assert json.loads(worker.sent[-1][REPORTS]) == [{"epoch": 1, "metrics": {"noise/fpr95": 0.5}}]
    assert MEMORY not in worker.sent[-1]
    assert (worker.used["threads"], worker.used["device"]) == (2, "cpu")
    assert worker.used["folder"] == worker.folder / "key"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_apart_and_named(worker: Worker, number: int) -> None:
    file = worker.folder / "key" / "checkpoint.pt"

    def work(*_: Any, **__: Any) -> TrialResult:
        try:
            raise OSError(number, "full", str(file))
        except OSError as error:
            raise RuntimeError("something that wraps it") from error

    outcome = worker.train(work)
    assert outcome["kind"] == "disk_full"
    assert str(file) in outcome["reason"]
    assert "bytes free" in outcome["reason"]
    assert ("quota" in outcome["reason"]) == (number == errno.EDQUOT)


def test_another_error_of_the_operating_system_is_an_exception(worker: Worker) -> None:
    assert worker.train(raising(PermissionError(errno.EACCES, "no")))["kind"] == "exception"


def test_a_loss_that_calls_exit_ends_its_trial_and_not_the_worker(worker: Worker) -> None:
    outcome = worker.train(raising(SystemExit(3)))
    assert (outcome["kind"], outcome["state"]) == ("exception", "failed")
    assert outcome["reason"] == "SystemExit: the loss, or something that it uses, called sys.exit(3)"
    assert "SystemExit: 3" in (worker.folder / "key" / "error.txt").read_text()


def test_a_trial_that_tune_stops_says_nothing_more(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping(message: dict[str, Any]) -> None:
        worker.sent.append(message)
        raise SystemExit(0)

    def work(config: Any, report: Any, **_: Any) -> TrialResult:
        report(EpochReport(1, {}))
        return RESULT

    monkeypatch.setattr(tune, "report", stopping)
    monkeypatch.setattr(trial, "_INTERVAL_SECONDS", 0.0)
    with pytest.raises(SystemExit):
        worker.train(work)
    assert len(worker.sent) == 1
    assert OUTCOME not in worker.sent[0]


class FakeGauge:
    """100 bytes more at each look, of 1000."""

    asked: tuple[Any, ...] = ()
    seen = 0

    def __init__(self, device: str, share: float, *, confined: bool) -> None:
        FakeGauge.asked = device, share, confined

    def __enter__(self) -> FakeGauge:
        return self

    def __exit__(self, *_: Any) -> None:
        return None

    def read(self) -> tuple[int, int]:
        self.seen += 100
        return self.seen, 1000


def test_a_trial_on_a_part_of_a_gpu_says_what_memory_it_needed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(config: Any, report: Any, **given: Any) -> TrialResult:
        worker.used = given
        report(EpochReport(1, {}))
        return RESULT

    monkeypatch.setenv("ORCHESTRATE_DEVICE", "cpu")
    monkeypatch.setattr(device_memory, "Gauge", FakeGauge)
    monkeypatch.setattr(trial, "_INTERVAL_SECONDS", 0.0)
    worker.train(work, gpu=0.25)
    assert worker.used["device"] == "cpu"
    assert FakeGauge.asked == ("cpu", 0.25, False)
    assert [json.loads(message[MEMORY]) for message in worker.sent] == [[100, 1000], [200, 1000]]


def test_a_gpu_that_torch_does_not_find_is_explained(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRATE_DEVICE", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    outcome = worker.train(raising(AssertionError("must not be reached")), gpu=0.5)
    assert "the trial was given a GPU, and torch" in outcome["reason"]
    assert "resources.gpu: 0" in outcome["reason"]


def test_a_reason_is_one_line_that_names_the_error() -> None:
    assert _reason(ValueError("first\nsecond")) == "ValueError: first"
    assert _reason(RuntimeError()) == "RuntimeError: "
