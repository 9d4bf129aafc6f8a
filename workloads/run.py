"""The one door to this package: prepare the data, run a trial."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from workloads.contract import EpochReport, TrialConfig, TrialResult
from workloads.data.prepared import prepare

__all__ = ["prepare", "run"]


def run(
    config: TrialConfig,
    report: Callable[[EpochReport], None],
    *,
    folder: Path,
    data_root: Path,
    device: str = "cpu",
    threads: int = 1,
) -> TrialResult:
    """Train and measure one trial, or finish one that was interrupted.

    On the CPU the metrics depend on ``config`` and ``threads`` alone: not on interruptions, nor on what else
    this process ran before.

    Args:
        config: the whole trial; equal configurations have equal keys.
        report: called after every evaluated epoch. After a resume the earlier reports are repeated first,
            also where the whole trial was already finished. What it raises ends the trial, which can be
            resumed.
        folder: the trial's own; made if needed.
        data_root: where :func:`prepare` put the data.
        device: a torch device.
        threads: BLAS threads.
    Raises:
        TrainingDiverged: the loss, a weight or a logit is no longer finite.
        DataMissing: the data were not prepared.
        ValueError: something that ``config`` names is unknown, out of its range, or cannot be run by this
            version.
    """
    if config.protocol != "standard":
        raise ValueError(f"protocol must be standard in this version; got {config.protocol!r}")
    # Imported here, because torch takes a second and preparing data does without it.
    from workloads.protocols.standard import run_standard

    return run_standard(config, report, folder=folder, data_root=data_root, device=device, threads=threads)
