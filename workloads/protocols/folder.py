"""A trial's folder: its result, and whether all that belongs to a finished trial is still whole.

Imports no torch: a driver looks through the folders of a whole study before it starts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.contract import EpochReport, TrialResult
from workloads.sealed import Damaged, file_digest, has_whole_payload, read_sealed
from workloads.training.reports import plain_reports, read_reports
from workloads.training.storage import write_json

RESULT = "result.json"
CHECKPOINT = "checkpoint.pt"
_OUTPUTS = "outputs"


@dataclass(frozen=True)
class Findings:
    """What is wrong with the folder of a finished trial, in sentences that begin with the file's name."""

    damage: tuple[str, ...] = ()
    """Of its result and its saved outputs."""
    checkpoint: str = ""
    """Of its model; empty where that is whole."""


def examine(folder: Path, key: str, *, confirmed: bool) -> Findings:
    """Read every file of the finished trial ``key`` and compare it with its checksum.

    Args:
        confirmed: a confirm trial keeps its model.
    """
    if not folder.is_dir():
        return Findings(("its folder is missing",), f"{CHECKPOINT} is missing")
    return Findings(tuple(_damage(folder, key)), _checkpoint_damage(folder / CHECKPOINT) if confirmed else "")


def read_result(folder: Path, key: str) -> tuple[TrialResult, tuple[EpochReport, ...]] | None:
    """The finished trial ``key``; None where there is none, or its result or an output is damaged."""
    if any(_damage(folder, key)):
        return None
    try:
        record = read_sealed(folder / RESULT)
        saved = {**record["result"], "notes": tuple(record["result"]["notes"])}
        return TrialResult(**saved), read_reports(record["reports"])
    except (ValueError, KeyError, TypeError):
        return None


def write_result(folder: Path, key: str, result: TrialResult, reports: Sequence[EpochReport]) -> None:
    """Write the result, last of all: it lists the saved outputs with their SHA-256."""
    record = {
        "key": key,
        "result": {
            "metrics": dict(result.metrics),
            "train_seconds": result.train_seconds,
            "evaluation_seconds": result.evaluation_seconds,
            "parameters": result.parameters,
            "notes": list(result.notes),
            "environment": dict(result.environment),
        },
        "reports": plain_reports(reports),
        "files": _listed(folder),
    }
    write_json(folder / RESULT, record)


@contextlib.contextmanager
def changing(folder: Path, names: Collection[str]) -> Iterator[None]:
    """The saved outputs of these names, of a finished trial, may change while the body runs.

    Raises: Damaged where the result is not whole.
    """
    record = read_sealed(folder / RESULT)
    changed = {f"{_OUTPUTS}/{name}" for name in names}
    others = {name: digest for name, digest in record["files"].items() if name not in changed}
    # What is not listed is not held against its old checksum, wherever the body is interrupted.
    write_json(folder / RESULT, {**record, "files": others})
    yield
    now = {name: digest for name, digest in _listed(folder).items() if name in changed}
    write_json(folder / RESULT, {**record, "files": {**others, **now}})


def _listed(folder: Path) -> Mapping[str, str]:
    """SHA-256 of every saved output, by its name in the folder."""
    files = sorted(file for file in (folder / _OUTPUTS).rglob("[!.]*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}


def _damage(folder: Path, key: str) -> Iterator[str]:
    try:
        record: dict[str, Any] = read_sealed(folder / RESULT)
    except Damaged as damaged:
        yield str(damaged).removeprefix(f"{folder}/")
        return
    if record.get("key") != key:
        yield f"{RESULT} is another trial's"
        return
    for name, digest in record["files"].items():
        try:
            if file_digest(folder / name) != digest:
                yield f"{name} does not hold what was written (its SHA-256 differs)"
        except OSError as error:
            yield f"{name} is missing or not readable ({error.strerror})"


def _checkpoint_damage(path: Path) -> str:
    try:
        if has_whole_payload(path):
            return ""
    except OSError as error:
        return f"{path.name} is missing or not readable ({error.strerror})"
    return f"{path.name} does not hold what was written (its SHA-256 differs)"
