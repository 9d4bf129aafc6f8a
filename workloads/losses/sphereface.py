"""Losses with a multiplicative angular margin: modified softmax, L-Softmax, A-Softmax (SphereFace)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput, HeadSpec, lengths
from workloads.losses.base import Loss, Needs, Targets
from workloads.losses.cosine import angle, target_of
from workloads.losses.rules import above_zero, not_negative, whole, within

SMALLEST = 1e-12
"""Norms are kept from zero."""
END = 1e-3
"""Where an annealing towards lambda_min = 0 ends: the margin then has its full weight."""


class ModifiedSoftmax(Loss):
    """CE(|x| cos(theta), y): class weights normalised, no bias, the features' norm kept.

    Source: Liu et al. 2017, SphereFace, eq. 4; the lecture notes.
    Differs from source: nothing.
    """

    needs: ClassVar[Needs] = "features+fc"
    targets: Targets = "soft"

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("linear", bias=False)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.restored(output), targets, reduction="none")

    def restored(self, output: HeadOutput) -> Tensor:
        return with_unit_weights(output)


class MultiplicativeMargin(Loss):
    """What L-Softmax and A-Softmax share: psi(theta_y) in place of cos(theta_y), eased in by annealing.

    The true class's logit is (lambda a cos(theta) + a psi(theta)) / (1 + lambda), a being its length. lambda
    falls from ``lambda_start`` as (1 + gamma p)^(-power) with the finished share p of the training, reaches
    ``lambda_min`` at p = ``anneal`` and stays there.
    """

    needs: ClassVar[Needs] = "features+fc"

    def __init__(
        self, name: str, m: int, lambda_min: float, anneal: float, lambda_start: float, power: float
    ) -> None:
        super().__init__()
        self.m = whole(name, "m", m, 1)
        self.lambda_min = not_negative(name, "lambda_min", lambda_min)
        self.anneal = within(name, "anneal", anneal, 0, 1)
        self.lambda_start = above_zero(name, "lambda_start", lambda_start)
        self.power = above_zero(name, "power", power)
        end = max(self.lambda_min, END)
        if end > self.lambda_start:
            raise ValueError(
                f"{name}: lambda_start must be at least lambda_min ({lambda_min:g}); got {lambda_start!r}"
            )
        self.gamma = ((self.lambda_start / end) ** (1 / self.power) - 1) / self.anneal if anneal else 0.0

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("linear", bias=False)

    @property
    def annealing(self) -> Tensor:
        """lambda at this point of the training, 0-dimensional."""
        falling = self.lambda_start * (1 + self.gamma * self.progress) ** -self.power
        return torch.where(self.progress >= self.anneal, self.lambda_min, falling)

    def lengthened(self, output: HeadOutput, targets: Tensor, Z: Tensor) -> Tensor:
        """Z with the true class's entry moved by its margin."""
        assert output.features is not None
        assert output.weight is not None
        norm = lengths(output.features).squeeze(1)
        if Z is output.logits:
            W = output.weight
            # The rows that are needed: one an image, or one a class where classes are fewer.
            rows = lengths(W[targets]) if len(targets) < len(W) else lengths(W)[targets]
            norm = norm * rows.squeeze(1)
        own = target_of(Z, targets)
        cosine = (own / norm.clamp_min(SMALLEST)).clamp(-1, 1)
        self.track("target_angle", angle(cosine.detach()).mean())
        margin = norm * psi(cosine, self.m)
        share = self.annealing
        self.track("lambda", share)
        share = share.to(Z.dtype)
        moved = (share * own + margin) / (1 + share)
        return Z.scatter(1, targets.unsqueeze(1), moved.unsqueeze(1))


class LSoftmax(MultiplicativeMargin):
    """Cross-entropy with |W_y| |x| psi(theta_y) for the true class and |W_j| |x| cos(theta_j) for the others.

    Args:
        m: margin, a whole number >= 1; 1 is plain cross-entropy without a bias.
        lambda_min: share of the plain logit that stays in the end, >= 0 (5 to 10 for hard data).
        anneal: share of the training after which lambda has fallen to lambda_min, 0 to 1; 0: no annealing.
        lambda_start: lambda at the start.
        power: form of the fall; the larger, the nearer to an exponential.
    Raises: ValueError where m is not a whole number >= 1 or a number is out of its range.
    Source: Liu et al. 2016, "Large-margin softmax loss for convolutional neural networks", eq. 4 to 6; public
        prototxts of the authors (lambda_start 1000, power 35 to 45); the lecture notes.
    Differs from source: annealing over a share of the training, not over iterations.
    """

    def __init__(
        self,
        m: int = 2,
        lambda_min: float = 0.0,
        anneal: float = 0.5,
        lambda_start: float = 1000.0,
        power: float = 45.0,
    ) -> None:
        super().__init__("l_softmax", m, lambda_min, anneal, lambda_start, power)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.lengthened(output, targets, output.logits), targets, reduction="none")


class ASoftmax(MultiplicativeMargin):
    """Cross-entropy with |x| psi(theta_y) for the true class and |x| cos(theta_j) for the others.

    Args:
        m: margin, a whole number >= 1; 1 is the modified softmax.
        lambda_min: share of the plain logit that stays in the end, >= 0.
        anneal: share of the training after which lambda has fallen to lambda_min, 0 to 1; 0: no annealing.
        lambda_start: lambda at the start.
        power: form of the fall; 1 is the authors'.
    Raises: ValueError where m is not a whole number >= 1 or a number is out of its range.
    Source: Liu et al. 2017, "SphereFace: deep hypersphere embedding for face recognition", eq. 7; the
        authors' prototxt (m 4, lambda_start 1000, power 1, lambda_min 5); the lecture notes.
    Differs from source: annealing over a share of the training, not over iterations.
    """

    def __init__(
        self,
        m: int = 2,
        lambda_min: float = 5.0,
        anneal: float = 0.5,
        lambda_start: float = 1000.0,
        power: float = 1.0,
    ) -> None:
        super().__init__("a_softmax", m, lambda_min, anneal, lambda_start, power)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(
            self.lengthened(output, targets, self.restored(output)), targets, reduction="none"
        )

    def restored(self, output: HeadOutput) -> Tensor:
        return with_unit_weights(output)


def with_unit_weights(output: HeadOutput) -> Tensor:
    """|x| cos(theta) for each class: XW' of the head divided by the norms of W's rows, no second product."""
    assert output.weight is not None
    return output.logits / lengths(output.weight).squeeze(1).clamp_min(SMALLEST)


def psi(cosine: Tensor, m: int) -> Tensor:
    """psi(theta) = (-1)^k cos(m theta) - 2k with k = floor(m theta / pi), at most m - 1, of cos(theta).

    Continuous and falling from 1 at theta = 0 to 1 - 2m at pi. cos(m theta) is Chebyshev's polynomial of
    cos(theta), so no arc cosine stands in the way of the gradient.

    Args:
        cosine: cos(theta), in [-1, 1], any shape.
        m: whole number >= 1.
    Source: Liu et al. 2016, eq. 5 and 6; the last interval of the lecture notes should end at pi.
    """
    if m == 1:
        return cosine
    twice = 2 * cosine
    before, multiple = cosine, twice * cosine - 1
    for _ in range(m - 2):
        before, multiple = multiple, twice * multiple - before
    bounds = [math.cos(i * math.pi / m) for i in range(1, m)]
    k = (cosine.detach().unsqueeze(-1) < cosine.new_tensor(bounds)).sum(dim=-1)
    return (1 - 2 * (k % 2)) * multiple - 2 * k
