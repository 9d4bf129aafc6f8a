"""Patches cut from photographs."""

from __future__ import annotations

import numpy as np
import pytest

from workloads.data.photos import most_patches, photo_patches
from workloads.data.randomness import generator


def _photograph(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Every pixel tells where it was: row, column, 7."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([y, x, np.full_like(x, 7)], axis=2).astype(np.uint8)


def test_patches_lie_on_a_grid_keep_their_pixels_and_never_repeat() -> None:
    patches = photo_patches([_photograph(50, 70)], 48, (3, 8, 8), generator("test"))
    corners = {(int(patch[0, 0, 0]), int(patch[1, 0, 0])) for patch in patches}
    assert corners == {(row, column) for row in range(0, 48, 8) for column in range(0, 64, 8)}
    for patch in patches:
        row, column = int(patch[0, 0, 0]), int(patch[1, 0, 0])
        expected = _photograph(50, 70)[row : row + 8, column : column + 8].transpose(2, 0, 1)
        np.testing.assert_array_equal(patch, expected)


def test_each_photograph_gives_the_same_number_of_patches_in_turn() -> None:
    first, second = _photograph(16, 16), _photograph(16, 16)
    second[..., 2] = 9
    patches = photo_patches([first, second], 3, (3, 8, 8), generator("test"))
    assert patches[:, 2, 0, 0].tolist() == [7, 7, 7, 9, 9, 9]


def test_grey_patches_are_the_rounded_itu_601_luma() -> None:
    photograph = np.broadcast_to(np.array([200, 100, 50], dtype=np.uint8), (8, 8, 3))
    patch = photo_patches([photograph], 1, (1, 8, 8), generator("test"))
    # .299 * 200 + .587 * 100 + .114 * 50 = 124.2
    assert patch.shape == (1, 1, 8, 8)
    assert (patch == 124).all()


def test_a_photograph_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="holds 4 patches of 8x8; 5 are needed"):
        photo_patches([_photograph(16, 16)], 5, (1, 8, 8), generator("test"))


def test_the_smallest_photograph_says_how_many_patches_every_one_has() -> None:
    assert most_patches([_photograph(50, 70), _photograph(17, 24)], (3, 8, 8)) == 6


def test_two_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="1 or 3 channels; got 2"):
        photo_patches([_photograph(16, 16)], 1, (2, 8, 8), generator("test"))
