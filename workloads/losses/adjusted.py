"""Post-hoc logit adjustment of a model that any loss has trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import Loss
from workloads.losses.rules import not_negative


class Adjusted(Loss):
    """A trained loss whose logits answer as if all classes were equally frequent.

    Scores see the loss's own ``eval_logits`` minus tau log pi, with pi the share of each class in the
    training images. It is not for training. Where those logits are no log probabilities up to a constant
    (cosines, margins, normalised logits), what tau = 1 does to them depends on their scale.

    Args:
        base: the loss that trained the model.
        counts: training images of each class, above 0.
        tau: strength, >= 0.
    Raises: ValueError where tau < 0 or a count is below 1.
    Source: Menon et al. 2021, "Long-tail learning via logit adjustment", eq. 9.
    Differs from source: offered for any loss.
    """

    log_prior: Tensor

    def __init__(self, base: Loss, counts: Sequence[int], tau: float) -> None:
        super().__init__()
        if min(counts) < 1:
            raise ValueError(f"every class must have a training image; got counts {list(counts)}")
        self.base = base
        self.tau = not_negative("logit_adjustment", "tau", tau)
        numbers = torch.tensor(counts, dtype=torch.float64)
        self.register_buffer("log_prior", (numbers / numbers.sum()).log(), persistent=False)

    @property
    def head(self) -> HeadSpec:
        return self.base.head

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        raise TypeError("a post-hoc adjustment is not trained with")

    def restored(self, output: HeadOutput) -> Tensor:
        return self.base.restored(output) - self.tau * self.of_classes(self.log_prior, output)
