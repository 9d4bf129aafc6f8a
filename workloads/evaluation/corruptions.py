"""Common corruptions of small images: those of CIFAR-10-C that need no downloaded pictures.

Left out of its nineteen, as they need OpenCV, ImageMagick or photographs of frost: glass, motion and zoom
blur, snow, frost, fog, spatter and the elastic transform.

Source of every definition and constant: Hendrycks and Dietterich 2019, "Benchmarking neural network
robustness to common corruptions and perturbations"; github.com/hendrycks/robustness,
ImageNet-C/create_c/make_cifar_c.py.
Differs from source: (1) levels are rounded to the nearest; the source cuts the fraction off, which darkens by
half a level and lets the last bit of a float decide about a whole one; (2) other random draws; (3) sizes
other than 32x32: blurs keep their width in pixels, and pixelate its share of the side; (4) grey images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import correlate, gaussian_filter

Pixels = npt.NDArray[np.uint8]
_Floats = npt.NDArray[np.float64]

SEVERITIES = (1, 2, 3, 4, 5)
SMALLEST_SIDE = 8


def applicable(channels: int) -> tuple[str, ...]:
    """The corruptions that images of so many channels can have, in the order of ``CORRUPTIONS``.

    Raises: ValueError for anything but grey (1) and RGB (3).
    """
    if channels not in (1, 3):
        raise ValueError(f"corruptions need grey (1 channel) or RGB (3 channels) images; got {channels!r}")
    return tuple(name for name in CORRUPTIONS if channels == 3 or name not in _COLOUR_ONLY)


def corrupt(name: str, severity: int, images: Pixels, seed: int) -> Pixels:
    """Images with one corruption.

    The random numbers of an image depend on the corruption, the severity, the seed and the image's own
    pixels, and on nothing else: neither on the other images of a call nor on their order. Noise repeats for
    the same version of numpy, JPEG for the same version of Pillow.

    Args:
        name: one of ``CORRUPTIONS``.
        severity: 1 (weakest) to 5. Of ``saturate``, 1 and 2 take colour away and 3 to 5 add it; of
            ``pixelate``, two severities may be the same where the sides are shorter than 20 pixels.
        images: uint8 [N, C, H, W], C 1 (grey) or 3 (RGB), sides of 8 pixels or more; made for 8x8 to 64x64.
        seed: of the random numbers; read by the four kinds of noise only.
    Returns: uint8, the same shape.
    Raises: ValueError for an unknown name, a severity outside 1..5, a colour corruption of grey images, or
        images of another type or shape.
    """
    if name not in CORRUPTIONS:
        raise ValueError(f"a corruption must be one of {', '.join(CORRUPTIONS)}; got {name!r}")
    if severity not in SEVERITIES:
        raise ValueError(f"a severity must be one of 1, 2, 3, 4, 5; got {severity!r}")
    if images.dtype != np.uint8 or images.ndim != 4 or min(images.shape[2:]) < SMALLEST_SIDE:
        raise ValueError(
            f"images must be uint8 [N, C, H, W] with sides of {SMALLEST_SIDE} pixels or more; "
            f"got {images.dtype} {list(images.shape)}"
        )
    if name not in applicable(images.shape[1]):
        raise ValueError(f"{name} needs colour images (3 channels); got {images.shape[1]} channel")
    corrupted = np.empty_like(images, order="C")
    for position, pixels in enumerate(images):
        levels = _FUNCTIONS[name](pixels / 255.0, severity - 1, _generator(name, severity, seed, pixels))
        corrupted[position] = np.rint(255.0 * np.clip(levels, 0.0, 1.0))
    return corrupted


def _generator(name: str, severity: int, seed: int, pixels: Pixels) -> np.random.Generator:
    digest = hashlib.sha256(f"{name}/{severity}/{seed}/{pixels.shape}/".encode())
    digest.update(pixels.tobytes())
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest.digest()[:16], "big")))


def _gaussian_noise(x: _Floats, level: int, rng: np.random.Generator) -> _Floats:
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[level]
    return x + rng.normal(scale=sigma, size=x.shape)


def _shot_noise(x: _Floats, level: int, rng: np.random.Generator) -> _Floats:
    photons = (500, 250, 100, 75, 50)[level]
    return np.asarray(rng.poisson(x * photons) / photons, dtype=np.float64)


def _impulse_noise(x: _Floats, level: int, rng: np.random.Generator) -> _Floats:
    """Each value of each channel, with a small chance, all dark or all bright ("salt and pepper")."""
    chance = (0.01, 0.02, 0.03, 0.05, 0.07)[level]
    hit = rng.random(x.shape) < chance
    salt = rng.random(x.shape) < 0.5
    return np.where(hit, salt.astype(np.float64), x)


def _speckle_noise(x: _Floats, level: int, rng: np.random.Generator) -> _Floats:
    sigma = (0.06, 0.10, 0.12, 0.16, 0.20)[level]
    return x + x * rng.normal(scale=sigma, size=x.shape)


def _gaussian_blur(x: _Floats, level: int, _: np.random.Generator) -> _Floats:
    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[level]
    # Border and cut-off as in skimage.filters.gaussian, which the source calls.
    return np.asarray(gaussian_filter(x, sigma=(0.0, sigma, sigma), mode="nearest", truncate=4.0))


def _defocus_blur(x: _Floats, level: int, _: np.random.Generator) -> _Floats:
    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[level]
    # "mirror" repeats no edge pixel, as OpenCV's filter2D does by default.
    return np.asarray(correlate(x, _disk(radius, sigma)[None], mode="mirror"))


def _disk(radius: float, sigma: float) -> _Floats:
    """A disk of pixels, its edge softened by a 3x3 Gaussian; sums to 1, [5, 5]."""
    offsets = np.arange(-2, 3)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.float64)
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2.0 * sigma**2))
    taps /= taps.sum()
    soft = correlate(disk / disk.sum(), np.outer(taps, taps), mode="constant")
    return np.asarray(soft, dtype=np.float64)


def _contrast(x: _Floats, level: int, _: np.random.Generator) -> _Floats:
    share = (0.75, 0.5, 0.4, 0.3, 0.15)[level]
    means = x.mean(axis=(1, 2), keepdims=True)
    return np.asarray((x - means) * share + means)


def _brightness(x: _Floats, level: int, _: np.random.Generator) -> _Floats:
    """More of V (HSV: the largest channel); hue and saturation stay, so that black becomes grey."""
    value = x.max(axis=0)
    brighter = np.minimum(value + (0.05, 0.10, 0.15, 0.20, 0.30)[level], 1.0)
    scaled = x * (brighter / np.where(value > 0.0, value, 1.0))
    return np.asarray(np.where(value > 0.0, scaled, brighter))


def _saturate(x: _Floats, level: int, _: np.random.Generator) -> _Floats:
    """S (HSV) times a factor, plus a shift; the hue of grey counts as red, as in the source."""
    factor, shift = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[level]
    value = x.max(axis=0)
    chroma = value - x.min(axis=0)
    saturation = chroma / np.where(value > 0.0, value, 1.0)
    changed = np.clip(saturation * factor + shift, 0.0, 1.0)
    # How far each channel lies below V, as a share of the lowest channel's distance: that is the hue alone.
    red = np.array([0.0, 1.0, 1.0])[:, None, None]
    below = np.where(chroma > 0.0, (value - x) / np.where(chroma > 0.0, chroma, 1.0), red)
    return np.asarray(value * (1.0 - changed * below))


def _jpeg_compression(x: _Floats, level: int, _: np.random.Generator) -> _Floats:
    stream = BytesIO()
    _picture(x).save(stream, "JPEG", quality=(80, 65, 58, 50, 40)[level])
    with Image.open(stream) as picture:
        return _levels(picture)


def _pixelate(x: _Floats, level: int, _: np.random.Generator) -> _Floats:
    share = (0.95, 0.90, 0.85, 0.75, 0.65)[level]
    _channels, height, width = x.shape
    coarse = _picture(x).resize((int(width * share), int(height * share)), Image.Resampling.BOX)
    return _levels(coarse.resize((width, height), Image.Resampling.BOX))


def _picture(x: _Floats) -> Image.Image:
    pixels = np.rint(255.0 * x).astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def _levels(picture: Image.Image) -> _Floats:
    pixels = np.asarray(picture, dtype=np.float64) / 255.0
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


_FUNCTIONS: dict[str, Callable[[_Floats, int, np.random.Generator], _Floats]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "defocus_blur": _defocus_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturate": _saturate,
    "jpeg_compression": _jpeg_compression,
    "pixelate": _pixelate,
}
_COLOUR_ONLY = ("saturate",)

CORRUPTIONS: tuple[str, ...] = tuple(_FUNCTIONS)
