"""High Error Margin loss (HEM)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from workloads.losses.base import Loss, LossContext


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
    Raises: ValueError where mu <= 0, its expression is unknown or needs a context, or threshold is unknown.
    Source: Spratling and Schütt 2025, "A margin-based replacement for cross-entropy loss" (arXiv 2501.12191).
        Their text says that the average is the batch's, their code takes the sample's: the default here.
    Differs from source: 1. no 1e-6 added to the two denominators (values up to 2e-6 larger); 2. a batch
        without violations is guarded, not 0/0.
    """

    def __init__(
        self,
        mu: float | Mapping[str, float] | None = None,
        threshold: Literal["sample", "batch"] = "sample",
        context: LossContext | None = None,
    ) -> None:
        super().__init__()
        if threshold not in ("sample", "batch"):
            raise ValueError(f"hem: threshold must be sample or batch; got {threshold!r}")
        self.mu = margin({"scale": 2000.0} if mu is None else mu, context)
        self.threshold = threshold

    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        column = targets.unsqueeze(1)  # [batch, 1]
        violations = (logits - logits.gather(1, column) + self.mu).clamp_min(0)
        violations = violations.scatter(1, column, 0.0)  # [batch, classes]
        fixed = violations.detach()
        average = fixed.mean(dim=1, keepdim=True) if self.threshold == "sample" else fixed.mean()
        kept = (fixed >= average) & (fixed > 0)
        per_sample = (violations * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1)  # [batch]
        saturated = (per_sample.detach() == 0).to(logits.dtype)
        self.track("saturated", saturated.mean())
        return per_sample.sum() / (1 - saturated).sum().clamp_min(1)


def margin(mu: float | Mapping[str, float], context: LossContext | None) -> float:
    """The margin as a number: given as one, or as the expression ``{"scale": s}`` = sqrt(s / N)."""
    if isinstance(mu, Mapping):
        if set(mu) != {"scale"}:
            raise ValueError(f"hem: mu takes a number or the expression scale; got {dict(mu)!r}")
        if context is None:
            raise ValueError(
                "hem: mu given by scale needs a context that knows the number of training images"
            )
        scale = mu["scale"]
        if not 0 < scale < math.inf:
            raise ValueError(f"hem: mu.scale must be above 0; got {scale!r}")
        return math.sqrt(scale / context.num_train)
    if not 0 < mu < math.inf:
        raise ValueError(f"hem: mu must be above 0; got {mu!r}")
    return float(mu)
