"""Crop, flip and RandAugment of a batch of uint8 images."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.contract import AugmentationConfig
from workloads.training.augmentation.draws import Draws


def augment(images: Tensor, draws: Draws, config: AugmentationConfig) -> Tensor:
    """Crop, then flip, then RandAugment.

    Args:
        images: uint8 [batch, C, H, W].
        draws: those of these images, on the same device.
        config: the one that the draws were made for.
    Returns: uint8 [batch, C, H, W]; ``images`` itself stays as it is.
    Raises: ValueError for images that are not uint8.
    """
    if images.dtype != torch.uint8:
        raise ValueError(f"images must be torch.uint8; got {images.dtype}")
    if config.crop is not None and draws.shifts is not None:
        images = crop(images, draws.shifts, config.crop, config.padding)
    if draws.flips is not None:
        images = flip(images, draws.flips)
    if draws.operations is not None:
        # Here because it brings torchvision's transforms, which take a second to import.
        from workloads.training.augmentation.randaugment import randaugment

        images = randaugment(images, draws.operations, config.randaugment_magnitude)
    return images


def crop(images: Tensor, shifts: Tensor, pixels: int, padding: Literal["zero", "reflect"]) -> Tensor:
    """Each image shifted by its own row and column, int64 [batch, 2], inside ``pixels`` of padding.

    A view has a window of the images' size at every byte of the padded batch; one index_select copies, row by
    row, the windows at the crops' first bytes. Gathering with indices would move byte by byte.
    """
    batch, channels, height, width = images.shape
    if padding == "reflect":
        padded = _reflected(_reflected(images, pixels, 3), pixels, 2).contiguous()
    else:
        padded = F.pad(images, [pixels] * 4).contiguous()
    row = width + 2 * pixels
    plane = (height + 2 * pixels) * row
    last = padded.numel() - ((channels - 1) * plane + (height - 1) * row + width)
    windows = padded.as_strided((last + 1, channels, height, width), (1, plane, row, 1))
    first = torch.arange(batch, device=images.device) * (channels * plane)
    return windows.index_select(0, first + shifts[:, 0] * row + shifts[:, 1])


def flip(images: Tensor, flips: Tensor) -> Tensor:
    """The images marked in ``flips`` mirrored, bool [batch].

    Bit operations choose between the two; torch.where takes several times as long on bytes.
    """
    chosen = flips.to(torch.uint8).neg()[:, None, None, None]
    mirrored = images.flip(3)
    return mirrored.bitwise_xor_(images).bitwise_and_(chosen).bitwise_xor_(images)


def _reflected(images: Tensor, pixels: int, dim: int) -> Tensor:
    """Both ends mirrored at the outermost pixels, not repeated (torch has no such pad for uint8)."""
    length = images.shape[dim]
    before = images.narrow(dim, 1, pixels).flip(dim)
    after = images.narrow(dim, length - 1 - pixels, pixels).flip(dim)
    return torch.cat((before, images, after), dim)
