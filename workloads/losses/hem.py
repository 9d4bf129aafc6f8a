"""High error margin loss, with one margin (HEM) and with a margin for each class (HEM+)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext
from workloads.losses.counts import class_counts
from workloads.losses.rules import above_zero, expression, one_of

Threshold = Literal["sample", "batch"]
MeanOver = Literal["active", "all"]


class HighErrorMargin(Loss):
    """The mean of those margin violations that are at least average, over the samples that have any.

    With e_ni = max(0, Z_ni - (Z_ny - mu)) for i != y and e_ny = 0: a sample keeps its violations e > 0 with
    e >= t; its loss is their mean; the batch's loss is the mean over the samples whose loss is above zero.
    ``threshold="sample"``: t_n is the mean of e_n over all C classes; ``"batch"``: one t for the whole batch,
    the mean of e over N and C. A batch without violations gives 0 with a graph and zero gradients.

    The absolute gradients on the logits sum to 2 however few samples are active, so noise grows towards the
    end of training. Invariant to a shift of all logits; nothing pushes past the margin, so the softmax of the
    logits is no probability before temperature scaling.

    Args:
        mu: margin in logits, > 0, or ``{"scale": s}`` for sqrt(s / N) with N training images.
        threshold: over which violations the average is taken.
        mean_over: the ``active`` samples (HEM), or ``all`` of the batch, whose gradients then fade as in MM.
    Raises: ValueError where mu <= 0, its expression is unknown or needs a context, or for another word.
    Source: Spratling and Schütt 2025, "A margin-based replacement for cross-entropy loss" (arXiv 2501.12191).
        A summary of it says that the average is the batch's; two public adaptations of the authors' code
        take the sample's: the default here.
    Differs from source: 1. no 1e-6 added to the two denominators (values up to 2e-6 larger); 2. a batch
        without violations is guarded, not 0/0.
    """

    name: ClassVar[str] = "hem"

    def __init__(
        self,
        mu: float | Mapping[str, float] | None = None,
        threshold: Threshold = "sample",
        mean_over: MeanOver = "active",
        context: LossContext | None = None,
    ) -> None:
        super().__init__()
        self.threshold = one_of(self.name, "threshold", threshold, ("sample", "batch"))
        self.mean_over = one_of(self.name, "mean_over", mean_over, ("active", "all"))
        self.mu = margin({"scale": 2000.0} if mu is None else mu, context)

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return self.violation(output, targets, self.mu)

    def violation(self, output: HeadOutput, targets: Tensor, mu: Tensor | float) -> Tensor:
        """The loss for margins ``mu``: a number, or one for each sample, [batch]."""
        Z, column = output.logits, targets.unsqueeze(1)
        own = Z.gather(1, column).squeeze(1)  # [batch]
        excess = Z - (own - mu).unsqueeze(1)  # [batch, classes]
        # Which violations count is decided without a graph: their sum is linear in the logits.
        e = excess.detach().clamp_min(0).scatter_(1, column, 0.0)
        average = e.mean(dim=1, keepdim=True) if self.threshold == "sample" else e.mean()
        kept = (e >= average.clamp_min(torch.finfo(e.dtype).tiny)).to(e.dtype)
        number = kept.sum(dim=1)  # [batch]
        active = (number > 0).to(e.dtype)
        self.track("saturated", 1 - active.mean())
        per_sample = (excess * kept).sum(dim=1) / number.clamp_min(1)
        return per_sample.sum() / (active.sum().clamp_min(1) if self.mean_over == "active" else len(Z))


class HighErrorMarginPlus(HighErrorMargin):
    """HEM with the margin mu_y = sqrt(scale / (C n_y)) for a sample of class y: wider for rare classes.

    With equal class counts it is HEM. The margin belongs to the true class, not to the competitor.

    Args:
        scale: as in HEM, where mu = sqrt(scale / N), > 0.
        cap: largest mu_y as a multiple of sqrt(scale / N), > 0, or 0 for none.
        threshold: as in HEM.
        mean_over: as in HEM.
    Raises: ValueError where scale <= 0, cap < 0, there is no context, or a class has no training images.
    Source: as HEM (HEM+); the cap from a public streaming version of it.
    Differs from source: the cap.
    """

    name: ClassVar[str] = "hem_plus"
    margins: Tensor

    def __init__(
        self,
        scale: float = 2000.0,
        cap: float = 10.0,
        threshold: Threshold = "sample",
        mean_over: MeanOver = "active",
        context: LossContext | None = None,
    ) -> None:
        counts = class_counts("hem_plus", context)
        scale = above_zero("hem_plus", "scale", scale)
        mean = math.sqrt(scale / float(counts.sum()))
        super().__init__(mean, threshold, mean_over)
        margins = torch.sqrt(scale / (len(counts) * counts))
        if cap != 0:
            margins = margins.clamp_max(above_zero("hem_plus", "cap", cap) * mean)
        self.register_buffer("margins", margins, persistent=False)

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return self.violation(output, targets, self.of_classes(self.margins, output)[targets])


def margin(mu: float | Mapping[str, float], context: LossContext | None) -> float:
    """The margin as a number: given as one, or as the expression ``{"scale": s}`` = sqrt(s / N)."""
    if isinstance(mu, Mapping):
        _, scale = expression("hem", "mu", mu, ("scale",))
        if context is None:
            raise ValueError(
                "hem: mu given by scale needs a context that knows the number of training images"
            )
        return math.sqrt(scale / context.num_train)
    return above_zero("hem", "mu", mu)
