"""AdaCos: a scale that follows from the number of classes, or from the batch."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import LossContext
from workloads.losses.cosine import CosineLoss, angle, log_scale, target_of
from workloads.losses.rules import one_of

SMALLEST = 1e-2
"""s is kept above this: where the others' exponentials average to 1 or less its formula gives nothing
positive."""


class AdaCos(CosineLoss):
    """CE(s cos(theta), y) with s set by itself.

    ``fixed``: s = sqrt(2) log(C - 1), or 1 where C = 2. ``dynamic``: starts there, and every training batch
    sets s = log(B) / cos(min(pi/4, median theta_y)), B being the mean over the batch of the sum over j != y
    of exp(s cos(theta_j)) at the s before. s carries no gradient; scores see the last one.

    Args:
        mode: ``dynamic`` or ``fixed``.
    Raises: ValueError for another word, or without a context.
    Source: Zhang et al. 2019, "AdaCos: adaptively scaling cosine logits", eq. 12 and 15; public code of
        4uiiurz1/pytorch-adacos.
    Differs from source: s is kept above 0 and is 1 for two classes; with an even batch the lower median is
        taken, as torch does.
    """

    s: Tensor

    def __init__(
        self, mode: Literal["dynamic", "fixed"] = "dynamic", context: LossContext | None = None
    ) -> None:
        super().__init__()
        self.mode = one_of("adacos", "mode", mode, ("dynamic", "fixed"))
        if context is None:
            raise ValueError("adacos needs a context that knows the number of classes")
        self.register_buffer("s", torch.tensor(log_scale(context.num_classes), dtype=torch.float64))

    @property
    def scale(self) -> Tensor:
        return self.s

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        if self.mode == "dynamic":
            if self.training:
                self._adapt(output.logits.detach(), targets)
            self.track("s", self.s)
        # A copy, because the next batch writes into s and this one's backward pass still needs it.
        s = self.s.to(output.logits.dtype, copy=True)
        return F.cross_entropy(output.logits * s, targets, reduction="none")

    @torch.no_grad()
    def _adapt(self, cosines: Tensor, targets: Tensor) -> None:
        target = target_of(cosines, targets)
        s = self.s.to(cosines.dtype)
        exponentials = (s * cosines).exp()
        B = (exponentials.sum(dim=1) - (s * target).exp()).mean()
        median = angle(target).median().clamp_max(math.pi / 4)
        self.s.copy_((B.log() / median.cos()).clamp_min(SMALLEST))
