"""Where a trial stands, in one file that is trusted only if it is whole and of this trial.

The file is what ``torch.save`` writes, followed by a line with its SHA-256; ``torch.load`` reads it too.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from workloads.contract import EpochReport
from workloads.sealed import with_trailer, without_trailer
from workloads.training.reports import plain_reports, read_reports
from workloads.training.storage import write_bytes

FORMAT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A trial after some epoch."""

    engine: dict[str, Any]
    """State of the model, the loss and the optimiser, and the finished epochs."""
    reports: tuple[EpochReport, ...]
    """All reports so far."""
    train_seconds: float
    evaluation_seconds: float
    stage: int = 0
    """Which of the trial's stages is at work."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What its protocol remembers of the stages before."""


def write_checkpoint(path: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write atomically; ``key`` says of which trial it is."""
    buffer = io.BytesIO()
    record = {
        "format": FORMAT,
        "key": key,
        "engine": checkpoint.engine,
        "reports": plain_reports(checkpoint.reports),
        "train_seconds": checkpoint.train_seconds,
        "evaluation_seconds": checkpoint.evaluation_seconds,
        "stage": checkpoint.stage,
        "memory": checkpoint.memory,
    }
    torch.save(record, buffer)
    write_bytes(path, with_trailer(buffer.getvalue()))


def read_checkpoint(path: Path, key: str, device: torch.device) -> Checkpoint | None:
    """The checkpoint of trial ``key``, or None where there is none that can be trusted.

    A missing, unreadable, truncated or altered file, another trial's, or another format's is no error:
    training then starts anew. Nothing but tensors and plain values is unpickled.
    """
    try:
        content = path.read_bytes()
    except OSError:
        return None
    payload = without_trailer(content)
    if payload is None:
        return None
    try:
        record = torch.load(io.BytesIO(payload), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError):
        return None
    if not isinstance(record, dict) or record.get("format") != FORMAT or record.get("key") != key:
        return None
    return Checkpoint(
        record["engine"],
        read_reports(record["reports"]),
        record["train_seconds"],
        record["evaluation_seconds"],
        record["stage"],
        record["memory"],
    )
