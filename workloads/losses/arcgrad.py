"""ArcGrad: a softmax over angles instead of cosines, and the scale that its gradient asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import LossContext
from workloads.losses.cosine import CosineLoss, angle
from workloads.losses.rules import above_zero, expression


class ArcGrad(CosineLoss):
    """CE(-s theta, y), theta in radians: on the sphere the pull on a feature does not fade as it arrives.

    The gradient's length on the unit sphere is about s (1 - p_y) whatever the angle; losses on cosines lose a
    factor sin(theta). Scores see s (pi - theta), the same softmax.

    Args:
        s: scale, > 0; or the average angular gap between classes at which the gradient is to be largest, in
            radians: ``{"gap": g}`` for s = (1 + W((C - 1) / e)) / g, which is that maximum, or
            ``{"gap_as_published": g}`` for s = (1 + W(C - 1)) / g. W is Lambert's.
    Raises: ValueError where s or the gap <= 0, or the expression is unknown or needs a context.
    Source: Wu and Wang 2020, "ArcGrad: angular gradient margin loss for classification"; the
        README "Large Margin Classification".
    Differs from source: 1. their s of a gap is 27 % too large for ten classes (see
        :func:`largest_gradient_scale`); 2. their evaluation returns bare cosines, which are no logits of
        their softmax.
    """

    def __init__(self, s: float | Mapping[str, float] = 10.0, context: LossContext | None = None) -> None:
        super().__init__()
        self.s = _scale(s, context)

    @property
    def scale(self) -> float:
        return self.s

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(angle(output.logits) * -self.s, targets, reduction="none")

    def restored(self, output: HeadOutput) -> Tensor:
        return self.s * (math.pi - angle(output.logits))


def largest_gradient_scale(num_classes: int, gap: float) -> float:
    """The s at which the loss of an average gap pulls hardest: (1 + W((C - 1) / e)) / gap.

    With L = log(1 + (C - 1) exp(-s gap)) the pull |dL/dgap| = s (C - 1) / (exp(s gap) + C - 1) is largest in
    s where, with x = s gap, (x - 1) exp(x - 1) = (C - 1) / e.
    """
    return (1 + lambert_w((num_classes - 1) / math.e)) / gap


def published_scale(num_classes: int, gap: float) -> float:
    """The source's (1 + W(C - 1)) / gap, which is not that maximum."""
    return (1 + lambert_w(num_classes - 1)) / gap


def lambert_w(z: float) -> float:
    """The principal branch of Lambert's W for z >= 0: w exp(w) = z, by Halley's iteration."""
    w = math.log1p(z)
    for _ in range(50):
        e = math.exp(w)
        f = w * e - z
        step = f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))
        w -= step
        if abs(step) <= 1e-15 * (1 + abs(w)):
            break
    return w


def _scale(s: float | Mapping[str, float], context: LossContext | None) -> float:
    if not isinstance(s, Mapping):
        return above_zero("arcgrad", "s", s)
    word, gap = expression("arcgrad", "s", s, ("gap", "gap_as_published"))
    if context is None:
        raise ValueError(f"arcgrad: s given by {word} needs a context that knows the number of classes")
    formula = largest_gradient_scale if word == "gap" else published_scale
    return formula(context.num_classes, gap)
