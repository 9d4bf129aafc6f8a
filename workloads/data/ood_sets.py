"""The OOD test sets by name: what each is made of, with a random stream of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workloads.data import synthetic
from workloads.data.images import Pixels, SourceData
from workloads.data.photos import photo_patches
from workloads.data.randomness import generator
from workloads.data.splits import without_classes

SIZE = 1000
"""Images of a set that is made from nothing."""


@dataclass(frozen=True)
class Known:
    """What an OOD set may be derived from."""

    source: SourceData
    """All classes of the source."""
    id_classes: Sequence[int]
    id_test: Pixels
    """The ID test images, uint8 [N, C, H, W]."""

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.id_test.shape
        return channels, height, width


def make(name: str, known: Known) -> Pixels:
    """The OOD set ``name``, uint8 [N, C, H, W]; the same for the same input, always.

    Raises: ValueError for an unknown name, or where the set would be empty; DataMissing where it needs files
        that are not there.
    """
    if name not in _MAKERS:
        raise ValueError(f"an OOD set must be one of {', '.join(_MAKERS)}; got {name!r}")
    return _MAKERS[name](known)


def _held_out(known: Known) -> Pixels:
    parts = [
        without_classes(part, known.id_classes).images for part in (known.source.train, known.source.test)
    ]
    images = np.concatenate(parts)
    if not len(images):
        raise ValueError(
            "the OOD set held_out holds the classes that are not in-distribution, and here all of them are. "
            "Leave some classes out of id_classes, or held_out out of near_ood"
        )
    return images


def _photo_patches(known: Known) -> Pixels:
    from workloads.data.digits import load_photographs

    photographs = load_photographs()
    rng = generator("ood", "photo_patches")
    return photo_patches(photographs, SIZE // len(photographs), known.shape, rng)


_MAKERS: dict[str, Callable[[Known], Pixels]] = {
    "held_out": _held_out,
    "photo_patches": _photo_patches,
    "uniform": lambda known: synthetic.uniform(SIZE, known.shape, generator("ood", "uniform")),
    "pixel_permuted": lambda known: synthetic.pixel_permuted(
        known.id_test, generator("ood", "pixel_permuted")
    ),
    "phase_randomised": lambda known: synthetic.phase_randomised(
        known.id_test, generator("ood", "phase_randomised")
    ),
    "blobs": lambda known: synthetic.blobs(SIZE, known.shape, generator("ood", "blobs")),
}
