"""The OOD test sets that are derived or made: what each is made of, with a random stream of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from workloads.data import synthetic
from workloads.data.images import Pixels, Rows, SourceData
from workloads.data.names import HELD_OUT, SYNTHETIC
from workloads.data.photos import most_patches, photo_patches
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
    id_test: Rows
    """The ID test images."""

    @property
    def shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.id_test.shape
        return channels, height, width


def make(name: str, known: Known) -> Pixels:
    """The synthetic set ``name``, uint8 [N, C, H, W]; the same for the same input, always.

    Raises: ValueError for an unknown name; DataMissing where it needs files that are not there.
    """
    if name not in _MAKERS:
        raise ValueError(f"a synthetic OOD set must be one of {', '.join(SYNTHETIC)}; got {name!r}")
    return _MAKERS[name](known)


def held_out(known: Known) -> list[Rows]:
    """The images of the classes that are not in-distribution, of the training and the test part.

    Raises: ValueError where there are none.
    """
    parts = [
        Rows(part.images, without_classes(part.labels, known.id_classes))
        for part in (known.source.train, known.source.test)
    ]
    if not any(len(part) for part in parts):
        raise ValueError(
            f"the OOD set {HELD_OUT} holds the classes that are not in-distribution, and here all of them "
            f"are. Leave some classes out of id_classes, or {HELD_OUT} out of the OOD sets"
        )
    return parts


def _photo_patches(known: Known) -> Pixels:
    from workloads.data.digits import load_photographs

    photographs = load_photographs()
    # Large patches are fewer: they do not overlap, and there are only two photographs.
    each = min(SIZE // len(photographs), most_patches(photographs, known.shape))
    if not each:
        raise ValueError(
            f"photo_patches must be smaller than the photographs, 640x427 pixels; got {known.shape[1:]}"
        )
    return photo_patches(photographs, each, known.shape, generator("ood", "photo_patches"))


def _block_by_block(
    change: Callable[[Pixels, np.random.Generator], Pixels], name: str
) -> Callable[[Known], Pixels]:
    """A set made out of the ID test images by ``change``, which draws for one image after the other: so the
    blocks, whose intermediate numbers fit into memory, come out as the whole would."""

    def made(known: Known) -> Pixels:
        rng = generator("ood", name)
        return np.concatenate([change(block, rng) for block in known.id_test.blocks()])

    return made


_MAKERS: dict[str, Callable[[Known], Pixels]] = {
    "uniform": lambda known: synthetic.uniform(SIZE, known.shape, generator("ood", "uniform")),
    "gaussian": lambda known: synthetic.gaussian(SIZE, known.shape, generator("ood", "gaussian")),
    "blobs": lambda known: synthetic.blobs(SIZE, known.shape, generator("ood", "blobs")),
    "pixel_permuted": _block_by_block(synthetic.pixel_permuted, "pixel_permuted"),
    "phase_randomised": _block_by_block(synthetic.phase_randomised, "phase_randomised"),
    "photo_patches": _photo_patches,
}
