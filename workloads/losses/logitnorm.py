"""Cross-entropy on L2-normalised logits (LogitNorm)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from workloads.losses.base import Loss, Targets

EPSILON = 1e-7
"""Added to the norm, as in the authors' code; it would vanish in half precision."""


class LogitNorm(Loss):
    """CE(Z / (tau (|Z| + 1e-7)), y): the direction of the logits is trained, their norm is not.

    The gradient is orthogonal to Z and falls as 1 / (tau |Z|), so a zero-initialised head explodes and the
    norm can only grow but for weight decay. With C classes the loss cannot fall below
    log(1 + (C - 1) exp(-sqrt(C / (C - 1)) / tau)). Scores see the raw logits, whose norm carries the signal.

    Args:
        tau: temperature, dimensionless, > 0.
    Raises: ValueError where tau <= 0.
    Source: Wei et al. 2022, "Mitigating Neural Network Overconfidence with Logit Normalization", eq. 4.
    Differs from source: nothing (their Proposition 3.3 gives a lower floor, not attainable for C > 2).
    """

    targets: ClassVar[Targets] = "soft"

    def __init__(self, tau: float = 0.04) -> None:
        super().__init__()
        if not 0 < tau < float("inf"):
            raise ValueError(f"logitnorm: tau must be above 0; got {tau!r}")
        self.tau = tau

    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        norm = logits.norm(dim=1, keepdim=True) + EPSILON  # [batch, 1]
        return F.cross_entropy(logits / (self.tau * norm), targets)
