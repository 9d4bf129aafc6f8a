"""What an attack increases: functions of the logits and the true labels.

All but cross-entropy itself do not depend on the logits' scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

SCALED_NORM = 10.0
"""Length of the logits under ``scaled_ce``."""


def _cross_entropy(Z: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(Z, labels, reduction="none")


def _scaled_cross_entropy(Z: Tensor, labels: Tensor) -> Tensor:
    precise = Z.double()
    norm = torch.linalg.vector_norm(precise, dim=1, keepdim=True)
    return _cross_entropy(SCALED_NORM * precise / torch.where(norm > 0.0, norm, 1.0), labels)


def _margin(Z: Tensor, labels: Tensor) -> Tensor:
    precise, own = Z.double(), labels[:, None]
    others = precise.scatter(1, own, -torch.inf).max(dim=1).values
    return others - precise.gather(1, own).squeeze(1)


def _difference_of_logits_ratio(Z: Tensor, labels: Tensor) -> Tensor:
    if Z.shape[1] < 3:
        raise ValueError(f"dlr needs three or more classes; got {Z.shape[1]}")
    top = Z.double().topk(3, dim=1).values
    spread = top[:, 0] - top[:, 2]
    # The authors add 1e-12, which is not small beside small logits.
    return _margin(Z, labels) / torch.where(spread > 0.0, spread, 1.0)


OBJECTIVES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": _cross_entropy,
    "scaled_ce": _scaled_cross_entropy,
    "dlr": _difference_of_logits_ratio,
    "margin": _margin,
}
"""What an attack increases: logits [batch, classes] and labels [batch] -> [batch]."""
