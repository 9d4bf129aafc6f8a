"""What a training step minimises: by default the loss of the batch's images; strategies add to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.training.batches import Batch


@dataclass(frozen=True)
class ClassWeights:
    """Images weighted by their class, in the mean over a batch."""

    weights: Tensor
    """float [classes], on the device."""
    start: float = 0.0
    """Share of the training after which they hold; before, every image counts the same."""

    def of(self, labels: Tensor, progress: Tensor) -> Tensor:
        """One weight for each image, [batch]; ``progress`` is the finished share of the training."""
        weights = torch.where(progress >= self.start, self.weights, torch.ones_like(self.weights))
        return weights[labels]


class Objective:
    """The loss of a batch.

    A subclass may let more images through the model than the batch has (they come after the batch's own),
    and add terms. What it remembers between steps is in :meth:`state_dict`.

    Args:
        active: the head's columns that the loss sees, int64, on the device; None: all.
        class_weights: for losses that have a value for each image.
        detailed: whether :meth:`value` also gives the losses of the batch's images.
    """

    def __init__(
        self,
        active: Tensor | None = None,
        class_weights: ClassWeights | None = None,
        *,
        detailed: bool = False,
    ) -> None:
        self.active = active
        self.class_weights = class_weights
        self.detailed = detailed

    def begin_epoch(self, epoch: int) -> None:
        """Called before the first batch of an epoch (1-based)."""

    def images(self, batch: Batch) -> Tensor:
        """What goes through the model, float [batch or more, C, H, W]."""
        return batch.images

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The scalar to minimise, and the losses of the batch's own images where they are asked for."""
        weights = None
        if self.class_weights is not None:
            weights = self.class_weights.of(batch.labels, loss.progress)
        if self.detailed:
            return loss.detailed(output, batch.targets, self.active, weights)
        return loss(output, batch.targets, self.active, weights=weights), None

    def before_step(self, loss: Loss, output: HeadOutput, batch: Batch) -> None:
        """Called before every optimiser step with what the model said of the batch's own images."""

    def hits(self, loss: Loss, output: HeadOutput, batch: Batch) -> Tensor:
        """How many of the batch's own images are classified correctly, among the active classes."""
        return (predicted(loss, output, self.active) == batch.labels).sum()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` gave."""


def predicted(loss: Loss, output: HeadOutput, active: Tensor | None) -> Tensor:
    """The class of each image, int64 [batch], among the active ones."""
    if active is None:
        return loss.eval_logits(output).argmax(dim=1)
    return active[loss.eval_logits(output.columns(active)).argmax(dim=1)]
