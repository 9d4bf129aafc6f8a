"""The far-OOD images that need no download, at several shapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from workloads.data import synthetic
from workloads.data.images import Pixels
from workloads.data.randomness import generator

SHAPES = [(1, 8, 8), (3, 8, 12), (1, 7, 9), (3, 32, 32)]


def _smooth(shape: tuple[int, int, int], count: int = 12) -> Pixels:
    """Smooth images away from 0 and 255, different in every channel."""
    channels, height, width = shape
    y, x = np.mgrid[0:height, 0:width]
    waves = [
        128 + 40 * np.sin(2 * np.pi * (x / width + n / 7)) + 25 * np.cos(2 * np.pi * y / height + c)
        for n in range(count)
        for c in range(channels)
    ]
    images: Pixels = np.rint(np.stack(waves)).astype(np.uint8).reshape(count, *shape)
    return images


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_generator_gives_the_same_images_and_another_gives_others(
    shape: tuple[int, int, int],
) -> None:
    makers: dict[str, Callable[[int], Pixels]] = {
        "gaussian": lambda seed: synthetic.gaussian(6, shape, generator(seed)),
        "uniform": lambda seed: synthetic.uniform(6, shape, generator(seed)),
        "blobs": lambda seed: synthetic.blobs(6, shape, generator(seed)),
        "pixel_permuted": lambda seed: synthetic.pixel_permuted(_smooth(shape), generator(seed)),
        "phase_randomised": lambda seed: synthetic.phase_randomised(_smooth(shape), generator(seed)),
    }
    for name, make in makers.items():
        images = make(0)
        assert images.dtype == np.uint8, name
        assert images.shape[1:] == shape, name
        np.testing.assert_array_equal(images, make(0), err_msg=name)
        assert (images != make(1)).any(), name


def test_uniform_noise_uses_every_grey_level_alike() -> None:
    counts = np.bincount(synthetic.uniform(1000, (1, 8, 8), generator("test")).ravel(), minlength=256)
    # 64,000 draws: 250 a level, standard deviation 15.8.
    assert counts.min() > 250 - 5 * 15.8
    assert counts.max() < 250 + 5 * 15.8


def test_gaussian_noise_is_clipped_as_often_as_its_sigma_says() -> None:
    images = synthetic.gaussian(1000, (1, 8, 8), generator("test"))
    # Black is what rounds to 0: N(.5, .5) below .5 / 255, which is -.996 sigmas; 64,000 draws, five standard
    # errors of the share.
    share = norm.cdf((0.5 / 255 - 0.5) / 0.5)
    assert abs((images == 0).mean() - share) < 5 * np.sqrt(share / images.size)
    assert abs((images == 255).mean() - share) < 5 * np.sqrt(share / images.size)


@pytest.mark.parametrize("shape", SHAPES)
def test_permuted_pixels_are_the_same_pixels_elsewhere(shape: tuple[int, int, int]) -> None:
    images = _smooth(shape)
    permuted = synthetic.pixel_permuted(images, generator("test"))
    channels = shape[0]
    for before, after in zip(images, permuted, strict=True):
        # Columns are pixels: sorting them as a whole shows that their channels stayed together.
        pixels = sorted(map(tuple, before.reshape(channels, -1).T.tolist()))
        assert sorted(map(tuple, after.reshape(channels, -1).T.tolist())) == pixels
        assert (before != after).any()


def test_every_image_is_permuted_in_an_order_of_its_own() -> None:
    images = np.tile(np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8), (50, 1, 1, 1))
    permuted = synthetic.pixel_permuted(images, generator("test"))
    assert len({image.tobytes() for image in permuted}) == 50


@pytest.mark.parametrize("shape", SHAPES)
def test_randomised_phase_keeps_the_amplitude_of_every_frequency(shape: tuple[int, int, int]) -> None:
    images = _smooth(shape)
    mixed = synthetic.phase_randomised(images, generator("test"))
    assert mixed.min() > 0
    assert mixed.max() < 255
    before, after = np.abs(np.fft.fft2(images)), np.abs(np.fft.fft2(mixed))
    # Rounding moves a pixel by .29 (root mean square), a frequency by that times sqrt(pixels): six of those.
    assert np.abs(before - after).max() < 6 * 0.29 * np.sqrt(shape[1] * shape[2])
    assert np.abs(images.astype(float) - mixed).mean() > 5


def test_randomised_phase_keeps_the_mean_of_every_channel() -> None:
    images = _smooth((3, 32, 32))
    mixed = synthetic.phase_randomised(images, generator("test"))
    np.testing.assert_allclose(mixed.mean(axis=(2, 3)), images.mean(axis=(2, 3)), atol=0.1)


def test_blobs_are_black_or_bright_and_never_all_black() -> None:
    images = synthetic.blobs(300, (1, 8, 8), generator("test"))
    lit = images > 0
    assert lit.any(axis=(1, 2, 3)).all()
    # What is not black is at least .75 of white: 191.25, rounded.
    assert images[lit].min() >= 191
    assert 0.2 < lit.mean() < 0.6


def test_blobs_are_connected_areas_and_not_single_pixels() -> None:
    lit = synthetic.blobs(300, (1, 8, 8), generator("test")) > 0
    beside = lit[..., 1:][lit[..., :-1]].mean()
    # In independent noise a lit pixel's neighbour would be lit as often as any pixel, about .4.
    assert beside > lit.mean() + 0.3
