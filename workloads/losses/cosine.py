"""Losses on cosines: a scale s, and for some a margin m on the true class (NormFace, CosFace)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext, Needs, Targets
from workloads.losses.rules import above_zero, expression, not_negative, switch, within

CLAMP: Mapping[torch.dtype, float] = {torch.float32: 1e-6, torch.float64: 1e-12}
"""How far a cosine is kept from +-1, where the arc cosine's derivative is infinite. In 16 bits it would round
to nothing."""


class CosineLoss(Loss):
    """A loss on cosines that scores see as s cos(theta), without a margin."""

    needs: ClassVar[Needs] = "cosine"

    @property
    def scale(self) -> Tensor | float:
        """s."""
        raise TypeError(f"{type(self).__name__} defines no scale")

    def observe(self, output: HeadOutput, targets: Tensor) -> None:
        if not targets.is_floating_point():
            self.track("target_angle", angle(target_of(output.logits, targets).detach()).mean())

    def restored(self, output: HeadOutput) -> Tensor:
        return output.logits * self.scale


class NormFace(CosineLoss):
    """CE(s cos(theta), y): features and class weights both normalised.

    The loss cannot fall below log(1 + (C - 1) exp(-s C / (C - 1))), so s must grow with the classes.

    Args:
        s: scale, > 0 (where it is learned: at the start), or ``{"log_classes": k}`` for k log(C - 1)
            (1 where C = 2); k = sqrt(2) is AdaCos's choice.
        learn_s: train s, as its logarithm.
        lr_scale: learning rate of s, as a multiple of the model's, > 0.
    Raises: ValueError where s or lr_scale <= 0, or the expression is unknown or needs a context.
    Source: Wang et al. 2017, "NormFace: L2 hypersphere embedding for face verification", eq. 10.
    Differs from source: a learned s is learned as its logarithm.
    """

    targets: Targets = "soft"

    def __init__(
        self,
        s: float | Mapping[str, float] = 16.0,
        learn_s: bool = False,
        lr_scale: float = 0.1,
        context: LossContext | None = None,
    ) -> None:
        super().__init__()
        start = scale_by_classes("normface", s, context)
        self.lr_scale = above_zero("normface", "lr_scale", lr_scale)
        self.fixed = start
        self.log_s = (
            nn.Parameter(torch.tensor(math.log(start))) if switch("normface", "learn_s", learn_s) else None
        )

    @property
    def scale(self) -> Tensor | float:
        return self.fixed if self.log_s is None else self.log_s.exp()

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        s = self.scale
        if isinstance(s, Tensor):
            self.track("s", s)
            s = s.to(output.logits.dtype)
        return F.cross_entropy(output.logits * s, targets, reduction="none")


class CosFace(CosineLoss):
    """CE(s (cos(theta) - m 1_y), y): a margin on the cosine of the true class.

    At the start the loss is about s m + log C, so the margin grows from zero over ``margin_warmup``.

    Args:
        s: scale, > 0; 64 in face recognition, 16 to 30 for ten classes.
        m: margin on the cosine, >= 0; at most C / (C - 1) can be reached.
        margin_warmup: share of the training over which m grows linearly from 0, 0 to 1.
    Raises: ValueError where s <= 0, m < 0 or margin_warmup is outside [0, 1].
    Source: Wang et al. 2018, "CosFace: large margin cosine loss for deep face recognition", eq. 4; the
        lecture notes.
    Differs from source: the warm-up of the margin.
    """

    def __init__(self, s: float = 30.0, m: float = 0.2, margin_warmup: float = 0.1) -> None:
        super().__init__()
        self.s = above_zero("cosface", "s", s)
        self.m = not_negative("cosface", "m", m)
        self.margin_warmup = within("cosface", "margin_warmup", margin_warmup, 0, 1)

    @property
    def scale(self) -> float:
        return self.s

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        m = warmed(self.m, self.progress, self.margin_warmup).to(output.logits.dtype)
        self.track("m", m)
        target = target_of(output.logits, targets) - m
        return scaled_cross_entropy(output.logits, targets, target, self.s)


def target_of(values: Tensor, labels: Tensor) -> Tensor:
    """The entry of each row, [batch, classes], that its label names: [batch]."""
    return values.gather(1, labels.unsqueeze(1)).squeeze(1)


def scaled_cross_entropy(
    cosines: Tensor, labels: Tensor, target: Tensor, s: Tensor | float, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy of s times the cosines, with ``target`` [batch] in place of the true class's.

    Args:
        weights: one a class, [classes]: that of its label multiplies an image's loss.
    Returns: the loss of each image, [batch].
    """
    replaced = cosines.scatter(1, labels.unsqueeze(1), target.unsqueeze(1))
    return F.cross_entropy(replaced * s, labels, weights, reduction="none")


def angle(cosines: Tensor) -> Tensor:
    """The arc cosine, with a finite derivative also at +-1."""
    limit = 1 - CLAMP[cosines.dtype]
    return cosines.clamp(-limit, limit).acos()


def warmed(value: float, progress: Tensor, share: float) -> Tensor:
    """``value`` after a linear growth from 0 over the first ``share`` of the training, 0-dimensional."""
    return value * (progress / share).clamp_max(1) if share > 0 else torch.full_like(progress, value)


def scale_by_classes(loss: str, s: float | Mapping[str, float], context: LossContext | None) -> float:
    """s as a number: given as one, or as the expression ``{"log_classes": k}`` = k log(C - 1)."""
    if not isinstance(s, Mapping):
        return above_zero(loss, "s", s)
    _, factor = expression(loss, "s", s, ("log_classes",))
    if context is None:
        raise ValueError(f"{loss}: s given by log_classes needs a context that knows the number of classes")
    return log_scale(context.num_classes, factor)


def log_scale(num_classes: int, factor: float = math.sqrt(2)) -> float:
    """factor * log(C - 1); 1 with two classes, where the logarithm is zero.

    Source: Zhang et al. 2019, AdaCos, eq. 12, with factor sqrt(2).
    """
    return factor * math.log(num_classes - 1) if num_classes > 2 else 1.0
