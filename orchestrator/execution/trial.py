"""What a Ray worker runs: one trial. The only importer of ``workloads`` for work."""

from __future__ import annotations

import json
import math
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from workloads.contract import DataConfig, DataFacts, EpochReport, NoiseConfig, TrainingDiverged, TrialConfig

REPORT = "report"
"""Key of an epoch's report: JSON text, so that Tune neither flattens nor copies it."""
OUTCOME = "outcome"
"""Key of the last report of an attempt: how it ended, JSON text."""


def prepare(data: DataConfig, noise: NoiseConfig, root: Path) -> DataFacts:
    """Make the study's data ready under ``root`` (see ``workloads.run.prepare``)."""
    from workloads import run

    return run.prepare(data, noise, root)


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

    def report(epoch: EpochReport) -> None:
        # What is not a number is no measurement: it is left out, never passed on as one.
        metrics = {k: v for k, v in epoch.metrics.items() if math.isfinite(v)}
        tune.report({REPORT: json.dumps({"epoch": epoch.epoch, "metrics": metrics})})

    try:
        result = run.run(
            TrialConfig.from_dict(request["config"]),
            report,
            folder=folder,
            data_root=Path(request["data_root"]),
            device=request["device"],
            threads=request["threads"],
        )
        outcome: Mapping[str, Any] = {
            "state": "complete",
            "metrics": {k: v for k, v in result.metrics.items() if math.isfinite(v)},
            "seconds": result.train_seconds + result.evaluation_seconds,
        }
    except Exception as error:
        outcome = {"state": "failed", "kind": _kind(error), "reason": _reason(error), "metrics": {}}
        _write_traceback(folder)
    # `done` ends the trial with this report; without it Tune would ask once more.
    tune.report({OUTCOME: json.dumps(outcome), "done": True})


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
        (folder / "error.txt").write_text(traceback.format_exc())
    except OSError:
        # A full disk must not hide the error itself, which is on its way to the driver.
        return
