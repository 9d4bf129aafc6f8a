"""Patches of photographs: natural images that show nothing of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from workloads.data.images import Pixels


def most_patches(photographs: Sequence[npt.NDArray[np.uint8]], shape: tuple[int, int, int]) -> int:
    """How many patches every one of the photographs holds."""
    _, height, width = shape
    return min(int(each.shape[0] // height) * int(each.shape[1] // width) for each in photographs)


def photo_patches(
    photographs: Sequence[npt.NDArray[np.uint8]],
    each: int,
    shape: tuple[int, int, int],
    rng: np.random.Generator,
) -> Pixels:
    """Patches that do not overlap, drawn at random from a grid over each photograph.

    Args:
        photographs: RGB, uint8 [height, width, 3] each.
        each: patches from each photograph.
        shape: channels (1: grey by the ITU-R 601 weights; 3: colour), height, width of a patch.
    Returns: uint8 [each * len(photographs), *shape], photograph after photograph.
    Raises: ValueError where a photograph holds fewer patches, or for another number of channels.
    """
    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"photograph patches have 1 or 3 channels; got {channels!r}")
    patches = []
    for photograph in photographs:
        rows, columns = photograph.shape[0] // height, photograph.shape[1] // width
        if rows * columns < each:
            raise ValueError(
                f"a photograph of {photograph.shape[1]}x{photograph.shape[0]} pixels holds {rows * columns} "
                f"patches of {width}x{height}; {each} are needed"
            )
        pixels = _grey(photograph) if channels == 1 else photograph
        grid = pixels[: rows * height, : columns * width].reshape(rows, height, columns, width, channels)
        cells = grid.transpose(0, 2, 4, 1, 3).reshape(rows * columns, *shape)
        patches.append(cells[rng.choice(len(cells), size=each, replace=False)])
    return np.concatenate(patches)


def _grey(photograph: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    luma = photograph.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    grey: npt.NDArray[np.uint8] = np.rint(luma).astype(np.uint8)[:, :, None]
    return grey
