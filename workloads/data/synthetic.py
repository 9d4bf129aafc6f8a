"""Far-OOD images that need no download: noise, scrambled images and blobs, of any shape.

Every function draws from the generator that it is given and from nothing else.
"""

from __future__ import annotations

import numpy as np

from workloads.data.images import Pixels


def uniform(size: int, shape: tuple[int, int, int], rng: np.random.Generator) -> Pixels:
    """Every pixel of every channel uniform over 0..255; uint8 [size, *shape]."""
    return rng.integers(0, 256, size=(size, *shape), dtype=np.uint8)


def gaussian(size: int, shape: tuple[int, int, int], rng: np.random.Generator) -> Pixels:
    """Every pixel of every channel round(255 * clip(N(.5, .5), 0, 1)); uint8 [size, *shape].

    Twice the sigma of the noise that a search is usually validated on, and a stream of its own.
    """
    values = 0.5 + 0.5 * rng.standard_normal((size, *shape))
    return np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)


def pixel_permuted(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Each image with its pixels in an order of its own; the channels of a pixel stay together.

    Keeps the histogram of every channel exactly and destroys all structure.

    Args:
        images: uint8 [N, C, H, W].
    Returns: uint8, the same shape.
    """
    flat = images.reshape(*images.shape[:2], -1)  # [N, C, H*W]
    order = rng.random((len(images), flat.shape[2])).argsort(axis=1)
    return np.take_along_axis(flat, order[:, None, :], axis=2).reshape(images.shape)


def phase_randomised(images: Pixels, rng: np.random.Generator) -> Pixels:
    """Each image with the amplitude of its Fourier transform kept and the phase of a random image.

    Keeps the power spectrum (up to clipping and rounding) and the mean, and destroys edges and shapes. The
    phase is that of uniform noise in [0, 1): noise is real, so the result is real; it is positive, so the
    mean keeps its sign. All channels of an image take the same phase, as in a natural image, whose channels
    largely agree.

    Args:
        images: uint8 [N, C, H, W].
    Returns: uint8, the same shape, clipped to 0..255.
    """
    count, _, height, width = images.shape
    noise = rng.random((count, 1, height, width))
    phase = np.exp(1j * np.angle(np.fft.fft2(noise)))
    mixed = np.fft.ifft2(np.abs(np.fft.fft2(images.astype(np.float64))) * phase).real
    return np.rint(np.clip(mixed, 0.0, 255.0)).astype(np.uint8)


def blobs(size: int, shape: tuple[int, int, int], rng: np.random.Generator) -> Pixels:
    """Bright shapes with soft insides and sharp edges, on black.

    Binary noise (1 with chance .7) is blurred by a Gaussian of 1.5 pixels; what stays below .75 is set to 0.

    Returns: uint8 [size, *shape].
    Source: Hendrycks et al. 2019 (outlier exposure), the "Blob" test set of the published code.
    Differs from source: an image that comes out black is drawn again (there, 32x32 pixels make that rare; at
        8x8 many would be the same black image).
    """
    from scipy.ndimage import gaussian_filter

    images = np.zeros((size, *shape), dtype=np.uint8)
    for image in images:
        while not image.any():
            coins = (rng.random(shape) < 0.7).astype(np.float64)
            # Blurred over the channels too, as the published code does; one channel is left as it is.
            blurred = gaussian_filter(coins, sigma=1.5, mode="nearest")
            image[...] = np.rint(255.0 * np.where(blurred < 0.75, 0.0, blurred))
    return images
