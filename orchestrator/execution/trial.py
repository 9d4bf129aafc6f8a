"""What a Ray worker runs: one trial. The only importer of ``workloads`` for work."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray import tune

from workloads.check import Misfit
from workloads.contract import DataConfig, DataFacts, EpochReport, NoiseConfig, TrainingDiverged, TrialConfig

REPORTS = "reports"
"""Key of the epochs' reports in a message: JSON text, so that Tune neither flattens nor copies it."""
OUTCOME = "outcome"
"""Key of the last report of an attempt: how it ended, JSON text."""
_INTERVAL_SECONDS = 0.25


def prepare(data: DataConfig, noise: NoiseConfig, root: Path, sources: Path) -> DataFacts:
    """Make the study's data ready under ``root`` (see ``workloads.run.prepare``)."""
    from workloads import run

    return run.prepare(data, noise, root, sources)


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
    config: TrialConfig, key: str, *, trials: Path, data_root: Path, threads: int, gpus: float
) -> dict[str, Any]:
    """What travels to the worker: plain values only."""
    return {
        "config": config.to_dict(),
        "folder": str(trials / key),
        "data_root": str(data_root),
        "threads": threads,
        "device": "cuda" if gpus > 0 else "cpu",
    }


def train(request: dict[str, Any]) -> None:
    """Run one trial in a Ray Tune worker; every way it can end becomes a last report, not an exception.

    So the worker lives on for the next trial, and the driver learns the reason in words.
    """
    from workloads import run

    folder = Path(request["folder"])

    reporter = _Reporter(tune.report)
    try:
        result = run.run(
            TrialConfig.from_dict(request["config"]),
            reporter.take,
            folder=folder,
            data_root=Path(request["data_root"]),
            device=request["device"],
            threads=request["threads"],
        )
        outcome: Mapping[str, Any] = {
            "state": "complete",
            "metrics": _finite(result.metrics),
            "seconds": result.train_seconds + result.evaluation_seconds,
            "notes": list(result.notes),
        }
    except Exception as error:
        outcome = {"state": "failed", "kind": _kind(error), "reason": _reason(error), "metrics": {}}
        _write_traceback(folder)
    # `done` ends the trial with this report; without it Tune would ask once more.
    tune.report({REPORTS: json.dumps(reporter.waiting), OUTCOME: json.dumps(outcome), "done": True})


class _Reporter:
    """Sends epochs' reports to Tune, several in one message where epochs are short.

    A message costs some milliseconds in which the trial waits; sent at most every ``_INTERVAL_SECONDS`` they
    cost little, however short an epoch is. Decisions do not change by it: the campaign takes epoch by epoch.
    """

    def __init__(
        self, send: Callable[[dict[str, Any]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._send = send
        self._clock = clock
        self._sent = clock()
        self.waiting: list[dict[str, Any]] = []

    def take(self, report: EpochReport) -> None:
        self.waiting.append({"epoch": report.epoch, "metrics": _finite(report.metrics)})
        if self._clock() - self._sent >= _INTERVAL_SECONDS:
            self._send({REPORTS: json.dumps(self.waiting)})
            self.waiting = []
            self._sent = self._clock()


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """What is not a number is no measurement: it is left out, never passed on as one."""
    return {k: v for k, v in metrics.items() if math.isfinite(v)}


def _kind(error: Exception) -> str:
    if isinstance(error, TrainingDiverged):
        return "diverged"
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return "out_of_memory"
    return "exception"


def _reason(error: Exception) -> str:
    first = str(error).strip().splitlines()
    return f"{type(error).__name__}: {first[0] if first else ''}"[:300]


def _write_traceback(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
    except OSError:
        # A full disk must not hide the error itself, which is on its way to the driver.
        return
