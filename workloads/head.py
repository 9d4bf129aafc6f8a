"""Where a model and a loss meet: what the loss asks of the last layer, and what that layer hands over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

HeadKind = Literal["linear", "cosine", "godin"]
Similarity = Literal["cosine", "inner", "euclid"]
Divisor = Literal["sigmoid", "exp"]


@dataclass(frozen=True)
class HeadSpec:
    """The last layer that a loss needs; the model is built with it."""

    kind: HeadKind = "linear"
    """``linear``: XW' + b. ``cosine``: the cosines of the angles between X and the rows of W.
    ``godin``: h(X) / g(X)."""
    bias: bool = True
    """``linear`` only."""
    prior: bool = False
    """``linear`` only: the bias starts at -log(C - 1) and the weights near zero, so that every class starts
    at a sigmoid of 1/C."""
    similarity: Similarity = "cosine"
    """``godin`` only: h."""
    divisor: Divisor = "sigmoid"
    """``godin`` only: the function that makes g of a batch-normalised linear map."""


class HeadOutput(NamedTuple):
    """What a head says of a batch, in float32 or float64 also under autocast."""

    logits: Tensor
    """[batch, classes]: XW' + b of a linear head, cosines of a cosine head, h/g of a GODIN head."""
    features: Tensor | None = None
    """The head's input X, [batch, features]."""
    weight: Tensor | None = None
    """W, [classes, features], not normalised."""
    bias: Tensor | None = None
    """b, [classes], where the head has one."""
    divisor: Tensor | None = None
    """g of a GODIN head, [batch, 1]."""
    classes: Tensor | None = None
    """Which classes the columns are, int64 [columns], after a selection; None: all, in order."""

    def rows(self, kept: Tensor | slice) -> HeadOutput:
        """The samples where ``kept``, bool [batch], is true, those with the indices ``kept``, or a slice."""
        return self._replace(
            logits=self.logits[kept],
            features=None if self.features is None else self.features[kept],
            divisor=None if self.divisor is None else self.divisor[kept],
        )

    def columns(self, active: Tensor) -> HeadOutput:
        """The classes ``active``, int64 [columns], in this order."""
        return self._replace(
            # index_select and its gradient take a fraction of the time of indexing.
            logits=self.logits.index_select(1, active),
            weight=None if self.weight is None else self.weight.index_select(0, active),
            bias=None if self.bias is None else self.bias.index_select(0, active),
            classes=active if self.classes is None else self.classes[active],
        )

    def detach(self) -> HeadOutput:
        """The same values without their graph."""
        return HeadOutput(*(None if t is None else t.detach() for t in self))  # type: ignore[arg-type]


def lengths(rows: Tensor) -> Tensor:
    """The L2 norm of each row of [rows, columns]: [rows, 1]."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return norms
