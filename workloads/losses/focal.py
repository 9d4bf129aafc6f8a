"""Focal loss."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext
from workloads.losses.counts import ClassWeights, class_weights
from workloads.losses.rules import not_negative, one_of

SMALLEST = 1e-12
"""1 - p is kept from zero: for gamma below 1 the gradient of (1 - p)^gamma is infinite there."""


class Focal(Loss):
    """-alpha_y (1 - p_y)^gamma log p_y with p the softmax, mean over the batch, nats.

    With two classes this is the sigmoid form of Z_1 - Z_0. gamma = 0 is cross-entropy.

    Args:
        gamma: focusing parameter, >= 0; how little a well-classified image counts.
        alpha: class weights: ``none``, ``inverse``, ``effective``, or one weight a class. The mean is over
            the batch size.
        weighting: ``outside``, the focal loss as published; ``inside``, as in the public code of LDAM-DRW,
            where the weight also raises the probability: with ce = -alpha_y log p_y the loss is
            (1 - exp(-ce))^gamma ce.
    Raises: ValueError where gamma < 0, for another word, or a class without images.
    Source: Lin et al. 2017, eq. 5; the lecture notes (its two-class form).
    Differs from source: softmax instead of independent sigmoids.
    """

    alpha: Tensor | None

    def __init__(
        self,
        gamma: float = 2.0,
        alpha: ClassWeights = "none",
        weighting: Literal["outside", "inside"] = "outside",
        context: LossContext | None = None,
    ) -> None:
        super().__init__()
        self.gamma = not_negative("focal", "gamma", gamma)
        self.weighting = one_of("focal", "weighting", weighting, ("outside", "inside"))
        self.register_buffer("alpha", class_weights("focal", "alpha", alpha, context), persistent=False)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        log_p = output.logits.log_softmax(dim=1).gather(1, targets.unsqueeze(1)).squeeze(1)  # [batch]
        weights = None if self.alpha is None else self.of_classes(self.alpha, output)[targets]
        if weights is not None and self.weighting == "inside":
            log_p = weights * log_p
        # expm1 keeps 1 - p where p is nearly 1.
        losses = -((-log_p.expm1()).clamp_min(SMALLEST) ** self.gamma) * log_p
        if weights is not None and self.weighting == "outside":
            losses = weights * losses
        return losses
