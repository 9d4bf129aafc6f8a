"""The triplet loss on features, as a term beside any classification loss."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import Loss
from workloads.losses.rules import above_zero, not_negative, one_of, switch

Mining = Literal["batch_hard", "batch_all", "semi_hard"]
SMALLEST = 1e-6
"""Norms are kept from zero, where the gradient of a direction would be infinite."""


class Triplet(nn.Module):
    """[d(anchor, positive) - d(anchor, negative) + margin]_+ over triplets of a batch, d Euclidean.

    ``mining``:
    - ``batch_hard``: an anchor's farthest positive and nearest negative; mean over the anchors.
    - ``batch_all``: every triplet; mean over those above zero.
    - ``semi_hard``: for every anchor and positive the nearest negative that is farther than the positive, or
      the farthest negative where there is none; mean over the pairs.

    A batch without a triplet gives zero with a graph.

    Args:
        margin: in units of the distance, >= 0; on unit features d is at most 2.
        mining: see above.
        normalise: scale features to unit length first.
    Raises: ValueError where margin < 0 or for another word.
    Source: Schroff et al. 2015, FaceNet, eq. 1 and section 3.2 (semi-hard); Hermans et al. 2017, "In defense
        of the triplet loss", eq. 5 (batch hard) and 6 (batch all).
    Differs from source: distances, not squared ones, as Hermans et al. recommend.
    """

    def __init__(self, margin: float = 0.2, mining: Mining = "batch_hard", normalise: bool = True) -> None:
        super().__init__()
        self.margin = not_negative("triplet", "margin", margin)
        self.mining = one_of("triplet", "mining", mining, ("batch_hard", "batch_all", "semi_hard"))
        self.normalise = switch("triplet", "normalise", normalise)

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of features float [batch, features] with labels int64 [batch]: scalar."""
        x = F.normalize(features, eps=SMALLEST) if self.normalise else features
        # By differences: |x|^2 + |y|^2 - 2xy is five times faster, but in float32 it does not resolve
        # distances below about 0.02, and late in training the features of a class are nearer than that.
        d = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")  # [anchor, other]
        same = labels.unsqueeze(1) == labels
        positive = same & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
        if self.mining == "batch_hard":
            return self._batch_hard(d, positive, ~same)
        if self.mining == "batch_all":
            return self._batch_all(d, positive, ~same)
        return self._semi_hard(d, positive, ~same)

    def _batch_hard(self, d: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        farthest = d.masked_fill(~positive, -torch.inf).amax(dim=1)
        nearest = d.masked_fill(~negative, torch.inf).amin(dim=1)
        valid = positive.any(dim=1) & negative.any(dim=1)
        return _mean_where(valid, (farthest - nearest + self.margin).clamp_min(0))

    def _batch_all(self, d: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        # The negatives that a pair violates are the first of them in order: B^2 log B steps, not B^3.
        ordered = d.masked_fill(~negative, torch.inf).sort(dim=1).values  # [anchor, rank]
        bound = d + self.margin  # [anchor, positive]
        number = torch.searchsorted(ordered.detach(), bound.detach())
        nearer = F.pad(ordered.masked_fill(ordered.isinf(), 0).cumsum(dim=1), (1, 0)).gather(1, number)
        sums = torch.where(positive, number * bound - nearer, 0)
        return sums.sum() / torch.where(positive, number, 0).sum().clamp_min(1)

    def _semi_hard(self, d: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        ordered = d.masked_fill(~negative, torch.inf).sort(dim=1).values  # [anchor, rank]
        negatives = negative.sum(dim=1, keepdim=True)
        rank = torch.searchsorted(ordered.detach(), d.detach(), right=True)  # of the first that is farther
        chosen = ordered.gather(1, torch.minimum(rank, (negatives - 1).clamp_min(0)))
        return _mean_where(positive & (negatives > 0), (d - chosen + self.margin).clamp_min(0))


class WithTriplet(Loss):
    """A loss plus ``weight`` times the triplet loss of the head's input features.

    Everything else is the loss's own: its head, its ``eval_logits``, its schedules and parameters. Labels
    must be hard.
    """

    def __init__(self, base: Loss, triplet: Triplet, weight: float) -> None:
        super().__init__()
        self.base = base
        self.triplet = triplet
        self.weight = above_zero("triplet", "weight", weight)
        self.lr_scale = base.lr_scale

    @property
    def head(self) -> HeadSpec:
        return self.base.head

    def observe(self, output: HeadOutput, targets: Tensor) -> None:
        self.base.observe(output, targets)

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        if output.features is None:
            raise ValueError("triplet needs the features that enter the head; got logits alone")
        self.base.check(output, targets)
        term: Tensor = self.triplet(output.features, targets)
        self.track("triplet", term)
        return self.base.value(output, targets) + self.weight * term

    def restored(self, output: HeadOutput) -> Tensor:
        return self.base.restored(output)

    def set_progress(self, fraction: float) -> None:
        self.base.set_progress(fraction)

    def stats(self) -> dict[str, float]:
        return {**self.base.stats(), **super().stats()}


def _mean_where(valid: Tensor, values: Tensor) -> Tensor:
    """The mean of the valid values; zero, with a graph, where there is none."""
    chosen = torch.where(valid, values, torch.zeros_like(values))
    return chosen.sum() / valid.sum().clamp_min(1)
