"""LDAM: cosine margins that are wider for rare classes, with deferred re-weighting (DRW)."""

from __future__ import annotations

import torch
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import LossContext
from workloads.losses.cosine import CosineLoss, scaled_cross_entropy, target_of
from workloads.losses.counts import class_counts, effective_weights, mean_by_class_weights, present
from workloads.losses.rules import above_zero, not_negative, within


class LDAM(CosineLoss):
    """CE(s (cos(theta) - m_y 1_y), y) with m_j = max_m (n_j / min n)^(-1/4).

    From ``drw`` of the training on, the mean over the batch is weighted by the classes' effective numbers of
    images, (1 - beta) / (1 - beta^n_j), scaled to a sum of C. Minimum and C are of the classes that occur.

    Args:
        max_m: margin of the rarest class, >= 0.
        s: scale, > 0.
        drw: share of the training after which classes are weighted, 0 to 1; 1: never.
        beta: of the effective number, 0 to below 1.
    Raises: ValueError where a number is out of its range, without a context, or for a class without images.
    Source: Cao et al. 2019, "Learning imbalanced datasets with label-distribution-aware margin loss", eq. 13;
        public code of kaidic/LDAM-DRW (re-weighting after epoch 160 of 200).
    Differs from source: nothing.
    """

    margins: Tensor
    weights: Tensor

    def __init__(
        self,
        max_m: float = 0.5,
        s: float = 30.0,
        drw: float = 0.8,
        beta: float = 0.9999,
        context: LossContext | None = None,
    ) -> None:
        super().__init__()
        not_negative("ldam", "max_m", max_m)
        self.s = above_zero("ldam", "s", s)
        self.drw = within("ldam", "drw", drw, 0, 1)
        if within("ldam", "beta", beta, 0, 1) == 1:
            raise ValueError(f"ldam: beta must be below 1; got {beta!r}")
        counts = class_counts("ldam", context)
        self.register_buffer("margins", max_m * (counts / present(counts).min()) ** -0.25, persistent=False)
        self.register_buffer("weights", effective_weights(counts, beta), persistent=False)

    @property
    def scale(self) -> float:
        return self.s

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        target = target_of(output.logits, targets) - self.of_classes(self.margins, output)[targets]
        return scaled_cross_entropy(output.logits, targets, target, self.s, self._class_weights(output))

    def reduce(
        self, losses: Tensor, output: HeadOutput, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        class_weights = self._class_weights(output)
        if class_weights is None:
            return super().reduce(losses, output, targets, weights)
        return mean_by_class_weights(losses, class_weights, targets, weights)

    def _class_weights(self, output: HeadOutput) -> Tensor | None:
        """Those of the columns at this point of the training; None where there never are any."""
        # The last step of a training is a little before 1, so drw = 1 never comes.
        if self.drw == 1:
            return None
        weighted = self.of_classes(self.weights, output)
        return torch.where(self.progress >= self.drw, weighted, torch.ones_like(weighted))
