"""Images and labels, as every part of the package hands them on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Images, uint8 [N, channels, height, width]."""

Labels = npt.NDArray[np.int64]
"""Class indices, int64 [N]."""

Index = npt.NDArray[np.int64]
"""Which rows of an array, int64 [N]."""

UNLABELLED = -1
"""The label of an image that has none."""

_BLOCK = 1024


@dataclass(frozen=True)
class Images:
    """Images with their labels."""

    images: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Origin:
    """Where images are from, and what was done to them on the way."""

    encoding: str = "raw"
    """``jpeg``, ``png`` ... as the files were, several joined by +; ``raw``: plain pixels; ``synthetic``."""
    conversion: str = "none"
    """E.g. ``resize 28->32, grey_to_colour``; none: every pixel is as it was published."""
    source_hash: str = ""
    """Over the names, sizes and contents of the raw files, 16 hex digits; empty where there are none."""


@dataclass(frozen=True)
class Part(Images):
    """The training or test part of a source; its images may be a mapped file."""

    origin: Origin = Origin()
    overlaps: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    """By ID source: 0 for every image that shows none of its classes."""
    num_classes: int | None = None
    """Where the files say it."""


@dataclass(frozen=True)
class SourceData:
    """What a data source reads: all its classes, with its own labels, and its own fixed test part."""

    train: Part
    test: Part


@dataclass(frozen=True)
class Rows:
    """Images chosen out of a larger array, which may be a mapped file: they are read block by block.

    So no more than a block of a large set is in memory at once, however many copies its files hold.
    """

    base: Pixels
    index: Index

    @classmethod
    def every(cls, images: Pixels) -> Rows:
        """All of an array."""
        return cls(images, np.arange(len(images)))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height, width."""
        _, channels, height, width = self.base.shape
        return len(self.index), channels, height, width

    def blocks(self) -> Iterator[Pixels]:
        """The images in order, some at a time."""
        for start in range(0, len(self.index), _BLOCK):
            yield self.base[self.index[start : start + _BLOCK]]

    def array(self) -> Pixels:
        """All of them in memory."""
        return self.base[self.index]
