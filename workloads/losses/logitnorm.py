"""Losses on the norm of the logits: LogitNorm divides by it, the logit penalty adds it."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput, lengths
from workloads.losses.base import Loss, Targets
from workloads.losses.rules import above_zero, not_negative

EPSILON = 1e-7
"""Added to the norm, as in the authors' code; it would vanish in half precision."""
PENALTY_EPSILON = 1e-12
"""Inside the root of the penalty's norm, whose gradient at zero logits is then zero."""


class LogitNorm(Loss):
    """CE(Z / (tau (|Z| + 1e-7)), y): the direction of the logits is trained, their norm is not.

    The gradient is orthogonal to Z and falls as 1 / (tau |Z|), so a zero-initialised head explodes and the
    norm can only grow but for weight decay. The loss cannot fall below :func:`infimum`. Scores see the raw
    logits, whose norm carries the signal.

    Args:
        tau: temperature, dimensionless, > 0.
    Raises: ValueError where tau <= 0.
    Source: Wei et al. 2022, "Mitigating Neural Network Overconfidence with Logit Normalization", eq. 4.
    Differs from source: nothing (their Proposition 3.3 gives a lower floor, which no logits reach).
    """

    targets: Targets = "soft"

    def __init__(self, tau: float = 0.04) -> None:
        super().__init__()
        self.tau = above_zero("logitnorm", "tau", tau)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z = output.logits
        return F.cross_entropy(Z * (1 / (self.tau * (lengths(Z) + EPSILON))), targets, reduction="none")


class LogitPenalty(Loss):
    """Cross-entropy plus lam times the mean norm of the logits.

    Args:
        lam: weight of the norm (not squared), >= 0; training diverges or collapses where it is large.
    Raises: ValueError where lam < 0.
    Source: Wei et al. 2022, section 5 (the authors' own ablation of LogitNorm), lambda = 0.05.
    Differs from source: 1e-12 inside the root, so that the gradient at zero logits is zero.
    """

    targets: Targets = "soft"

    def __init__(self, lam: float = 0.05) -> None:
        super().__init__()
        self.lam = not_negative("logit_penalty", "lam", lam)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        Z = output.logits
        norms = (Z.square().sum(dim=1) + PENALTY_EPSILON).sqrt()
        return F.cross_entropy(Z, targets, reduction="none") + self.lam * norms


def infimum(num_classes: int, tau: float) -> float:
    """The smallest LogitNorm loss that logits can reach: log(1 + (C - 1) exp(-sqrt(C / (C - 1)) / tau)).

    Reached where Z is a positive multiple of 1_y - 1/C: among unit vectors this one has the largest gap
    between one component and each of the others, sqrt(C / (C - 1)).
    """
    gap = math.sqrt(num_classes / (num_classes - 1))
    return math.log1p((num_classes - 1) * math.exp(-gap / tau))


def bound_as_published(num_classes: int, tau: float) -> float:
    """Proposition 3.3 of the paper, log(1 + (C - 1) exp(-2 / tau)): true, but out of reach."""
    return math.log1p((num_classes - 1) * math.exp(-2 / tau))
