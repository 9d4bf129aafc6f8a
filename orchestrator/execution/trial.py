"""What a Ray worker runs: one trial. The only importer of ``workloads`` for work."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from orchestrator.execution.disk import full_disk, full_disk_text
from orchestrator.execution.limit import Alarm
from orchestrator.execution.storage.home import Home, OutOfReach, home_of
from orchestrator.objects import Refused
from orchestrator.redaction import redacted
from workloads.check import Misfit
from workloads.contract import DataConfig, DataFacts, EpochReport, NoiseConfig, TrainingDiverged, TrialConfig

if TYPE_CHECKING:
    from workloads.training.device_memory import Gauge

REPORTS = "reports"
"""Key of the epochs' reports in a message: JSON text, so that Tune neither flattens nor copies it."""
OUTCOME = "outcome"
"""Key of the last report of an attempt: how it ended, JSON text."""
MEMORY = "memory"
"""Key of what the attempt needed of a GPU's memory so far: JSON text, [bytes, bytes of the GPU]."""
DISK_FULL = "disk_full"
"""Kind of an outcome that is no failure of the trial: the study stops until there is space again."""
UNSEEN = "unseen"
"""The same, of a node that does not share the study's folder."""
REFUSED = "refused"
"""The same, of an object store that will not have what the trial made, or give what it needs."""
DEVICE_VARIABLE = "ORCHESTRATE_DEVICE"
"""Environment variable for tests of placement: a torch device for trials that have a GPU, such as ``cpu``."""
_INTERVAL_SECONDS = 0.25
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
"""What CUDA, torch on the CPU and the operating system say."""


def prepare(data: DataConfig, noise: NoiseConfig, root: Path, sources: Path) -> DataFacts:
    """Make the study's data ready under ``root`` (see ``workloads.run.prepare``)."""
    from workloads import run

    return run.prepare(data, noise, root, sources)


def data_folder(data: DataConfig, noise: NoiseConfig, root: Path, data_hash: str) -> Path:
    """Where :func:`prepare` has put the data of that hash."""
    from workloads.data import prepared

    return prepared.folder(data, noise, root, data_hash)


def misfits(configs: Sequence[TrialConfig], facts: DataFacts) -> list[Misfit | None]:
    """For each configuration why it cannot be run, or None.

    Asked of another process: building a model loads torch, which the driver does without.
    """
    request = {"configs": [config.to_dict() for config in configs], "facts": asdict(facts)}
    done = subprocess.run(
        [sys.executable, "-m", "workloads.check"],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        # A crash here is no verdict: the trials will say what is wrong.
        return [None] * len(configs)
    answers = json.loads(done.stdout.splitlines()[-1])
    return [None if each is None else Misfit(**each) for each in answers]


def request_of(
    config: TrialConfig,
    key: str,
    *,
    trials: Path,
    data_root: Path,
    resources: Mapping[str, float],
    attempt: int = 1,
    time_limit: float | None = None,
    confined: bool = False,
    store: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What travels to the worker: plain values only.

    Args:
        resources: ``cpu`` and ``gpu`` of this attempt.
        time_limit: seconds that the attempt may work.
        confined: keep the process within its share of a GPU's memory.
        store: what ``Mirror.request`` says of an object store; ``trials`` and ``data_root`` are the driver's.
    """
    return {
        **(store or {}),
        "config": config.to_dict(),
        "folder": str(trials / key),
        "data_root": str(data_root),
        "resources": dict(resources),
        "attempt": attempt,
        "time_limit": time_limit,
        "confined": confined,
    }


def timeout_file(folder: Path, attempt: int) -> Path:
    """Where an attempt stood when its time was up."""
    return folder / f"timeout-{attempt}.txt"


def train(request: dict[str, Any]) -> None:
    """Run one trial in a Ray Tune worker; every way it can end becomes a last report, not an exception.

    So the worker lives on for the next trial, and the driver learns the reason in words.
    """
    folder = Path(request["folder"])
    if "store" not in request and not folder.parent.is_dir():
        # Before anything is made there: it would be lost to everyone else.
        return tune.report({OUTCOME: json.dumps(_unseen(folder.parent)), "done": True})
    with home_of(request) as home:
        last = _attempted(request, home)
    # `done` ends the trial with this report; without it Tune would ask once more.
    tune.report({**last, "done": True})


def _attempted(request: dict[str, Any], home: Home) -> dict[str, Any]:
    """Make the attempt; its last report."""
    # How long Tune waits for a stopped trial to leave this process before it gives up on the next one: two
    # seconds pass quickly on a busy machine.
    os.environ.setdefault("TUNE_FUNCTION_THREAD_TIMEOUT_S", "60")
    alarm = Alarm(timeout_file(home.notes, request["attempt"]), request["time_limit"])
    reporter = _Reporter(tune.report, alarm=alarm, written=home.reported)
    try:
        home.furnish()
        # Loading torch takes long on a busy machine, and is no work of the trial.
        importlib.import_module("workloads.protocols.trials")
        with alarm:
            outcome = _run(request, home, reporter)
    except Exception as error:
        outcome = _failure(error, home.folder)
    except SystemExit as error:
        if reporter.stopped:
            raise
        # Whoever calls sys.exit in a loss means this trial, not the worker.
        outcome = _failure(error, home.folder)
    try:
        if outcome.get("kind") not in (REFUSED, "lost"):
            home.hand_over()
    except OSError as error:
        # Of two failures the attempt's own says more.
        outcome = _failure(error, home.folder) if outcome["state"] == "complete" else outcome
    return {**reporter.message(), OUTCOME: json.dumps(outcome)}


def _unseen(folder: Path) -> dict[str, Any]:
    """The outcome on a node without the study's folder, which the driver has made."""
    reason = (
        f"the worker on {socket.gethostname()} cannot see {folder}: every node of a cluster must share the "
        f"output folder (--out), under the same path"
    )
    return {"state": "failed", "kind": UNSEEN, "reason": reason, "metrics": {}}


def _run(request: dict[str, Any], home: Home, reporter: _Reporter) -> dict[str, Any]:
    """Train and measure; the outcome."""
    from workloads import run
    from workloads.training.device_memory import Gauge

    config = TrialConfig.from_dict(request["config"])
    share = request["resources"]["gpu"]
    device = _device(share)
    with Gauge(device, share, confined=request["confined"]) as gauge:
        reporter.gauge = gauge
        result = run.run(
            config,
            reporter.take,
            folder=home.folder,
            data_root=home.data_root,
            device=device,
            threads=max(1, math.floor(request["resources"]["cpu"])),
        )
        reporter.note_memory()
    return {
        "state": "complete",
        "metrics": _finite(result.metrics),
        "seconds": result.train_seconds + result.evaluation_seconds,
        "notes": [redacted(note) for note in result.notes],
        "environment": dict(result.environment),
    }


def _device(share: float) -> str:
    """The torch device of a trial.

    Raises: RuntimeError where Ray gave it a GPU and torch cannot use one.
    """
    if share <= 0:
        return "cpu"
    named = os.environ.get(DEVICE_VARIABLE)
    if named:
        return named
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError(
            f"the trial was given a GPU, and torch {torch.__version__} finds none on {socket.gethostname()} "
            f"(a build without CUDA, or no driver); set resources.gpu: 0 to train on CPUs"
        )
    return "cuda"


class _Reporter:
    """Sends epochs' reports to Tune, several in one message where epochs are short.

    A message costs some milliseconds in which the trial waits; sent at most every ``_INTERVAL_SECONDS`` they
    cost little, however short an epoch is. Decisions do not change by it: the campaign takes epoch by epoch.
    """

    def __init__(
        self,
        send: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
        alarm: Alarm | None = None,
        written: Callable[[], None] = lambda: None,
    ) -> None:
        self._send = send
        self._clock = clock
        self._alarm = alarm
        self._written = written
        self._sent = clock()
        self._memory: tuple[int, int] | None = None
        self.waiting: list[dict[str, Any]] = []
        self.stopped = False
        """Whether Tune has ended the trial."""
        self.gauge: Gauge | None = None
        """Says what the process needs of a GPU's memory, where it has one."""

    def take(self, report: EpochReport) -> None:
        # A checkpoint is written before its epoch is reported.
        self._written()
        self.waiting.append({"epoch": report.epoch, "metrics": _finite(report.metrics)})
        if self._clock() - self._sent >= _INTERVAL_SECONDS:
            self.note_memory()
            message = self.message()
            self.waiting = []
            try:
                # Waits until the driver has dealt with it.
                with self._alarm.paused() if self._alarm else contextlib.nullcontext():
                    self._send(message)
            except SystemExit:
                self.stopped = True
                raise
            self._sent = self._clock()

    def note_memory(self) -> None:
        self._memory = self.gauge.read() if self.gauge else None

    def message(self) -> dict[str, Any]:
        """What was not sent yet."""
        known = {} if self._memory is None else {MEMORY: json.dumps(self._memory)}
        return {REPORTS: json.dumps(self.waiting), **known}


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """What is not a number is no measurement: it is left out, never passed on as one."""
    return {k: v for k, v in metrics.items() if math.isfinite(v)}


def _failure(error: BaseException, folder: Path) -> dict[str, Any]:
    """The outcome of an attempt that an error ended."""
    if isinstance(error, Refused | OutOfReach):
        kind = REFUSED if isinstance(error, Refused) else "lost"
        return {"state": "failed", "kind": kind, "reason": redacted(str(error)), "metrics": {}}
    full = full_disk(error)
    if full is not None:
        return {"state": "failed", "kind": DISK_FULL, "reason": full_disk_text(full, folder), "metrics": {}}
    _write_traceback(folder)
    return {"state": "failed", "kind": _kind(error), "reason": _reason(error), "metrics": {}}


def _kind(error: BaseException) -> str:
    if isinstance(error, TrainingDiverged):
        return "diverged"
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
        return "out_of_memory"
    return "exception"


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return redacted(f"SystemExit: the loss, or something that it uses, called sys.exit({error.code!r})")
    # Before anything is cut off: half a secret would not be known as one.
    first = redacted(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"[:300]


def _write_traceback(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(redacted(traceback.format_exc()), encoding="utf-8")
    except OSError:
        # A full disk must not hide the error itself, which is on its way to the driver.
        return
