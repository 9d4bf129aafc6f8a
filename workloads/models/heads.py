"""The last layers: features in, what a loss needs out.

A head computes in float32 also under autocast: a norm, a cosine near 1 or a logit that is divided by a small
temperature loses its meaning in 16 bits.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.head import Divisor, HeadOutput, HeadSpec, Similarity, lengths

SMALLEST_NORM = 1e-6
"""Norms are kept from zero, where the gradient of a direction would be infinite."""
PRIOR_STD = 0.01
"""Standard deviation of the weights of a head that starts at the prior (Lin et al. 2017, focal loss)."""
GODIN_NORM_EPSILON = 1e-4
"""Added to both norms of GODIN's cosine, as in the authors' code."""
GODIN_SMALLEST_DIVISOR = 1e-3
"""g is kept from zero, where the logits would be infinite."""
GODIN_LARGEST_EXPONENT = 30.0
"""exp of much more is infinite, and its gradient not a number."""


class Head(nn.Module):
    """A last layer with a weight [classes, features] and, where it has one, a bias [classes]."""

    weight: nn.Parameter
    bias: nn.Parameter | None

    def forward(self, features: Tensor) -> HeadOutput:
        """What the loss needs of features, float [batch, features]."""
        with torch.autocast(device_type=features.device.type, enabled=False):
            if features.dtype in (torch.float16, torch.bfloat16):
                features = features.float()
            return self.output(features)

    @abstractmethod
    def output(self, features: Tensor) -> HeadOutput:
        """As :meth:`forward`, for float32 or float64 features."""
        raise TypeError(f"{type(self).__name__} defines no output(features)")

    def undecayed(self) -> Sequence[nn.Parameter]:
        """Parameters that the optimiser must not decay."""
        return ()


class LinearHead(Head):
    """Z = XW' + b.

    Initialisation: weight and bias uniform in +-1/sqrt(features), never zero (LogitNorm's gradient explodes
    at zero logits); with ``prior``: weight normal with standard deviation 0.01, bias -log(classes - 1).
    """

    def __init__(self, features: int, num_classes: int, *, bias: bool = True, prior: bool = False) -> None:
        super().__init__()
        layer = nn.Linear(features, num_classes, bias=bias)
        self.weight = nn.Parameter(layer.weight)
        self.bias = nn.Parameter(layer.bias) if bias else None
        if prior:
            nn.init.normal_(self.weight, std=PRIOR_STD)
            if self.bias is not None:
                nn.init.constant_(self.bias, -math.log(max(num_classes - 1, 1)))

    def output(self, features: Tensor) -> HeadOutput:
        logits = F.linear(features, self.weight, self.bias)
        return HeadOutput(logits, features, self.weight, self.bias)


class CosineHead(Head):
    """c = the cosine of the angle between X and each row of W, in [-1, 1]; no bias, no scale.

    The length of a row of W has no effect on c, but the gradient on W falls with it: under weight decay both
    find a balance, without it the rows only grow and stop turning.

    Initialisation: uniform in +-1/sqrt(features); its scale is divided out.
    """

    def __init__(self, features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.Linear(features, num_classes, bias=False).weight)
        self.bias = None

    def output(self, features: Tensor) -> HeadOutput:
        cosines = F.linear(_direction(features), _direction(self.weight))
        return HeadOutput(cosines, features, self.weight)


class GodinHead(Head):
    """Generalized ODIN: logits h(X) / g(X), with a similarity h to each class and one divisor g an image.

    h: ``cosine``; ``inner``, XW' + b; ``euclid``, minus the mean of (x - w)^2 over the features.
    g: a linear map to one number, batch norm, then ``sigmoid`` (the authors' code) or ``exp`` (as printed in
    the LogitNorm paper); kept at 1e-3 or more. Batch norm needs two images in training.

    Initialisation: W He normal, b zero; W, b are not decayed.

    Source: Hsu et al. 2020, "Generalized ODIN"; public code of guyera/Generalized-ODIN.
    Differs from source: g is kept from zero.
    """

    def __init__(
        self, features: int, num_classes: int, similarity: Similarity = "cosine", divisor: Divisor = "sigmoid"
    ) -> None:
        super().__init__()
        self.similarity = similarity
        self.activation = divisor
        layer = nn.Linear(features, num_classes, bias=similarity == "inner")
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.weight = nn.Parameter(layer.weight)
        self.bias = nn.Parameter(layer.bias) if similarity == "inner" else None
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.divisor = nn.Sequential(nn.Linear(features, 1), nn.BatchNorm1d(1))

    def output(self, features: Tensor) -> HeadOutput:
        raw: Tensor = self.divisor(features)  # [batch, 1]
        g = raw.sigmoid() if self.activation == "sigmoid" else raw.clamp_max(GODIN_LARGEST_EXPONENT).exp()
        g = g.clamp_min(GODIN_SMALLEST_DIVISOR)
        return HeadOutput(self._h(features) / g, features, self.weight, self.bias, g)

    def _h(self, x: Tensor) -> Tensor:
        w = self.weight
        if self.similarity == "inner":
            return F.linear(x, w, self.bias)
        if self.similarity == "cosine":
            return F.linear(_unit(x), _unit(w))
        squares = x.square().sum(1, keepdim=True) + w.square().sum(1) - 2 * F.linear(x, w)
        return -squares.clamp_min(0) / x.shape[1]

    def undecayed(self) -> Sequence[nn.Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]


def _direction(rows: Tensor) -> Tensor:
    return F.normalize(rows, eps=SMALLEST_NORM)


def _unit(rows: Tensor) -> Tensor:
    return rows / (lengths(rows) + GODIN_NORM_EPSILON)


class Projector(nn.Sequential):
    """Linear(D, 4E), ReLU, batch norm, Linear(4E, E), batch norm without scale and shift.

    Offered before every head, so that losses on cosines, which are published with it, and losses on logits
    compare fairly.

    Source: public code of ArcGrad's authors (erow/vitookit).
    """

    def __init__(self, features: int, width: int) -> None:
        super().__init__(
            nn.Linear(features, 4 * width),
            nn.ReLU(inplace=True),
            nn.BatchNorm1d(4 * width),
            nn.Linear(4 * width, width),
            nn.BatchNorm1d(width, affine=False),
        )


def build_head(spec: HeadSpec, features: int, num_classes: int) -> Head:
    """The head that ``spec`` describes, freshly initialised from torch's global generator."""
    if spec.kind == "cosine":
        return CosineHead(features, num_classes)
    if spec.kind == "godin":
        return GodinHead(features, num_classes, spec.similarity, spec.divisor)
    return LinearHead(features, num_classes, bias=spec.bias, prior=spec.prior)
