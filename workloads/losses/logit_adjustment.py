"""Losses that add the class frequencies to the logits: balanced softmax and logit adjustment."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext, Targets
from workloads.losses.counts import class_counts, log_prior
from workloads.losses.rules import not_negative, one_of


class LogitAdjustment(Loss):
    """CE(Z + tau log pi) with pi the share of each class in the training data.

    The raw logits then answer as if all classes were equally frequent.

    Args:
        tau: strength, >= 0; 1 is the balanced softmax, 0 cross-entropy.
        apply: in ``training``, scores seeing the raw Z; or in ``evaluation``: plain cross-entropy is trained
            and scores see Z - tau log pi (post-hoc logit adjustment).
    Raises: ValueError where tau < 0, for another word, without a context, or for a class without images.
    Source: Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 10 and 9.
    Differs from source: nothing.
    """

    name: ClassVar[str] = "logit_adjustment"
    targets: Targets = "soft"
    log_prior: Tensor

    def __init__(
        self,
        tau: float = 1.0,
        apply: Literal["training", "evaluation"] = "training",
        context: LossContext | None = None,
    ) -> None:
        super().__init__()
        self.tau = not_negative(self.name, "tau", tau)
        self.applied = one_of(self.name, "apply", apply, ("training", "evaluation"))
        self.register_buffer("log_prior", log_prior(class_counts(self.name, context)), persistent=False)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z = output.logits
        if self.applied == "training":
            Z = Z + self.tau * self.of_classes(self.log_prior, output)
        return F.cross_entropy(Z, targets, reduction="none")

    def restored(self, output: HeadOutput) -> Tensor:
        if self.applied == "training":
            return output.logits
        return output.logits - self.tau * self.of_classes(self.log_prior, output)


class BalancedSoftmax(LogitAdjustment):
    """CE(Z + log n): the softmax weighted by the number of training images of each class.

    Raises: ValueError without a context, or for a class without images.
    Source: Ren et al. 2020, "Balanced meta-softmax for long-tailed visual recognition", eq. 3.
    Differs from source: nothing (log n and log pi differ by a shift that the softmax does not see).
    """

    name: ClassVar[str] = "balanced_softmax"

    def __init__(self, context: LossContext | None = None) -> None:
        super().__init__(1.0, "training", context)
