"""T2FNorm: features normalised in training, not in evaluation."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput, lengths
from workloads.losses.base import Loss, Needs, Targets
from workloads.losses.rules import above_zero

SMALLEST = 1e-6
"""Norms are kept from zero, where the gradient would be infinite."""


class T2FNorm(Loss):
    """CE(fc(x / |x| / tau), y); scores see fc(x / tau), whose feature norm carries the signal.

    The linear layer is read twice, so the head is a plain linear one.

    Args:
        tau: temperature, dimensionless, > 0.
    Raises: ValueError where tau <= 0.
    Source: Regmi et al. 2024, "T2FNorm: train-time feature normalization for OOD detection in image
        classification", section 3, and its code in OpenOOD.
    Differs from source: nothing.
    """

    needs: ClassVar[Needs] = "features+fc"
    targets: Targets = "soft"

    def __init__(self, tau: float = 0.1) -> None:
        super().__init__()
        self.tau = above_zero("t2fnorm", "tau", tau)

    def observe(self, output: HeadOutput, targets: Tensor) -> None:
        assert output.features is not None
        self.track("feature_norm", lengths(output.features.detach()).mean())

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        assert output.features is not None
        assert output.weight is not None
        unit = F.normalize(output.features, eps=SMALLEST)
        return F.cross_entropy(
            F.linear(unit / self.tau, output.weight, output.bias), targets, reduction="none"
        )

    def restored(self, output: HeadOutput) -> Tensor:
        if output.features is None or output.weight is None:
            raise ValueError("T2FNorm needs the features and weights of a linear head; got logits alone")
        return F.linear(output.features / self.tau, output.weight, output.bias)
