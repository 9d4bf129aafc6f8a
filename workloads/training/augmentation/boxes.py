"""Rectangles of pixels: (top, left, bottom, right), the last two excluded, int64 [batch, 4]."""

from __future__ import annotations

import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Pixels inside, int64 [batch]."""
    top, left, bottom, right = boxes.unbind(1)
    return (bottom - top) * (right - left)


def inside(boxes: Tensor, channels: int, height: int, width: int) -> Tensor:
    """1 for every value of an image in its box, 0 elsewhere: float32 [batch, channels, height, width].

    A weight for torch.lerp, which returns one of its ends to the bit at 0 and 1: products and lerps of floats
    take a third of the time of a bool mask and torch.where. The channels are spelled out and last in memory,
    as those of a training loop's images are: broadcasting over an innermost dimension of length 3 is slow.
    """
    top, left, bottom, right = (edge[:, None] for edge in boxes.unbind(1))
    rows = torch.arange(height, device=boxes.device)
    columns = torch.arange(width * channels, device=boxes.device) // channels
    in_rows = ((rows >= top) & (rows < bottom)).float()
    in_columns = ((columns >= left) & (columns < right)).float()
    mask = in_rows[:, :, None] * in_columns[:, None, :]
    return mask.view(len(boxes), height, width, channels).permute(0, 3, 1, 2)
