"""Dropout whose mask is cheap on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.models.rules import probability

LANES = 2**16
"""Values of one 16-bit lane."""


class Dropout(nn.Module):
    """In training, each element is zero with probability ``p`` and is divided by 1 - p otherwise.

    On a CPU, torch draws one 32-bit number an element and compares it in a loop that is not vectorised. Here
    the mask is made of the four 16-bit lanes of 64-bit integers from torch's global generator. 1 - p is
    rounded to a multiple of 1/65536, and what is kept is divided by that multiple: the expectation is exact.
    The mask follows the order in memory: with one seed, channels-last images get another mask than contiguous
    ones.

    On other devices, in evaluation and at p = 0: as ``torch.nn.Dropout``.

    Args:
        p: probability of zero, in [0, 1].
    Raises: ValueError where p is no such number.
    Source: Srivastava et al. 2014, "Dropout".
    Differs from source: scaled in training rather than in evaluation; 1 - p is rounded as said.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = probability("dropout", "p", p)

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not x.is_floating_point():
            return F.dropout(x, self.p, self.training)
        kept = round((1 - self.p) * LANES)
        if not self.training or kept == LANES:
            return x
        factor = LANES / kept if kept else 0.0
        mask = _mask(x, kept)
        if x.dtype.itemsize >= 4:
            return x * mask.mul_(factor)
        # In 16 bits the factor as an element of the mask would be rounded, and every mean off by up to 0.4 %.
        return (x * mask).mul_(factor)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def _mask(x: Tensor, kept: int) -> Tensor:
    """0 and 1 in the shape, type and memory format of ``x``; 1 with probability kept / 65536."""
    count = x.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None)
    lanes = words.view(torch.int16)[:count]
    # Through bytes: torch turns bool into float an element at a time, uint8 into float in vectors.
    mask = (lanes < kept - LANES // 2).view(torch.uint8).to(x.dtype)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        batch, channels, height, width = x.shape
        return mask.view(batch, height, width, channels).permute(0, 3, 1, 2)
    return mask.view(x.shape)
