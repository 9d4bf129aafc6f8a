"""Data made ready once, so that a trial only maps files into memory.

``prepare`` reads the source, splits, makes the noise and OOD sets, and writes one folder named by a hash of
the settings. The folder appears whole or not at all; several processes may prepare the same data at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.contract import DataConfig, DataFacts, DataMissing, NoiseConfig, SealedTest, Stage
from workloads.data.assembly import Assembled, assemble
from workloads.data.images import Images, Pixels

FORMAT = 1
"""Raised when the same settings give other files than before: old folders are then no longer looked at."""

_SEALED_KINDS = frozenset({"test", "near", "far"})
_FACTS = "facts.json"
_STALE_SECONDS = 24 * 3600

__all__ = ["FORMAT", "Images", "PreparedData", "folder", "prepare", "verify"]


def folder(data: DataConfig, noise: NoiseConfig, root: Path) -> Path:
    """Where these data are, or will be, prepared."""
    settings = {"format": FORMAT, "data": dataclasses.asdict(data), "noise": dataclasses.asdict(noise)}
    text = json.dumps(settings, sort_keys=True)
    return root / f"{data.source}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def prepare(data: DataConfig, noise: NoiseConfig, root: Path) -> DataFacts:
    """Make the data ready under ``root``, unless they are; a damaged folder is made again.

    The check for damage is cheap (every file is there and has its size); :func:`verify` reads every byte.

    Raises: ValueError for settings that name unknown or impossible sets; DataMissing where the source's
        files are not there.
    """
    target = folder(data, noise, root)
    record = _read_record(target)
    if record is None or _misfits(target, record, record["files"]):
        record = _build(assemble(data, noise), target)
    return _facts(record)


def verify(data: DataConfig, noise: NoiseConfig, root: Path) -> list[str]:
    """Every fault of the prepared folder, reading every byte; an empty list where all is well."""
    target = folder(data, noise, root)
    record = _read_record(target)
    if record is None:
        return [f"{target / _FACTS} is missing or damaged"]
    faults = _misfits(target, record, record["files"])
    return faults or [
        f"{target / name} does not hold what was written (its hash differs)"
        for name, wanted in record["files"].items()
        if hashlib.sha256((target / name).read_bytes()).hexdigest() != wanted["sha256"]
    ]


class PreparedData:
    """The prepared data as one stage may see them.

    A search trial cannot reach test images or OOD sets: asking raises before any file is touched, and
    nothing else here needs those files to be there.
    """

    def __init__(self, target: Path, record: dict[str, Any], stage: Stage) -> None:
        self._folder = target
        self._record = record
        self._stage = stage

    @classmethod
    def open(cls, data: DataConfig, noise: NoiseConfig, root: Path, *, stage: Stage) -> PreparedData:
        """Open what ``prepare`` made with the same settings.

        Raises: DataMissing where it is not there, or a file that this stage may read is damaged.
        """
        target = folder(data, noise, root)
        record = _read_record(target)
        if record is None:
            raise DataMissing(f"no prepared data in {target}. Run prepare with the same settings first")
        opened = cls(target, record, stage)
        names = [name for name in record["files"] if opened._may_read(record["files"][name]["kind"])]
        faults = _misfits(target, record, names)
        if faults:
            raise DataMissing("; ".join(faults) + ". Run prepare again: it makes a damaged folder anew")
        return opened

    @cached_property
    def facts(self) -> DataFacts:
        """What the data turned out to be (numbers and hashes, also of the sealed sets)."""
        return _facts(self._record)

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel over the training images, pixels in [0, 1]."""
        return tuple(self._record["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel over the training images, pixels in [0, 1]; never 0."""
        return tuple(self._record["std"])

    def train(self) -> Images:
        """The training images: read-only, mapped into memory."""
        return self._labelled("train")

    def validation(self) -> Images:
        """The validation images, split off from the training part."""
        return self._labelled("validation")

    def noise(self) -> dict[str, Pixels]:
        """The Gaussian-noise validation sets by name, e.g. ``noise_0.25``."""
        return self._sets("noise")

    def test(self) -> Images:
        """The ID test images. Raises SealedTest in stage ``search``."""
        self._unseal("the test images")
        return self._labelled("test")

    def ood(self) -> dict[str, Pixels]:
        """The OOD test sets by name, near before far. Raises SealedTest in stage ``search``."""
        self._unseal("the OOD test sets")
        return {**self._sets("near"), **self._sets("far")}

    def _may_read(self, kind: str) -> bool:
        return kind not in _SEALED_KINDS or self._stage in ("confirm", "audit")

    def _unseal(self, what: str) -> None:
        if not self._may_read("test"):
            raise SealedTest(
                f"{what} are sealed: only a confirm or audit trial may open them; got {self._stage!r}"
            )

    def _labelled(self, name: str) -> Images:
        labels: npt.NDArray[np.int64] = np.load(self._folder / f"{name}_labels.npy")
        return Images(self._pixels(name), labels)

    def _sets(self, kind: str) -> dict[str, Pixels]:
        return {name: self._pixels(name) for name, each in self.facts.sets.items() if each["kind"] == kind}

    def _pixels(self, name: str) -> Pixels:
        pixels: Pixels = np.load(self._folder / f"{name}.npy", mmap_mode="r")
        return pixels


def _read_record(target: Path) -> dict[str, Any] | None:
    """What ``facts.json`` says, or None where it is missing or unreadable."""
    try:
        record: dict[str, Any] = json.loads((target / _FACTS).read_text())
        _facts(record)
        whole = {"mean", "std", "files"} <= record.keys()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return record if whole else None


def _misfits(target: Path, record: dict[str, Any], names: Sequence[str] | dict[str, Any]) -> list[str]:
    """The files among ``names`` that are missing or do not have the size that was written."""
    faults = []
    for name in names:
        path, size = target / name, record["files"][name]["size"]
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            faults.append(f"{path} is " + ("missing" if found is None else f"{found} bytes, not {size}"))
    return faults


def _facts(record: dict[str, Any]) -> DataFacts:
    values = dict(record["facts"])
    return DataFacts(**{**values, "image_shape": tuple(values["image_shape"])})


def _build(assembled: Assembled, target: Path) -> dict[str, Any]:
    """Write everything beside ``target``, then move it there in one step."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target)
    workshop = target.parent / f".{target.name}.{uuid.uuid4().hex}"
    workshop.mkdir()
    try:
        files = {}
        for name, (kind, array) in assembled.arrays.items():
            np.save(workshop / f"{name}.npy", array)
            content = (workshop / f"{name}.npy").read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            files[f"{name}.npy"] = {"kind": kind, "size": len(content), "sha256": digest}
        made = {
            "facts": dataclasses.asdict(assembled.facts),
            "mean": list(assembled.mean),
            "std": list(assembled.std),
            "files": files,
        }
        text = json.dumps(made, indent=1) + "\n"
        (workshop / _FACTS).write_text(text)
        return _install(workshop, target, json.loads(text))
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _install(workshop: Path, target: Path, record: dict[str, Any]) -> dict[str, Any]:
    """Move the finished workshop to ``target``; returns the record that is in force there."""
    try:
        workshop.rename(target)
        return record
    except OSError:
        if not target.is_dir():
            raise
    found = _read_record(target)
    if found is not None and not _misfits(target, found, found["files"]):
        return found  # Another process was first.
    # Repaired file by file: several processes may do so at once, and no file that is good ever goes away.
    # Facts of other content go first and ours come last, so that they never vouch for a half-repaired folder.
    if found != record:
        (target / _FACTS).unlink(missing_ok=True)
    for name in (*record["files"], _FACTS):
        (workshop / name).replace(target / name)
    return record


def _sweep(target: Path) -> None:
    """Remove workshops of processes that were killed; a young one may still be at work."""
    for workshop in target.parent.glob(f".{target.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - workshop.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(workshop)
