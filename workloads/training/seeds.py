"""Random numbers as a function of (seed, purpose, epoch), so that a resumed run draws the same ones.

No purpose knows the loss: at equal seed every loss starts from the same weights and sees the same batches.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch

Purpose = Literal[
    "model",
    "loss",
    "order",
    "augmentation",
    "step",
    "task",
    "fisher",
    "ood",
    "selection",
    "reservoir",
    "replay",
]


def derive_seed(seed: int, purpose: Purpose, epoch: int = 0) -> int:
    """A seed in 0..2^63-1 for one purpose in one epoch."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, purpose: Purpose, epoch: int = 0) -> torch.Generator:
    """A CPU generator for one purpose in one epoch."""
    return torch.Generator().manual_seed(derive_seed(seed, purpose, epoch))
