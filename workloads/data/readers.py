"""What every layout of raw files looks like to the decoder: images, still encoded, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from workloads.data.images import UNLABELLED, Labels

PartName = Literal["train", "test"]

BATCH = 1000

TEST_NAMES = ("test", "validation", "valid", "val")
"""What the test part may be called in folders and files; the first that is there is taken."""

Encoded = bytes | Path | npt.NDArray[np.uint8]
"""An image: the content of an image file, its path, or plain pixels [H, W] or [H, W, 3]."""


@dataclass(frozen=True)
class Batch:
    """Some images of a part, in order."""

    images: Sequence[Encoded]
    labels: Labels
    """UNLABELLED where there is none."""
    where: Callable[[int], str]
    """The place of the image at an index of this batch, for a message."""
    overlaps: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


class Reader(Protocol):
    """One part of a source in one layout; nothing is read before ``batches`` but names and sizes."""

    @property
    def layout(self) -> str:
        """``parquet``, ``torchvision``, ``folder`` or ``bundled``."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that decides the content, sorted."""

    @property
    def base(self) -> Path:
        """The folder that all files are below."""

    @property
    def note(self) -> str:
        """What else decides the content: hashed with the files."""

    @property
    def num_classes(self) -> int | None:
        """Where the files say it."""

    def count(self) -> int:
        """Images, without decoding any. Raises: ValueError where a file is not of its format."""

    def batches(self) -> Iterator[Batch]:
        """All images in order. Raises: ValueError or DataMissing where a file is damaged."""


@dataclass(frozen=True)
class Loaded:
    """A part that is loaded whole, by a function: arrays, or a list of image files."""

    layout: str
    files: tuple[Path, ...]
    base: Path
    load: Callable[[], tuple[Any, Labels]]
    """(images: paths, or pixels uint8 [N, H, W] or [N, H, W, 3]; labels)."""
    size: int | None = None
    note: str = ""
    num_classes: int | None = None

    def count(self) -> int:
        return len(self.load()[1]) if self.size is None else self.size

    def batches(self) -> Iterator[Batch]:
        images, labels = self.load()
        for start in range(0, len(labels), BATCH):
            some = images[start : start + BATCH]

            def where(row: int, start: int = start, some: Sequence[Any] = some) -> str:
                return str(some[row]) if isinstance(some[row], Path) else f"{self.base}: image {start + row}"

            yield Batch(some, labels[start : start + BATCH], where)


def unlabelled(count: int) -> Labels:
    """Labels for images that have none."""
    return np.full(count, UNLABELLED, dtype=np.int64)
