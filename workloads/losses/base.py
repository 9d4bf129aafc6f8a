"""What every loss is: the interface that training, evaluation and a user's own loss meet in."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

Needs = Literal["logits", "cosine", "features+fc"]
Targets = Literal["hard", "soft"]


@dataclass(frozen=True)
class LossContext:
    """What a loss may know of the training data when it is made."""

    num_train: int
    """Training images, after the validation split."""
    num_classes: int
    class_counts: tuple[int, ...]
    """Training images of each class."""


class Loss(nn.Module):
    """A classification loss: a scalar to minimise, and the logits that scores may see.

    A subclass writes :meth:`value`; :meth:`forward` prepares its inputs. Parameters registered on the loss
    are trained in their own optimiser group, without weight decay.
    """

    needs: ClassVar[Needs] = "logits"
    """What the model's head must hand over."""
    targets: ClassVar[Targets] = "hard"
    """``soft``: also defined for a distribution over the classes instead of a label."""

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    @abstractmethod
    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: float32 or float64 [batch, classes].
            targets: class indices, int64 [batch], or (soft losses only) probabilities [batch, classes].
        Returns: scalar, connected to ``logits`` even where it is zero.
        """
        raise TypeError(f"{type(self).__name__} defines no value(logits, targets)")

    def forward(self, logits: Tensor, labels: Tensor, active: Tensor | None = None) -> Tensor:
        """The loss of a batch, in at least float32 also under autocast.

        Args:
            logits: unnormalised scores, float [batch, classes].
            labels: class indices, int64 [batch], or probabilities [batch, classes] for a soft loss.
            active: class indices, int64 [active classes]: the loss sees these columns only, and every label
                must be among them. None: all classes.
        Returns: scalar.
        Raises: ValueError where probabilities are given to a hard loss, or the value is not a scalar.
        """
        if labels.is_floating_point() and self.targets == "hard":
            raise ValueError(
                f"{type(self).__name__} needs class indices; got soft targets ({labels.dtype}). "
                "Mixup, label smoothing and distillation need a loss with soft targets"
            )
        if active is not None:
            logits, labels = _select(logits, labels, active)
        # A norm, an exponential of 1/tau or a comparison with a mean loses its meaning in 16 bits.
        with torch.autocast(device_type=logits.device.type, enabled=False):
            if logits.dtype in (torch.float16, torch.bfloat16):
                logits = logits.float()
            if labels.is_floating_point():
                labels = labels.to(logits.dtype)
            self.track("logit_norm", logits.detach().norm(dim=1).mean())
            value = self.value(logits, labels)
        if value.ndim != 0:
            raise ValueError(f"{type(self).__name__} must return a scalar; got shape {tuple(value.shape)}")
        return value

    def eval_logits(self, logits: Tensor) -> Tensor:
        """The only logits that scores and calibration see: no margin, scale restored, argmax = prediction."""
        return logits

    def track(self, name: str, value: Tensor) -> None:
        """Add a scalar to the epoch's mean of ``name``, without waiting for the device."""
        if not self.training:
            return
        seen = self._counts.get(name, 0)
        self._sums[name] = value.detach() + self._sums[name] if seen else value.detach()
        self._counts[name] = seen + 1

    def stats(self) -> dict[str, float]:
        """Means over the batches since the last call: ``logit_norm`` and what the loss tracks of its own."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means


def _select(logits: Tensor, labels: Tensor, active: Tensor) -> tuple[Tensor, Tensor]:
    """Columns ``active``, and labels renumbered to them.

    Writing -inf into the others instead would make a norm infinite and a mean over classes wrong.
    """
    if labels.is_floating_point():
        return logits[:, active], labels[:, active]
    position = labels.new_full((logits.shape[1],), -1)
    position[active] = torch.arange(len(active), device=labels.device)
    return logits[:, active], position[labels]
