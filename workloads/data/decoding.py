"""A part of a source, decoded once: uint8 [N, channels, height, width] in files that are mapped into memory.

They stand in ``<root>/decoded/<name>-<part>-<hash of the raw files>-<what was wanted>/``.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.data.conversion import Raw, convert, described
from workloads.data.fingerprints import fingerprint
from workloads.data.images import UNLABELLED, Labels, Origin, Part, Pixels
from workloads.data.readers import Batch, PartName, Reader
from workloads.data.workshop import Record, install, misfits, read_record, workshop

FORMAT = 1
"""Raised when the same raw files give other pixels than before."""

_KEYS = ("encoding", "conversion", "source_hash", "num_classes", "overlaps")
_SLICE = 64
_MOST_THREADS = 16
_SMALL_BYTES = 16_384


@dataclass(frozen=True)
class Wanted:
    """What a part is to become."""

    name: str
    part: PartName
    channels: int | None = None
    """None: as many as the first image has."""
    size: tuple[int, int] | None = None
    """Height and width; None: those of the images, which must then agree or have a ``fallback``."""
    fallback: tuple[int, int] | None = None
    """Height and width for images of several sizes."""
    num_classes: int | None = None
    """Labels must be below it; None: as many as the files say, if they do."""


class Uneven(ValueError):
    """Images of one part differ in size or channels, and nothing says what they should become."""


def source_hash(reader: Reader, root: Path) -> str:
    """16 hex digits over the raw files of a part; empty where it has none."""
    if not reader.files:
        return ""
    return fingerprint(reader.files, reader.base, f"{FORMAT} {reader.note}", _shelf(root))


def decoded(reader: Reader, wanted: Wanted, root: Path) -> Part:
    """The part, from the files of an earlier call or made now; its images are mapped, read-only.

    Several processes may ask at once: each makes its own and the first one's stays.

    Raises: ValueError for an image or a label that is damaged or out of range, which names the file and the
        row; Uneven.
    """
    found = source_hash(reader, root)
    settings = repr((FORMAT, reader.layout, reader.note, wanted))
    known_by = hashlib.sha256(settings.encode()).hexdigest()[:8]
    target = _shelf(root) / "-".join(filter(None, (wanted.name, wanted.part, found, known_by)))
    record = _read(target)
    if record is None or misfits(target, record, record["files"]):
        with workshop(target.parent, target.name) as made:
            record = _decode(reader, wanted, made)
            record["source_hash"] = found
            record["files"] = {each.name: {"size": each.stat().st_size} for each in sorted(made.iterdir())}
            record = install(made, target, record, _read)
    images: Pixels = np.load(target / f"{wanted.part}.npy", mmap_mode="r")
    return Part(
        images,
        np.load(target / f"{wanted.part}_labels.npy"),
        origin=Origin(record["encoding"], record["conversion"], record["source_hash"]),
        overlaps={name: np.load(target / f"{name}_overlap.npy") for name in record["overlaps"]},
        num_classes=record["num_classes"],
    )


def check_label(batch: Batch, row: int, num_classes: int | None) -> None:
    """Raises: ValueError which names the image, where it has a label that is not one of 0..num_classes-1."""
    label = int(batch.labels[row])
    if label < UNLABELLED or (num_classes is not None and label >= num_classes):
        rule = f"in 0..{num_classes - 1}" if num_classes is not None else ">= 0"
        raise ValueError(f"{batch.where(row)}: the label must be {rule}; got {label}")


def pixels_at(
    batch: Batch, row: int, channels: int | None, size: tuple[int, int] | None
) -> tuple[npt.NDArray[np.uint8], Raw]:
    """One image of a batch. Raises: ValueError which names it where it cannot be decoded."""
    try:
        return convert(batch.images[row], channels, size)
    except Exception as error:  # PIL's decoders fail with errors of many types
        raise ValueError(
            f"{batch.where(row)}: must be an image that can be decoded; got {type(error).__name__}: {error}"
        ) from error


def _decode(reader: Reader, wanted: Wanted, made: Path) -> Record:
    try:
        return _fill(reader, wanted, made)
    except Uneven:
        if wanted.fallback is None:
            raise
        return _fill(reader, replace(wanted, size=wanted.fallback), made)


def _fill(reader: Reader, wanted: Wanted, made: Path) -> Record:
    """Decode into ``made``: on all cores, and holding no more than some batches of encoded images."""
    num_classes = wanted.num_classes or reader.num_classes
    count = reader.count()
    if not count:
        raise ValueError(f"{reader.base}: the {wanted.part} part must hold images; got none")
    images: Any = None
    labels: list[Labels] = []
    overlaps: dict[str, list[Labels]] = {}
    kinds: Counter[Raw] = Counter()
    start = 0
    with contextlib.ExitStack() as stack:
        for batch in filter(len, reader.batches()):
            for row in (int(batch.labels.argmin()), int(batch.labels.argmax())):
                check_label(batch, row, num_classes)
            if images is None:
                pool = stack.enter_context(ThreadPoolExecutor(_threads(batch)))
                first, _ = pixels_at(batch, 0, wanted.channels, wanted.size)
                images = np.lib.format.open_memmap(
                    made / f"{wanted.part}.npy", mode="w+", dtype=np.uint8, shape=(count, *first.shape)
                )
            room = images[start : start + len(batch.images)]
            jobs = [pool.submit(_slice, batch, begin, room, wanted) for begin in _starts(batch)]
            try:
                # In order, so that of several damaged images the first one is named.
                for job in jobs:
                    kinds += job.result()
            except BaseException:
                for job in jobs:
                    job.cancel()
                raise
            labels.append(batch.labels)
            for name, numbers in batch.overlaps.items():
                overlaps.setdefault(name, []).append(numbers)
            start += len(batch.images)
    if start != count:
        raise ValueError(f"{reader.base}: the {wanted.part} part must hold {count} images; got {start}")
    np.save(made / f"{wanted.part}_labels.npy", np.concatenate(labels))
    for name, parts in overlaps.items():
        np.save(made / f"{name}_overlap.npy", np.concatenate(parts))
    _, channels, height, width = images.shape
    images.flush()
    return {
        "encoding": "+".join(sorted({kind.encoding for kind in kinds})),
        "conversion": described(kinds, channels, (height, width)),
        "num_classes": num_classes,
        "overlaps": list(overlaps),
    }


def _slice(batch: Batch, begin: int, room: Pixels, wanted: Wanted) -> Counter[Raw]:
    kinds: Counter[Raw] = Counter()
    for row in range(begin, min(begin + _SLICE, len(batch.images))):
        pixels, kind = pixels_at(batch, row, wanted.channels, wanted.size)
        if pixels.shape != room.shape[1:]:
            raise Uneven(
                f"{batch.where(row)}: must be like the first image, {_shape(room.shape[1:])}; "
                f"got {_shape(pixels.shape)}"
            )
        room[row] = pixels
        kinds[kind] += 1
    return kinds


def _starts(batch: Batch) -> Iterator[int]:
    return iter(range(0, len(batch.images), _SLICE))


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{'grey' if channels == 1 else 'colour'}, {width}x{height} pixels"


def _threads(batch: Batch) -> int:
    """One for small images: the interpreter's share of the work is the larger one then, and threads only wait
    for each other (10,000 CIFAR images on two cores: 0.8 s with one thread, 1.0 s with two)."""
    first = batch.images[0]
    if not isinstance(first, Path) and len(first) < _SMALL_BYTES:
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def _read(target: Path) -> Record | None:
    return read_record(target, _KEYS)


def _shelf(root: Path) -> Path:
    return root / "decoded"
