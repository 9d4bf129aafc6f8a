"""What the measured model said, kept: every score and metric can be computed from these files again.

A folder holds, for every set, ``<set>.npz`` (logits, features and, where there are any, labels and divisor;
compressed), ``head.npz`` and ``index.json``, which lists each file with its SHA-256 and holds its own.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from workloads.arrays import packed, read_arrays
from workloads.evaluation.evidence import Evidence, Head
from workloads.sealed import Damaged, file_digest, read_sealed
from workloads.training.storage import write_bytes, write_json

OUTPUTS = "outputs"
"""Folder of a trial's saved outputs."""
INDEX = "index.json"
SCORES_FILE = "scores.npz"
RELIABILITY = "reliability.json"
_HEAD = "head.npz"
_FORMAT = 3


@dataclass(frozen=True)
class MeasuredSet:
    """One evaluated set of images."""

    kind: str
    """train, test, validation, noise, near, far, or added (after the study was finished)."""
    evidence: Evidence


@dataclass(frozen=True)
class Outputs:
    """All sets by name, and the head."""

    sets: Mapping[str, MeasuredSet]
    head: Head
    parameters: Mapping[str, npt.NDArray[Any]]
    """All that the head holds, by the names in its state."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Sets that the model has no finite answer for, and their kinds."""

    def of_kind(self, *kinds: str) -> dict[str, Evidence]:
        return {name: each.evidence for name, each in self.sets.items() if each.kind in kinds}

    def __getitem__(self, name: str) -> Evidence:
        return self.sets[name].evidence


def write_outputs(folder: Path, outputs: Outputs) -> None:
    """Write everything; the index comes last, so that what it lists is there.

    Where this very model was measured here before, the sets that were added to it since then stay.
    """
    digest = write_arrays(folder / _HEAD, outputs.parameters)
    added = _added(folder, digest)
    index = {
        "format": _FORMAT,
        "head": {"file": _HEAD, "sha256": digest, "kind": outputs.head.kind},
        "sets": {name: _write_set(folder, name, each) for name, each in outputs.sets.items()} | added,
        "left_out": dict(outputs.left_out),
    }
    write_json(folder / INDEX, index)


def add_set(folder: Path, name: str, added: MeasuredSet) -> None:
    """Write one more set beside those that are there; one of the same name is replaced."""
    index = _read_index(folder)
    index["sets"][name] = _write_set(folder, name, added)
    write_json(folder / INDEX, index)


def read_outputs(folder: Path) -> Outputs:
    """Everything that :func:`write_outputs` wrote and :func:`add_set` added.

    Raises: Damaged naming the file that is missing or is not what was written.
    """
    index = _read_index(folder)
    head = index["head"]
    arrays = _read_arrays(folder / head["file"], head["sha256"])
    sets = {}
    for name, entry in index["sets"].items():
        said = _read_arrays(folder / entry["file"], entry["sha256"])
        evidence = Evidence(said["logits"], said["features"], said.get("labels"), said.get("divisor"))
        sets[name] = MeasuredSet(entry["kind"], evidence)
    last = Head(head["kind"], arrays["weight"], arrays.get("bias"))
    return Outputs(sets, last, arrays, index["left_out"])


def read_scores(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The saved scores by ``<label>/<set>``; none where they are missing or damaged: the outputs give them
    again."""
    try:
        return read_arrays(folder / SCORES_FILE)
    except Damaged:
        return {}


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Write a compressed .npz file atomically; returns the SHA-256 of its bytes."""
    content = packed(arrays)
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def _write_set(folder: Path, name: str, each: MeasuredSet) -> dict[str, Any]:
    said = each.evidence
    arrays: dict[str, npt.NDArray[Any]] = {"logits": said.logits, "features": said.features}
    if said.labels is not None:
        arrays["labels"] = said.labels
    if said.divisor is not None:
        arrays["divisor"] = said.divisor
    digest = write_arrays(folder / f"{name}.npz", arrays)
    return {"file": f"{name}.npz", "sha256": digest, "kind": each.kind, "size": len(said)}


def _added(folder: Path, head: str) -> dict[str, Any]:
    """The entries of the sets that were added to this model and are whole; ``head`` is its head's SHA-256."""
    try:
        index = _read_index(folder)
    except Damaged:
        return {}
    if index["head"]["sha256"] != head:
        return {}
    found = {}
    for name, entry in index["sets"].items():
        if entry["kind"] == "added":
            with contextlib.suppress(OSError):
                if file_digest(folder / entry["file"]) == entry["sha256"]:
                    found[name] = entry
    return found


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    index = read_sealed(path)
    if index.get("format") != _FORMAT:
        raise Damaged(f"{path} must have format {_FORMAT}; got {index.get('format')!r}")
    return index


def _read_arrays(path: Path, digest: str) -> dict[str, npt.NDArray[Any]]:
    arrays = read_arrays(path)
    # Whole, but perhaps of another run.
    if file_digest(path) != digest:
        raise Damaged(f"{path} does not hold what was written (its SHA-256 differs)")
    return arrays
