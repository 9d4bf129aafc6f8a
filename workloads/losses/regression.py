"""Regression losses read as classification losses: squared, absolute and Huber error against the one-hot."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss, Targets
from workloads.losses.rules import above_zero, one_of, switch

Input = Literal["logits", "probs"]
Reduction = Literal["mean", "sum"]


class Regression(Loss):
    """An error between the logits (or the softmax) and the one-hot target, mean over the batch.

    ``class_reduction="mean"`` also averages over the C classes, as torch does; ``"sum"`` adds them. Scores
    see the raw logits, which with ``input="logits"`` are not logits of probabilities: the maximum logit is
    the score that fits, and the softmax needs temperature scaling.
    """

    targets: Targets = "soft"

    def __init__(self, name: str, input: Input, class_reduction: Reduction) -> None:
        super().__init__()
        self.input = one_of(name, "input", input, ("logits", "probs"))
        self.class_reduction = one_of(name, "class_reduction", class_reduction, ("mean", "sum"))

    def prediction(self, output: HeadOutput) -> Tensor:
        return output.logits.softmax(dim=1) if self.input == "probs" else output.logits

    def over_classes(self, errors: Tensor) -> Tensor:
        """The loss of each image, [batch], of one error an image and class."""
        return errors.mean(dim=1) if self.class_reduction == "mean" else errors.sum(dim=1)


class MeanSquaredError(Regression):
    """k (Z_y - M)^2 + sum_{j != y} Z_j^2.

    With soft targets t: sum_j (1 + (k - 1) t_j) (Z_j - M t_j)^2. On probabilities the gradient vanishes where
    the softmax is confidently wrong.

    Args:
        input: ``logits``, or ``probs`` for the softmax.
        class_reduction: ``mean`` over the classes (torch) or ``sum`` (the lecture notes).
        half: halve it, as the lecture notes do.
        k: weight of the true class; (k, M) near (1, 10) to (15, 30) for a hundred classes and more.
        M: target of the true class.
    Raises: ValueError for another word, or k or M not above 0.
    Source: Hui and Belkin 2021, "Evaluation of neural architectures trained with square loss vs
        cross-entropy in classification tasks", section 3 (k, M); the lecture notes.
    Differs from source: nothing.
    """

    def __init__(
        self,
        input: Input = "logits",
        class_reduction: Reduction = "mean",
        half: bool = False,
        k: float = 1.0,
        M: float = 1.0,
    ) -> None:
        super().__init__("mse", input, class_reduction)
        self.halved = switch("mse", "half", half)
        self.k = above_zero("mse", "k", k)
        self.M = above_zero("mse", "M", M)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z = self.prediction(output)
        t = as_distribution(targets, Z)
        if self.k == 1 and self.M == 1:
            losses = self.over_classes(F.mse_loss(Z, t, reduction="none"))
        else:
            losses = self.over_classes((Z - self.M * t).square() * (1 + (self.k - 1) * t))
        return 0.5 * losses if self.halved else losses


class MeanAbsoluteError(Regression):
    """sum_j |Z_j - t_j|.

    On logits it is a negative control: each class pulls with the same force whatever its error, and while
    the features say little the best constant is the median of the one-hot, zero for every class. With many
    classes or a large learning rate the network stays there; with few and a small one it can learn. On
    probabilities it is 2 (1 - p_y): bounded, robust to wrong labels, slow.

    Args:
        input: ``logits``, or ``probs`` for the softmax.
        class_reduction: ``mean`` over the classes (torch) or ``sum``.
    Raises: ValueError for another word.
    Source: the lecture notes; on probabilities Ghosh et al. 2017.
    Differs from source: nothing.
    """

    def __init__(self, input: Input = "logits", class_reduction: Reduction = "mean") -> None:
        super().__init__("l1", input, class_reduction)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z = self.prediction(output)
        return self.over_classes(F.l1_loss(Z, as_distribution(targets, Z), reduction="none"))


class Huber(Regression):
    """Half the squared error up to delta, then delta (|e| - delta / 2).

    Args:
        delta: where the quadratic part ends, > 0; torch's smooth_l1 with beta = delta is this divided by it.
        input: ``logits``, or ``probs`` for the softmax.
        class_reduction: ``mean`` over the classes (torch) or ``sum``.
    Raises: ValueError where delta <= 0, or for another word.
    Source: Huber 1964; the lecture notes.
    Differs from source: nothing.
    """

    def __init__(
        self, delta: float = 1.0, input: Input = "logits", class_reduction: Reduction = "mean"
    ) -> None:
        super().__init__("huber", input, class_reduction)
        self.delta = above_zero("huber", "delta", delta)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z = self.prediction(output)
        errors = F.huber_loss(Z, as_distribution(targets, Z), reduction="none", delta=self.delta)
        return self.over_classes(errors)


def as_distribution(targets: Tensor, like: Tensor) -> Tensor:
    """Labels as one-hot rows of the shape and type of ``like``; probabilities as they are."""
    if targets.is_floating_point():
        return targets
    return like.new_zeros(like.shape).scatter_(1, targets.unsqueeze(1), 1.0)
