"""Generalized ODIN: cross-entropy of h(x) / g(x)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from workloads.head import Divisor, HeadOutput, HeadSpec, Similarity
from workloads.losses.base import Loss, Needs, Targets
from workloads.losses.rules import one_of


class GODIN(Loss):
    """CE(h(x) / g(x), y): the head learns what divides its logits, image by image.

    Scores see h/g, whose argmax is that of h because g > 0.

    Args:
        h: similarity to a class: ``cosine``, ``inner`` or ``euclid`` (minus the mean squared difference).
        g: ``sigmoid`` of the batch-normalised linear map, or ``exp`` of it, as the LogitNorm paper prints it.
    Raises: ValueError for another word.
    Source: Hsu et al. 2020, "Generalized ODIN: detecting out-of-distribution image without learning from
        out-of-distribution data", eq. 5; public code of guyera/Generalized-ODIN.
    Differs from source: g is kept at 1e-3 or more.
    """

    needs: ClassVar[Needs] = "godin"
    targets: Targets = "soft"

    def __init__(self, h: Similarity = "cosine", g: Divisor = "sigmoid") -> None:
        super().__init__()
        self.h = one_of("godin", "h", h, ("cosine", "inner", "euclid"))
        self.g = one_of("godin", "g", g, ("sigmoid", "exp"))

    @property
    def head(self) -> HeadSpec:
        return HeadSpec("godin", similarity=self.h, divisor=self.g)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        if output.divisor is not None:
            self.track("g", output.divisor.mean())
        return F.cross_entropy(output.logits, targets, reduction="none")
