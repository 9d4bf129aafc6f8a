"""One pass over a set of images: what the model says of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from workloads.contract import Precision
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.batches import Normaliser
from workloads.training.numerics import autocast

CPU_BATCH = 64
"""Activations of a batch should stay in cache: 64 small images took two thirds of the time of 256."""
GPU_BATCH = 1024


@dataclass(frozen=True)
class Outputs:
    """What a model says of a set of images."""

    logits: npt.NDArray[np.float32]
    """The loss's ``eval_logits``, [N, classes or active columns]."""
    features: npt.NDArray[np.float32]
    """What enters the head, [N, features]."""
    divisor: npt.NDArray[np.float32] | None = None
    """g of a GODIN head, [N]."""


def as_tensor(images: npt.NDArray[np.uint8]) -> torch.Tensor:
    """The array as a tensor: the same memory where it may be written to (a private mapping of a file)."""
    return torch.from_numpy(images if images.flags.writeable else images.copy())


@torch.no_grad()
def predict(
    model: Classifier,
    loss: Loss,
    normalise: Normaliser,
    images: npt.NDArray[np.uint8] | torch.Tensor,
    precision: Precision = "float32",
    active: torch.Tensor | None = None,
) -> Outputs:
    """Evaluate images uint8 [N, C, H, W] in batches, in evaluation mode and without gradients.

    Args:
        images: on any device; an array is read where it lies.
        precision: as the model was trained.
        active: the head's columns that are asked, int64, on the model's device; None: all.

    A logit may be infinite or not a number.
    """
    model.eval()
    loss.eval()
    device = next(model.parameters()).device
    resident = images if isinstance(images, torch.Tensor) else as_tensor(images)
    logits, features, divisors = [], [], []
    size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
    for start in range(0, len(resident), size):
        batch = resident[start : start + size]
        with autocast(precision, device):
            output = model(normalise(batch.to(device)))
        assert output.features is not None
        if active is not None:
            output = output.columns(active)
        logits.append(loss.eval_logits(output).float())
        features.append(output.features.float())
        if output.divisor is not None:
            divisors.append(output.divisor.float().reshape(-1))
    return Outputs(
        torch.cat(logits).cpu().numpy(),
        torch.cat(features).cpu().numpy(),
        torch.cat(divisors).cpu().numpy() if divisors else None,
    )
