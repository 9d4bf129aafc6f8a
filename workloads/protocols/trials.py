"""The protocols by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from workloads.contract import Protocol, TrialConfig, TrialResult
from workloads.protocols.continual import ContinualTrial
from workloads.protocols.folder import read_result
from workloads.protocols.long_tailed import LongTailedTrial
from workloads.protocols.standard import StandardTrial
from workloads.protocols.trial import Report, Trial
from workloads.training.numerics import reproducible

TRIALS: Mapping[Protocol, type[Trial]] = {
    "standard": StandardTrial,
    "long_tailed": LongTailedTrial,
    "continual": ContinualTrial,
}


def open_trial(config: TrialConfig, folder: Path, data_root: Path, device: torch.device) -> Trial:
    """A trial of the protocol that ``config`` names, not resumed yet.

    Raises: ValueError for an unknown protocol, or settings that these data do not allow.
    """
    kind = TRIALS.get(config.protocol)
    if kind is None:
        raise ValueError(f"protocol must be one of {', '.join(TRIALS)}; got {config.protocol!r}")
    return kind(config, folder, data_root, device)


def run_trial(
    config: TrialConfig, report: Report, *, folder: Path, data_root: Path, device: str, threads: int
) -> TrialResult:
    """Train and measure one trial; see :func:`workloads.run.run` for arguments and errors."""
    finished = read_result(folder, config.key)
    if finished is not None:
        result, reports = finished
        for each in reports:
            report(each)
        return result
    place = torch.device(device)
    with reproducible(place, threads, tf32=config.training.precision == "tf32"):
        return open_trial(config, folder, data_root, place).run(report)
