"""One pass over a set of images: what the model says of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from workloads.contract import TrainingDiverged
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.batches import Normaliser

CPU_BATCH = 64
"""Activations of a batch should stay in cache: 64 small images took two thirds of the time of 256."""
GPU_BATCH = 1024


@dataclass(frozen=True)
class Outputs:
    """What a model says of a set of images."""

    logits: npt.NDArray[np.float32]
    """The loss's ``eval_logits``, [N, classes]."""
    features: npt.NDArray[np.float32]
    """What enters the head, [N, features]."""


@torch.no_grad()
def predict(
    model: Classifier, loss: Loss, normalise: Normaliser, images: npt.NDArray[Any] | torch.Tensor
) -> Outputs:
    """Evaluate images uint8 [N, C, H, W] in batches, in evaluation mode and without gradients.

    Raises: TrainingDiverged where a logit is not finite.
    """
    model.eval()
    loss.eval()
    device = next(model.parameters()).device
    # Copied, because memory-mapped files are read-only and torch would warn.
    resident = images if isinstance(images, torch.Tensor) else torch.from_numpy(np.array(images))
    logits, features = [], []
    size = CPU_BATCH if device.type == "cpu" else GPU_BATCH
    for start in range(0, len(resident), size):
        batch = resident[start : start + size]
        output = model(normalise(batch.to(device)))
        assert output.features is not None
        logits.append(loss.eval_logits(output).float())
        features.append(output.features.float())
    outputs = Outputs(torch.cat(logits).cpu().numpy(), torch.cat(features).cpu().numpy())
    if not np.isfinite(outputs.logits).all():
        raise TrainingDiverged("the logits must be finite; some are not, though the weights are")
    return outputs
