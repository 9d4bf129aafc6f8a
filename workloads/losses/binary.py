"""Binary cross-entropy, one class against the rest."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import Loss, Targets
from workloads.losses.rules import one_of, switch


class BinaryCrossEntropy(Loss):
    """sum_c softplus(Z_c) - t_c Z_c, mean over the batch, nats: C independent logistic regressions.

    At zero logits every one of the C - 1 negatives pulls with a gradient of 0.5, so by default the head
    starts at the prior 1/C. Not invariant to a shift of the logits. Scores and calibration see the raw
    logits, so the softmax that they form is not the sigmoid that was trained.

    Args:
        class_reduction: ``sum`` over the classes, or their ``mean`` (which needs a C times larger learning
            rate).
        prior: start the head's bias at -log(C - 1) and its weights near zero.
    Raises: ValueError for another class_reduction.
    Source: standard; the lecture notes. ``mean`` is torch's and timm's.
    Differs from source: nothing.
    """

    targets: Targets = "soft"

    def __init__(self, class_reduction: Literal["sum", "mean"] = "sum", prior: bool = True) -> None:
        super().__init__()
        self.class_reduction = one_of("bce", "class_reduction", class_reduction, ("sum", "mean"))
        self.prior = switch("bce", "prior", prior)

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("linear", prior=self.prior)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z = output.logits
        if targets.is_floating_point():
            positive = (targets * Z).sum(dim=1)
        else:
            positive = Z.gather(1, targets.unsqueeze(1)).squeeze(1)
        total = F.softplus(Z).sum(dim=1) - positive  # [batch]
        return total / Z.shape[1] if self.class_reduction == "mean" else total
