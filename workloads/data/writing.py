"""Sets to files, in one pass over their pixels that also hashes, counts and averages them."""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.catalogue import Value
from workloads.contract import DataFacts
from workloads.data.assembly import Assembled, Portion
from workloads.data.images import Pixels
from workloads.data.workshop import Record


def write(assembled: Assembled, made: Path) -> Record:
    """Write every set of a study into ``made``.

    Returns: ``facts`` (as in DataFacts), ``mean`` and ``std`` of each channel over the training images,
        pixels in [0, 1], and ``files``: the kind, size and SHA-256 of every file.
    """
    files: dict[str, dict[str, Value]] = {}
    sets: dict[str, dict[str, Value]] = {}
    training: set[bytes] = set()
    moments = _Moments()
    for portion in assembled.portions:
        digest = hashlib.sha256(_head(np.dtype(np.uint8), portion.shape))
        images = _File(made / f"{portion.name}.npy", np.dtype(np.uint8), portion.shape)
        repeated = 0
        with images:
            for block in portion.blocks():
                digest.update(block.data)
                images.write(block)
                if portion.kind == "train":
                    moments.add(block)
                    training.update(_rows(block))
                elif portion.kind != "noise":
                    repeated += sum(row in training for row in _rows(block))
        files[f"{portion.name}.npy"] = {"kind": portion.kind, **images.described()}
        if portion.labels is not None:
            labels = np.ascontiguousarray(portion.labels)
            digest.update(_head(labels.dtype, labels.shape) + labels.tobytes())
            with _File(made / f"{portion.name}_labels.npy", labels.dtype, labels.shape) as beside:
                beside.write(labels)
            files[f"{portion.name}_labels.npy"] = {"kind": portion.kind, **beside.described()}
        sets[portion.name] = _described(portion, digest.hexdigest()[:16], repeated)
    mean, std = moments.result()
    return {"facts": _facts(assembled, sets), "mean": mean, "std": std, "files": files}


def _facts(assembled: Assembled, sets: dict[str, dict[str, Value]]) -> dict[str, Any]:
    train, validation, test = assembled.portions[:3]
    content = json.dumps([[name, each["kind"], each["hash"]] for name, each in sets.items()])
    facts = DataFacts(
        hash=hashlib.sha256(content.encode()).hexdigest()[:16],
        num_train=train.shape[0],
        num_validation=validation.shape[0],
        num_test=test.shape[0],
        num_classes=assembled.num_classes,
        image_shape=train.shape[1:],
        sets=sets,
        train_counts=tuple(np.bincount(np.asarray(train.labels), minlength=assembled.num_classes).tolist()),
    )
    return dict(vars(facts))


def _described(portion: Portion, content: str, repeated: int) -> dict[str, Value]:
    origin = portion.origin
    described: dict[str, Value] = {
        "kind": portion.kind,
        "size": portion.shape[0],
        "hash": content,
        "encoding": origin.encoding,
        "conversion": origin.conversion,
    }
    if origin.source_hash:
        described["source_hash"] = origin.source_hash
    if portion.kind not in ("train", "noise"):
        described["duplicates_of_train"] = repeated
    if portion.dropped_overlap is not None:
        described["dropped_overlap"] = portion.dropped_overlap
    return described


def _head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    return f"{dtype.str}{list(shape)}".encode()


def _rows(block: Pixels) -> Iterable[bytes]:
    """A hash of every image. 16 bytes: two different images never share one by chance."""
    return (hashlib.blake2b(image.data, digest_size=16).digest() for image in block)


class _File:
    """A .npy file written piece by piece, and hashed on the way."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._header = io.BytesIO()
        described = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._header, described)
        self._path = path
        self._digest = hashlib.sha256()

    def __enter__(self) -> _File:
        self._file = self._path.open("wb")
        self._add(self._header.getvalue())
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, block: npt.NDArray[Any]) -> None:
        self._add(block.data)

    def _add(self, content: bytes | memoryview) -> None:
        self._digest.update(content)
        self._file.write(content)

    def described(self) -> dict[str, Value]:
        """Once it is closed."""
        return {"size": self._path.stat().st_size, "sha256": self._digest.hexdigest()}


class _Moments:
    """Mean and standard deviation of each channel, from exact whole-number sums."""

    def __init__(self) -> None:
        self._count = 0
        self._sum: Any = 0
        self._squares: Any = 0

    def add(self, block: Pixels) -> None:
        self._count += block.size // block.shape[1]
        self._sum = self._sum + block.sum(axis=(0, 2, 3), dtype=np.uint64)
        squares = np.square(block, dtype=np.uint16)
        self._squares = self._squares + squares.sum(axis=(0, 2, 3), dtype=np.uint64)

    def result(self) -> tuple[list[float], list[float]]:
        mean, std = [], []
        for total, squares in zip(self._sum.tolist(), self._squares.tolist(), strict=True):
            mean.append(total / (255 * self._count))
            spread = math.sqrt(self._count * squares - total * total) / (255 * self._count)
            # A constant channel would be divided by 0.
            std.append(spread if spread > 0.0 else 1.0)
        return mean, std
