"""Random erasing (Zhong et al. 2017) of a batch of normalised images."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.training.augmentation.boxes import inside
from workloads.training.augmentation.draws import Draws


def erase(images: Tensor, draws: Draws) -> Tensor:
    """Normal noise in every image's box.

    Args:
        images: float [batch, C, H, W] with mean 0 and standard deviation 1, as the noise has.
        draws: those of these images, on the same device.
    Returns: float [batch, C, H, W]; ``images`` itself where nothing is drawn.
    """
    if draws.erased is None or draws.noise is None or draws.noise_starts is None:
        return images
    batch, channels, height, width = images.shape
    # Windows of the epoch's noise, [starts, H * W * C], read in the order of pixels: what a training loop's
    # images (channels last in memory) are laid out as, and the same numbers for any other layout.
    windows = draws.noise.unfold(0, channels * height * width, 1)
    noise = windows.index_select(0, draws.noise_starts).view(batch, height, width, channels)
    mask = inside(draws.erased, channels, height, width)
    return torch.lerp(images, noise.permute(0, 3, 1, 2).to(images.dtype), mask.to(images.dtype))
