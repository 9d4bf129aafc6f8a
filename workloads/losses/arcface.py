"""ArcFace: an additive margin on the angle of the true class."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.cosine import CosineLoss, scaled_cross_entropy, target_of, warmed
from workloads.losses.rules import above_zero, one_of, within

Fallback = Literal["linear", "none", "easy"]
SINE_EPSILON = 1e-12
"""Inside the root of the sine, whose derivative is then finite at +-1."""


class ArcFace(CosineLoss):
    """CE(s cos(theta_j + m 1_{j=y}), y): a margin on the angle of the true class, in radians.

    cos(theta + m) is formed as cos(theta) cos(m) - sin(theta) sin(m), without an arc cosine.

    Args:
        s: scale, > 0; 64 in face recognition, 16 to 30 for ten classes.
        m: margin in radians, 0 to pi (0.5 is 28.6 degrees).
        fallback: what stands for cos(theta + m) where it is of no use. ``linear``: cos(theta) - m sin(m)
            where theta + m > pi (original code); ``none``: cos(theta + m) everywhere, which rises again there
            (insightface today); ``easy``: the margin only where cos(theta) > 0.
        grad: ``exact``; or ``straight_through``, as insightface's code computes it: the margin's value with
            the gradient of cos(theta), s instead of s sin(theta + m) / sin(theta).
        margin_warmup: share of the training over which m grows linearly from 0, 0 to 1.
    Raises: ValueError where s <= 0, m is outside [0, pi], margin_warmup outside [0, 1], or for another word.
    Source: Deng et al. 2019, "ArcFace: additive angular margin loss for deep face recognition", eq. 3; public
        code of deepinsight/insightface.
    Differs from source: 1e-12 inside the root of sin(theta), so that its derivative is finite; the warm-up.
    """

    def __init__(
        self,
        s: float = 30.0,
        m: float = 0.2,
        fallback: Fallback = "linear",
        grad: Literal["exact", "straight_through"] = "exact",
        margin_warmup: float = 0.1,
    ) -> None:
        super().__init__()
        self.s = above_zero("arcface", "s", s)
        self.m = within("arcface", "m", m, 0, math.pi)
        self.fallback = one_of("arcface", "fallback", fallback, ("linear", "none", "easy"))
        self.grad = one_of("arcface", "grad", grad, ("exact", "straight_through"))
        self.margin_warmup = within("arcface", "margin_warmup", margin_warmup, 0, 1)

    @property
    def scale(self) -> float:
        return self.s

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        m = warmed(self.m, self.progress, self.margin_warmup).to(output.logits.dtype)
        self.track("m", m)
        cosine = target_of(output.logits, targets)
        target = with_margin(cosine, m, self.fallback)
        if self.grad == "straight_through":
            target = cosine + (target - cosine).detach()
        return scaled_cross_entropy(output.logits, targets, target, self.s)


def with_margin(cosine: Tensor, m: Tensor, fallback: Fallback) -> Tensor:
    """cos(theta + m) of cosines [batch], with its fallback where it is of no use."""
    # Rounding takes a cosine of parallel vectors beyond 1.
    cosine = cosine.clamp(-1, 1)
    sine = ((1 - cosine) * (1 + cosine) + SINE_EPSILON).sqrt()
    cos_m, sin_m = m.cos(), m.sin()
    moved = cosine * cos_m - sine * sin_m
    if fallback == "none":
        return moved
    if fallback == "easy":
        return torch.where(cosine > 0, moved, cosine)
    # theta + m <= pi, said with cosines.
    return torch.where(cosine >= -cos_m, moved, cosine - m * sin_m)
