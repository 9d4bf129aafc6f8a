"""Corruptions against the statistics of their definition, loops, colorsys, and kernels printed by OpenCV."""

from __future__ import annotations

import colorsys
import math
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.stats import norm, poisson

from workloads.evaluation.corruptions import CORRUPTIONS, SEVERITIES, applicable, corrupt

Array = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise")
# A value that falls between two levels may be rounded to either, as the last bit of its float has it.
ONE_LEVEL = 1

# One quarter of each symmetric 5x5 kernel, from its centre outwards, rounded to six digits: what disk() of
# the source returns with OpenCV 5.0.
DEFOCUS = (
    ((0.844973, 0.037126, 0), (0.037126, 0.001631, 0), (0, 0, 0)),
    ((0.619347, 0.08382, 0), (0.08382, 0.011344, 0), (0, 0, 0)),
    ((0.445213, 0.111015, 0), (0.111015, 0.027682, 0), (0, 0, 0)),
    ((0.2, 0.199998, 0.000001), (0.199998, 0.000001, 0), (0.000001, 0, 0)),
    ((0.111111, 0.111111, 0), (0.111111, 0.111111, 0), (0, 0, 0)),
)


def _smooth(side: int = 32) -> Pixels:
    """One RGB image of slow waves of moderate colours, [1, 3, side, side]."""
    row, column = np.mgrid[:side, :side] / side
    waves = [np.sin(2 * np.pi * (a * row + b * column)) for a, b in ((1, 0.5), (0.5, 1.5), (2, 1))]
    return np.asarray(np.rint(110 + 60 * np.stack(waves))[None], dtype=np.uint8)


def _random(count: int = 5, channels: int = 3, height: int = 12, width: int = 9) -> Pixels:
    """Images of random levels; the first is black, the second grey, the third white."""
    images = np.random.default_rng(2).integers(0, 256, (count, channels, height, width), dtype=np.uint8)
    images[:3] = np.array([0, 100, 255], dtype=np.uint8)[:count, None, None, None]
    return images


def _flat(level: int) -> Pixels:
    """Many pixels of one level: 64 images, different in their first pixel, so that their noise differs."""
    images = np.full((64, 3, 32, 32), level, dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(64)
    return images


def _change(images: Pixels, changed: Pixels) -> float:
    return float(np.abs(changed.astype(np.float64) - images).mean())


def _differs(found: Pixels, expected: Array) -> float:
    """The largest distance in levels to the value that an independent computation gave, not rounded."""
    return float(np.abs(found - expected).max())


def _looped_correlation(image: Array, kernel: Array, mirror: bool) -> Array:
    """Correlation of [H, W] with an odd kernel; beyond the edge mirrored without it, or the edge repeated."""
    height, width = image.shape
    reach = len(kernel) // 2

    def inside(position: int, size: int) -> int:
        if mirror:
            position = abs(position)
            return 2 * (size - 1) - position if position >= size else position
        return min(max(position, 0), size - 1)

    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            for a in range(-reach, reach + 1):
                for b in range(-reach, reach + 1):
                    value = image[inside(i + a, height), inside(j + b, width)]
                    result[i, j] += kernel[a + reach, b + reach] * value
    return result


def test_the_corruptions_are_those_of_the_documentation() -> None:
    assert CORRUPTIONS == (
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "speckle_noise",
        "gaussian_blur",
        "defocus_blur",
        "brightness",
        "contrast",
        "saturate",
        "jpeg_compression",
        "pixelate",
    )
    assert applicable(3) == CORRUPTIONS
    assert applicable(1) == tuple(name for name in CORRUPTIONS if name != "saturate")


@pytest.mark.parametrize(
    "shape", [(2, 1, 8, 8), (2, 3, 8, 8), (1, 3, 64, 48), (3, 1, 28, 28), (0, 3, 32, 32)]
)
def test_type_and_shape_are_kept_and_the_images_are_left_alone(shape: tuple[int, int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = images.copy()
    images.setflags(write=False)
    for name in applicable(shape[1]):
        for severity in SEVERITIES:
            changed = corrupt(name, severity, images, 0)
            assert changed.dtype == np.uint8, name
            assert changed.shape == shape, name
            assert not shape[0] or (changed != images).any(), name
    assert (images == before).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_the_same_in_every_batch(name: str) -> None:
    images = _random(6, height=32, width=32)
    whole = corrupt(name, 3, images, 7)
    order = np.array([4, 1, 5, 0, 3, 2])
    assert (corrupt(name, 3, images[order], 7) == whole[order]).all()
    assert (corrupt(name, 3, images[4:5], 7)[0] == whole[4]).all()
    channels_last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    assert (corrupt(name, 3, channels_last, 7) == whole).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_seed_changes_the_noises_and_nothing_else(name: str) -> None:
    images = _random()
    assert (corrupt(name, 5, images, 1) != corrupt(name, 5, images, 2)).any() == (name in NOISES)
    first = corrupt(name, 5, images, 1)
    np.random.seed(0)
    assert (corrupt(name, 5, images, 1) == first).all()


def test_the_noise_of_two_images_is_unrelated() -> None:
    first, second = corrupt("gaussian_noise", 5, _flat(128), 0)[:2].reshape(2, -1) - 128.0
    # 3072 pairs: five standard errors of a correlation of 0.
    correlation = (first * second).mean() / (first.std() * second.std())
    assert abs(correlation) < 5 / math.sqrt(3072)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "saturate"])
def test_a_higher_severity_changes_a_smooth_image_more(name: str) -> None:
    image = _smooth()
    changes = [_change(image, corrupt(name, severity, image, 0)) for severity in SEVERITIES]
    assert changes[0] > 0
    assert changes == sorted(set(changes))


def test_saturate_takes_colour_away_and_then_adds_it() -> None:
    image = _smooth()
    spread = [
        float(np.ptp(corrupt("saturate", severity, image, 0), axis=1).mean()) for severity in SEVERITIES
    ]
    assert spread[1] < spread[0] < float(np.ptp(image, axis=1).mean()) < spread[2] < spread[3] < spread[4]


@pytest.mark.parametrize(
    ("severity", "sigma", "photons", "speckle"),
    [
        (1, 0.04, 500, 0.06),
        (2, 0.06, 250, 0.10),
        (3, 0.08, 100, 0.12),
        (4, 0.09, 75, 0.16),
        (5, 0.10, 50, 0.20),
    ],
)
@pytest.mark.parametrize("level", [20, 77, 240])
def test_noise_has_the_distribution_of_its_definition(
    severity: int, sigma: float, photons: int, speckle: float, level: int
) -> None:
    x = level / 255
    upper = (np.arange(256) + 0.5) / 255
    counts = np.arange(10 * photons)
    rounded = np.rint(255 * np.minimum(counts / photons, 1))
    by_count = np.bincount(rounded.astype(np.int64), poisson(x * photons).pmf(counts), minlength=256)
    expected = {
        "gaussian_noise": norm(x, sigma).cdf(upper),
        "shot_noise": by_count.cumsum(),
        "speckle_noise": norm(x, x * speckle).cdf(upper),
    }
    for name, cumulative in expected.items():
        cumulative[255] = 1.0
        # The first channel holds a pixel of another level.
        levels = corrupt(name, severity, _flat(level), 0)[:, 1:]
        found = np.bincount(levels.ravel(), minlength=256).cumsum() / levels.size
        # Kolmogorov-Smirnov: by chance alone 2 / sqrt(n) is passed once in 1,500 times.
        assert np.abs(found - cumulative).max() < 2 / math.sqrt(levels.size), name


@pytest.mark.parametrize(("severity", "chance"), list(enumerate((0.01, 0.02, 0.03, 0.05, 0.07), 1)))
def test_impulses_are_dark_or_bright_in_each_channel_on_its_own(severity: int, chance: float) -> None:
    levels = corrupt("impulse_noise", severity, _flat(77), 0)[:, 1:]
    hit = levels != 77
    assert set(np.unique(levels)) == {0, 77, 255}
    error = 5 / math.sqrt(hit.size)
    assert hit.mean() == pytest.approx(chance, abs=error * math.sqrt(chance))
    assert (levels == 255).mean() == pytest.approx(chance / 2, abs=error * math.sqrt(chance / 2))
    assert (hit[:, 0] & hit[:, 1]).mean() == pytest.approx(
        chance**2, abs=5 * chance / math.sqrt(hit.size / 2)
    )


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate((0.4, 0.6, 0.7, 0.8, 1.0), 1)))
def test_gaussian_blur_agrees_with_a_loop(severity: int, sigma: float) -> None:
    reach = int(4 * sigma + 0.5)
    taps = [math.exp(-(d**2) / (2 * sigma**2)) for d in range(-reach, reach + 1)]
    kernel = np.outer(taps, taps) / sum(taps) ** 2
    image = _random()[3:4]
    expected = np.stack([_looped_correlation(channel.astype(float), kernel, False) for channel in image[0]])
    assert _differs(corrupt("gaussian_blur", severity, image, 0)[0], expected) <= ONE_LEVEL / 2 + 1e-9


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_blur_agrees_with_a_loop_over_the_kernel_of_opencv(severity: int) -> None:
    quarter = np.array(DEFOCUS[severity - 1])
    kernel = np.pad(quarter, ((2, 0), (2, 0)), mode="reflect")
    image = _random()[3:4]
    expected = np.stack([_looped_correlation(channel.astype(float), kernel, True) for channel in image[0]])
    # Half a level for rounding, and 25 taps of 255 levels at an error of 5e-7.
    assert _differs(corrupt("defocus_blur", severity, image, 0)[0], expected) <= ONE_LEVEL / 2 + 4e-3


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.75, 0.5, 0.4, 0.3, 0.15), 1)))
def test_contrast_is_a_share_of_the_distance_to_the_mean_of_the_channel(severity: int, share: float) -> None:
    images = _random()
    found = corrupt("contrast", severity, images, 0)
    for image, changed in zip(images, found, strict=True):
        for channel, new in zip(image, changed, strict=True):
            mean = sum(map(int, channel.ravel())) / channel.size
            expected = [[mean + share * (int(v) - mean) for v in row] for row in channel]
            assert _differs(new, np.array(expected)) <= ONE_LEVEL / 2 + 1e-9


def _by_colorsys(image: Pixels, factor: float, shift: float, brighter: float) -> Array:
    result = np.zeros(image.shape)
    for i in range(image.shape[1]):
        for j in range(image.shape[2]):
            h, s, v = colorsys.rgb_to_hsv(*(int(level) / 255 for level in image[:, i, j]))
            result[:, i, j] = colorsys.hsv_to_rgb(h, min(1.0, s * factor + shift), min(1.0, v + brighter))
    return 255 * result


@pytest.mark.parametrize(("severity", "more"), list(enumerate((0.05, 0.10, 0.15, 0.20, 0.30), 1)))
def test_brightness_agrees_with_colorsys(severity: int, more: float) -> None:
    images = _random()
    for image, changed in zip(images, corrupt("brightness", severity, images, 0), strict=True):
        assert _differs(changed, _by_colorsys(image, 1.0, 0.0, more)) <= ONE_LEVEL / 2 + 1e-9
    grey = _random(channels=1)
    expected = np.minimum(255 * (grey / 255 + more), 255)
    assert _differs(corrupt("brightness", severity, grey, 0), expected) <= ONE_LEVEL / 2 + 1e-9


@pytest.mark.parametrize(
    ("severity", "factor", "shift"),
    [(1, 0.3, 0.0), (2, 0.1, 0.0), (3, 1.5, 0.0), (4, 2.0, 0.1), (5, 2.5, 0.2)],
)
def test_saturate_agrees_with_colorsys_also_where_grey_turns_red(
    severity: int, factor: float, shift: float
) -> None:
    images = _random()
    for image, changed in zip(images, corrupt("saturate", severity, images, 0), strict=True):
        assert _differs(changed, _by_colorsys(image, factor, shift, 0.0)) <= ONE_LEVEL / 2 + 1e-9


@pytest.mark.parametrize(("severity", "quality"), list(enumerate((80, 65, 58, 50, 40), 1)))
def test_jpeg_is_what_pillow_stores_at_that_quality(severity: int, quality: int) -> None:
    images = _random(height=24, width=17)
    for channels in (1, 3):
        for image, changed in zip(
            images[:, :channels], corrupt("jpeg_compression", severity, images[:, :channels], 0), strict=True
        ):
            stream = BytesIO()
            whole = Image.merge("RGB", [Image.fromarray(c) for c in image]) if channels == 3 else image[0]
            (whole if isinstance(whole, Image.Image) else Image.fromarray(whole)).save(
                stream, format="JPEG", quality=quality
            )
            bands = Image.open(stream).split()
            assert len(bands) == channels
            for band, channel in zip(bands, changed, strict=True):
                assert (np.asarray(band) == channel).all()


def _looped_box(line: list[float], size: int) -> list[float]:
    """A line of pixels resized: each new pixel is the mean of the old ones whose centre it covers."""
    scale = len(line) / size
    width = max(scale, 1.0)
    result = []
    for position in range(size):
        centre = (position + 0.5) * scale
        covered = [v for at, v in enumerate(line) if -width / 2 < at + 0.5 - centre <= width / 2]
        result.append(sum(covered) / len(covered))
    return result


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.95, 0.9, 0.85, 0.75, 0.65), 1)))
def test_pixelate_agrees_with_a_loop(severity: int, share: float) -> None:
    images = _random(height=32, width=20)[3:]
    coarse_height, coarse_width = int(32 * share), int(20 * share)
    found = corrupt("pixelate", severity, images, 0)
    for image, changed in zip(images, found, strict=True):
        for channel, new in zip(image, changed, strict=True):
            wide = [_looped_box(_looped_box(row, coarse_width), 20) for row in channel.astype(float).tolist()]
            tall = [_looped_box(_looped_box(list(c), coarse_height), 32) for c in zip(*wide, strict=True)]
            # Pillow rounds to levels after each of its two passes down.
            assert _differs(new, np.array(tall).T) <= ONE_LEVEL + 1e-9
            assert len(np.unique(new, axis=0)) == coarse_height
            assert len(np.unique(new, axis=1).T) == coarse_width


def test_requests_that_cannot_be_met_are_refused() -> None:
    images = _random()
    with pytest.raises(ValueError, match=r"a corruption must be one of gaussian_noise, .*; got 'fog'"):
        corrupt("fog", 1, images, 0)
    for severity in (0, 6):
        with pytest.raises(ValueError, match=f"must be one of 1, 2, 3, 4, 5; got {severity}"):
            corrupt("contrast", severity, images, 0)
    with pytest.raises(ValueError, match=r"saturate needs colour images \(3 channels\); got 1 channel"):
        corrupt("saturate", 1, images[:, :1], 0)
    with pytest.raises(ValueError, match=r"grey \(1 channel\) or RGB \(3 channels\) images; got 2"):
        corrupt("contrast", 1, images[:, :2], 0)
    with pytest.raises(ValueError, match=r"got float64 \[5, 3, 12, 9\]"):
        corrupt("contrast", 1, images / 255.0, 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"got uint8 \[3, 12, 9\]"):
        corrupt("contrast", 1, images[0], 0)
    with pytest.raises(ValueError, match=r"sides of 8 pixels or more; got uint8 \[5, 3, 12, 7\]"):
        corrupt("contrast", 1, images[..., :7], 0)
