"""Labelled images, as every part of the package hands them on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""Images, uint8 [N, channels, height, width]."""

Labels = npt.NDArray[np.int64]
"""Class indices, int64 [N]."""


@dataclass(frozen=True)
class Images:
    """Images with their labels."""

    images: Pixels
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: npt.NDArray[np.int64]) -> Images:
        """The images at ``index``, in its order."""
        return Images(self.images[index], self.labels[index])


@dataclass(frozen=True)
class SourceData:
    """What a data source reads: all its classes, with its own labels, and its own fixed test part."""

    train: Images
    test: Images
