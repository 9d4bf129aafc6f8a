"""Runs the real command in a process of its own, and kills parts of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import Event, StudyRecord

COMMAND = Path(sys.executable).with_name("orchestrate")

STUDY = """\
study: small
baseline: cross_entropy
data:
  source: digits
  id_classes: [0, 1, 2, 3, 4, 5]
  near_ood: [held_out]
  far_ood: [uniform, blobs]
model: small_cnn_8x8
training: {epochs: 12, batch_size: 64, checkpoint_every: 2}
noise: {size: 200}
arms:
  cross_entropy: {lr: {log_uniform: [0.02, 0.3]}}
  logitnorm: {tau: {log_uniform: [0.1, 1.0]}, lr: {log_uniform: [0.02, 0.3]}}
search:
  trials: 3
  seeds: [0]
  parallel: 1
  pruner: {name: median, warmup_epochs: 4, n_startup_trials: 1}
confirm:
  seeds: [100, 101]
"""


class Driver:
    """One run of ``orchestrate study`` and every process that it starts."""

    def __init__(
        self,
        study: Path,
        out: Path,
        *options: str,
        python_path: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.out = out
        self._earlier = {folder.name: _sessions(_events_of(out, folder.name)) for folder in _folders(out)}
        self._mark = uuid.uuid4().hex
        environment = {**os.environ, "ORCHESTRATE_TEST_MARK": self._mark}
        environment.pop("RAY_ADDRESS", None)
        environment.pop("MLFLOW_TRACKING_URI", None)
        if python_path is not None:
            earlier = environment.get("PYTHONPATH", "")
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(python_path), earlier)))
        environment.update(variables or {})
        self.process = subprocess.Popen(
            [COMMAND, "study", study, "--out", out, *options],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, seconds: float = 200.0) -> tuple[int, str]:
        """(exit status, everything printed)."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, output

    def wait_for(
        self, ready: Callable[[list[Event]], bool], study: str = "small", seconds: float = 120
    ) -> None:
        """Until this run has opened the study, and the ledger's events, of earlier runs too, say so."""
        earlier = self._earlier.get(study, 0)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            events = _events_of(self.out, study)
            if _sessions(events) > earlier and ready(events):
                return
            if self.process.poll() is not None:
                raise AssertionError(f"the driver ended too soon:\n{self.finish()[1]}")
            time.sleep(0.02)
        raise AssertionError("the study did not get there in time")

    def processes(self) -> Iterator[tuple[int, str]]:
        """(pid, command line) of every process that this run started, the driver among them."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes():
                    yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()

    def kill_driver(self) -> None:
        self.process.kill()
        self._reap()

    def _reap(self) -> None:
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def kill_worker(self) -> None:
        """Kill one of the workers that train."""
        workers = [pid for pid, line in self.processes() if line.startswith("ray::ImplicitFunc")]
        assert workers, list(self.processes())
        os.kill(workers[0], signal.SIGKILL)

    def kill_everything(self) -> None:
        for pid, _ in list(self.processes()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._reap()

    def close(self) -> None:
        """Leave nothing behind."""
        self.kill_everything()


def _folders(out: Path) -> list[Path]:
    return [path.parent for path in out.glob("*/ledger.jsonl")]


def _events_of(out: Path, study: str) -> list[Event]:
    path = out / study / "ledger.jsonl"
    return list(read_events(path)) if path.exists() else []


def _sessions(events: list[Event]) -> int:
    return sum(e["event"] == "opened" for e in events)


def reports(count: int, stage: str = "search") -> Callable[[list[Event]], bool]:
    """Ready when so many epochs of a stage have been reported, and a trial of it is in the middle."""

    def ready(events: list[Event]) -> bool:
        keys = {e["key"] for e in events if e["event"] == "started" and e["stage"] == stage}
        mine = [e for e in events if e["event"] == "reported" and e["key"] in keys]
        return len(mine) >= count and mine[-1]["epoch"] % 12 in range(4, 10)

    return ready


def study_file(factory: pytest.TempPathFactory, text: str = STUDY, folder: str = "study") -> Path:
    """A study's file in a folder of its own."""
    path = factory.mktemp(folder) / "small.yaml"
    path.write_text(text)
    return path


def undisturbed_run(factory: pytest.TempPathFactory, study: Path, seconds: float = 200.0) -> Path:
    """The output folder of a run that nothing happened to.

    One for all tests of a study with this text, also of those that run in another process: to be copied
    before anything is done to it.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    place = base / f"undisturbed-{hashlib.sha256(study.read_bytes()).hexdigest()[:12]}"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            ended = run_to_the_end(study, place.with_name(f"{place.name}.{os.getpid()}"), seconds)
            # Its own paths stand in MLflow's store, so it stays where it is.
            place.symlink_to(ended)
    return place.resolve()


def run_to_the_end(study: Path, out: Path, seconds: float = 200.0) -> Path:
    """The output folder after a run that must succeed."""
    driver = Driver(study, out)
    try:
        status, output = driver.finish(seconds)
    finally:
        driver.close()
    assert status == 0, output
    return out


@dataclass(frozen=True)
class Run:
    """A study named ``small`` that has run, and what it printed."""

    out: Path
    status: int
    text: str

    @property
    def folder(self) -> Path:
        return self.out / "small"

    @property
    def record(self) -> StudyRecord:
        return StudyRecord.fold(read_events(self.folder / "ledger.jsonl"))


def run_once(folder: Path, text: str) -> Run:
    """Run a study with this text in a folder, however it ends."""
    study = folder / "small.yaml"
    study.write_text(text)
    driver = Driver(study, folder / "out")
    try:
        return Run(folder / "out", *driver.finish())
    finally:
        driver.close()
