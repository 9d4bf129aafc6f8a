"""Multi-class margin loss (MM)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.losses.rules import above_zero, whole

MANY = 128
"""Classes from which on torch's own function, a scalar loop, is the slower one."""


class MultiMargin(Loss):
    """(1/C) sum_{i != y} max(0, mu - Z_y + Z_i)^p, mean over the batch.

    The gradient fades as images reach their margin, because all of the batch stays in the mean: what HEM
    mends. Invariant to a shift of all logits.

    Args:
        mu: margin in logits, > 0.
        p: exponent, 1 or 2.
    Raises: ValueError where mu <= 0 or p is neither 1 nor 2.
    Source: Crammer and Singer 2001; torch.nn.functional.multi_margin_loss.
    Differs from source: nothing.
    """

    def __init__(self, mu: float = 1.0, p: int = 1) -> None:
        super().__init__()
        self.mu = above_zero("multi_margin", "mu", mu)
        if whole("multi_margin", "p", p, 1) > 2:
            raise ValueError(f"multi_margin: p must be 1 or 2; got {p!r}")
        self.p = p

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z, column = output.logits, targets.unsqueeze(1)
        if Z.shape[1] < MANY:
            return F.multi_margin_loss(Z, targets, p=self.p, margin=self.mu, reduction="none")
        violations = (Z - (Z.gather(1, column) - self.mu)).relu().scatter(1, column, 0.0)
        return (violations if self.p == 1 else violations.square()).mean(dim=1)
