"""ELogitNorm: logits divided by the feature's mean distance to the decision boundaries."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss, Needs
from workloads.losses.rules import one_of

EPSILON = 1e-8
"""Added to the distance, which is zero for equal logits."""
SMALLEST_SQUARE = 1e-12
"""Two classes with equal weights have no boundary between them; their distance is kept from zero."""


class ELogitNorm(Loss):
    """CE(Z / D, y) with D = (1/C) sum_j |Z_max - Z_j| / |w_max - w_j|, max being the predicted class.

    Each term is the feature's distance to the boundary between the predicted class and class j. There is no
    temperature. The gradient flows through D and the weights. Scores see the raw logits.

    Args:
        divisor: the mean over all C ``classes``, the predicted one's zero included (authors' code), or over
            the C - 1 ``others`` (as the word average suggests).
    Raises: ValueError for another word.
    Source: Ding et al. 2025, "Enhancing out-of-distribution detection with extended logit normalization";
        public code of limchaos/ELogitNormOOD.
    Differs from source: 1e-8 added to D, which is 0 (and the loss NaN) for equal logits; distances between
        class weights kept at 1e-6 or more.
    """

    needs: ClassVar[Needs] = "features+fc"

    def __init__(self, divisor: Literal["classes", "others"] = "classes") -> None:
        super().__init__()
        self.divisor = one_of("elogitnorm", "divisor", divisor, ("classes", "others"))

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        assert output.weight is not None
        Z, W = output.logits, output.weight
        largest, predicted = Z.max(dim=1, keepdim=True)  # [batch, 1]
        # The rows that are needed: one a class, or one an image where images are fewer.
        if len(Z) < len(W):
            distances = _distances(W[predicted.squeeze(1)], W)
        else:
            distances = _distances(W, W)[predicted.squeeze(1)]
        # A row's distance to itself is rounding noise around 0, whose inverse would drown the gradient.
        distances = distances.scatter(1, predicted, 1.0)
        terms = (largest - Z) / distances  # [batch, classes]; 0 for the predicted class
        number = Z.shape[1] if self.divisor == "classes" else max(Z.shape[1] - 1, 1)
        D = terms.sum(dim=1, keepdim=True) / number + EPSILON
        self.track("distance", D.mean())
        return F.cross_entropy(Z / D, targets, reduction="none")


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances between the rows of a and b, not below 1e-6."""
    squares = a.square().sum(dim=1, keepdim=True) + b.square().sum(dim=1) - 2 * a @ b.T
    return torch.sqrt(squares.clamp_min(SMALLEST_SQUARE))
