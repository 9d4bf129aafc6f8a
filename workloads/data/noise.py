"""The Gaussian-noise validation set: what a search may know of the unknown."""

from __future__ import annotations

import numpy as np

from workloads.contract import NoiseConfig
from workloads.data.images import Pixels
from workloads.data.randomness import generator


def noise_sets(noise: NoiseConfig, shape: tuple[int, int, int]) -> dict[str, Pixels]:
    """One set for every sigma, by name (``noise_0.25``), in the order of ``noise.sigmas``.

    Every sigma has a stream of its own from (seed, sigma), so adding a sigma changes no other set, and no
    image is ever repeated.

    Args:
        noise: mean and sigmas in [0, 1] pixel space, images a set, seed.
        shape: channels, height, width.
    Returns: uint8 [size, *shape] each: round(255 * clip(N(mean, sigma), 0, 1)).
    Raises: ValueError for no sigma, a repeated one, one that is not > 0, a size < 1, or settings so flat
        that images repeat after rounding.
    Source: Wei et al. 2022 tune on Gaussian noise that they do not specify; mean .5 and sigma .25 are those
        of Hendrycks et al. 2019 (outlier exposure), clip(N(0, .5), -1, 1) in [-1, 1] pixels.
    """
    sigmas = [float(sigma) for sigma in noise.sigmas]
    if not sigmas or len(set(sigmas)) < len(sigmas):
        raise ValueError(f"noise sigmas must be one or more different numbers; got {noise.sigmas!r}")
    if noise.size < 1:
        raise ValueError(f"the size of a noise set must be >= 1; got {noise.size!r}")
    return {f"noise_{sigma}": _noise_set(noise, sigma, shape) for sigma in sigmas}


def _noise_set(noise: NoiseConfig, sigma: float, shape: tuple[int, int, int]) -> Pixels:
    if not sigma > 0.0:
        raise ValueError(f"a noise sigma must be > 0; got {sigma!r}")
    rng = generator("noise", noise.seed, sigma)
    values = noise.mean + sigma * rng.standard_normal((noise.size, *shape))
    images = np.rint(255.0 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
    if len({image.tobytes() for image in images}) < len(images):
        raise ValueError(
            f"noise with mean {noise.mean!r} and sigma {sigma!r} repeats images once rounded to uint8; "
            "choose a mean within 0..1 and a sigma that leaves more grey levels"
        )
    return images
