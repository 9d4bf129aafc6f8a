"""High error margin loss, with one margin (HEM) and with a margin for each class (HEM+)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext
from workloads.losses.counts import class_counts, present
from workloads.losses.rules import above_zero, expression, one_of, within

Threshold = Literal["sample", "batch"]
MeanOver = Literal["active", "all"]
Budget = Literal["mean", "squares"]


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

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return self.violations(output, targets, self.mu)

    def reduce(
        self, losses: Tensor, output: HeadOutput, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        if self.mean_over == "all":
            return super().reduce(losses, output, targets, weights)
        counted = (losses > 0).to(losses.dtype)
        if weights is not None:
            counted = counted * weights
        total = counted.sum()
        return (counted * losses).sum() / torch.where(total > 0, total, 1)

    def violations(self, output: HeadOutput, targets: Tensor, mu: Tensor | float) -> Tensor:
        """The losses [batch] for margins ``mu``: a number, or one for each sample, [batch]."""
        Z, column = output.logits, targets.unsqueeze(1)
        own = Z.gather(1, column).squeeze(1)  # [batch]
        excess = Z - (own - mu).unsqueeze(1)  # [batch, classes]
        # Which violations count is decided without a graph: their sum is linear in the logits.
        e = excess.detach().clamp_min(0).scatter_(1, column, 0.0)
        average = e.mean(dim=1, keepdim=True) if self.threshold == "sample" else e.mean()
        kept = (e >= average.clamp_min(torch.finfo(e.dtype).tiny)).to(e.dtype)
        number = kept.sum(dim=1)  # [batch]
        self.track("saturated", (number == 0).to(e.dtype).mean())
        return (excess * kept).sum(dim=1) / number.clamp_min(1)


class HighErrorMarginPlus(HighErrorMargin):
    """HEM with a margin mu_y = a n_y^-p for a sample of class y: wider for rare classes.

    a is such that the margins spend what the published ones, mu_c = sqrt(scale / (C n_c)), do; p = 0.5 is
    these themselves, p = 0 one margin for all classes. The margin belongs to the true class, not to the
    competitor. With equal class counts it is HEM. C and N are of the classes that occur.

    Args:
        scale: as in HEM, where mu = sqrt(scale / N), > 0.
        p: how fast margins fall with the number of images of a class, 0 to 1.
        budget: what all p have in common: ``mean``, the mean margin of a training image,
            sum_c n_c mu_c / N; or ``squares``, sum_c mu_c^2.
        cap: largest mu_y as a multiple of sqrt(scale / N), > 0, or 0 for none; applied last, so that what it
            cuts off is not spent.
        threshold: as in HEM.
        mean_over: as in HEM.
    Raises: ValueError where scale <= 0, p is outside [0, 1], cap < 0, for another word, there is no context,
        or a class has no training images.
    Source: as HEM (HEM+); the cap from a public streaming version of it.
    Differs from source: 1. the cap; 2. p and the budget, of which p = 0.5 is published.
    """

    name: ClassVar[str] = "hem_plus"
    margins: Tensor

    def __init__(
        self,
        scale: float = 2000.0,
        p: float = 0.5,
        budget: Budget = "mean",
        cap: float = 10.0,
        threshold: Threshold = "sample",
        mean_over: MeanOver = "active",
        context: LossContext | None = None,
    ) -> None:
        counts = class_counts("hem_plus", context)
        scale = above_zero("hem_plus", "scale", scale)
        mean = math.sqrt(scale / float(present(counts).sum()))
        super().__init__(mean, threshold, mean_over)
        p = within("hem_plus", "p", p, 0, 1)
        margins = class_margins(counts, scale, p, one_of("hem_plus", "budget", budget, ("mean", "squares")))
        if cap != 0:
            margins = margins.clamp_max(above_zero("hem_plus", "cap", cap) * mean)
        self.register_buffer("margins", margins, persistent=False)

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return self.violations(output, targets, self.of_classes(self.margins, output)[targets])


def class_margins(counts: Tensor, scale: float, p: float, budget: Budget) -> Tensor:
    """mu_c = a n_c^-p with the budget of sqrt(scale / (C n_c)), float64 [classes].

    Args:
        counts: training images of each class, float64 [classes]; NaN, and so the margin, for a class that
            does not occur.
    """
    published = torch.sqrt(scale / (len(present(counts)) * counts))
    # At p = 0.5 a product with 1, so that the published margins come out to the bit.
    margins = published * counts ** (0.5 - p)
    if budget == "mean":
        return margins * ((counts * published).nansum() / (counts * margins).nansum())
    return margins * (published.square().nansum() / margins.square().nansum()).sqrt()


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
