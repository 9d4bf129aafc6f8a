"""Cross-entropy of the softmax, plain, weighted by class, and with smoothed labels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext, Targets
from workloads.losses.counts import ClassWeights, mean_by_class_weights
from workloads.losses.counts import class_weights as as_weights
from workloads.losses.rules import within


class CrossEntropy(Loss):
    """-log softmax(Z)_y, mean over the batch, nats.

    Never reaches zero: logits grow as long as training goes on. Invariant to a shift of all logits.

    Args:
        class_weights: ``none``; ``inverse`` or ``effective`` (by the number of training images of a class,
            scaled to a sum of C); or one weight a class. The mean is weighted: divided by the sum of the
            labels' weights, not by the batch size, as torch does it.
    Raises: ValueError for another word, a weight that is not above 0, or a class without images.
    Source: standard; torch.nn.functional.cross_entropy.
    Differs from source: the weighted mean of soft targets is divided by their weights too, where torch
        divides by the batch size, so that a one-hot target costs what its label costs.
    """

    targets: Targets = "soft"
    weights: Tensor | None

    def __init__(self, class_weights: ClassWeights = "none", context: LossContext | None = None) -> None:
        super().__init__()
        weights = as_weights("cross_entropy", "class_weights", class_weights, context)
        self.register_buffer("weights", weights, persistent=False)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        weights = None if self.weights is None else self.of_classes(self.weights, output)
        return F.cross_entropy(output.logits, targets, weights, reduction="none")

    def reduce(
        self, losses: Tensor, output: HeadOutput, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        if self.weights is None:
            return super().reduce(losses, output, targets, weights)
        return mean_by_class_weights(losses, self.of_classes(self.weights, output), targets, weights)


class LabelSmoothing(Loss):
    """Cross-entropy against the target (1 - epsilon) 1_y + epsilon / C.

    Often makes the softmax a worse rejection score, and may need a temperature below 1 afterwards.

    Args:
        epsilon: share of the target that is spread over all classes, 0 to 1.
    Raises: ValueError where epsilon is outside [0, 1].
    Source: Szegedy et al. 2016, section 7; torch's ``label_smoothing``.
    Differs from source: nothing.
    """

    targets: Targets = "soft"

    def __init__(self, epsilon: float = 0.1) -> None:
        super().__init__()
        self.epsilon = within("label_smoothing", "epsilon", epsilon, 0, 1)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(output.logits, targets, label_smoothing=self.epsilon, reduction="none")
