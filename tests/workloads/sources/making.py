"""What the tests of the sources make their losses, logits and gradients with."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.contract import ParameterValue
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss

PRINTED = 5e-7
"""Half a unit of the last of the six decimals that a quoted number has."""
EXACT = 1e-12
"""Two float64 computations of the same number in a different order; the numbers are of the order of 1."""


def built(name: str, classes: int = 10, counts: tuple[int, ...] = (), **params: ParameterValue) -> Loss:
    """A loss of the catalogue in float64."""
    counts = counts or (5000,) * classes
    return build_loss(name, params, LossContext(sum(counts), len(counts), counts)).double()


def tensor(*rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def some_logits(batch: int = 8, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal logits and the labels 0, 1, 2, ..."""
    generator = torch.Generator().manual_seed(seed)
    Z = torch.randn(batch, classes, dtype=torch.float64, generator=generator)
    return Z, torch.arange(batch) % classes


def gradient(value: Tensor, at: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(value, at)
    return found
