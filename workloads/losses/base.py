"""What every loss is: the interface that training, evaluation and a user's own loss meet in."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from workloads.head import HeadOutput, HeadSpec, lengths

Needs = Literal["logits", "cosine", "features+fc", "godin"]
Targets = Literal["hard", "soft"]
HALF = (torch.float16, torch.bfloat16)


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

    A subclass writes :meth:`value`; :meth:`forward` checks and prepares its inputs. Parameters registered on
    the loss are trained in their own optimiser group, without weight decay.
    """

    needs: ClassVar[Needs] = "logits"
    """What the model's head must hand over. ``logits``: Z, from a linear head; ``cosine``: the cosines, from
    a cosine head; ``features+fc``: also X, W and b of a linear head; ``godin``: h/g, from a GODIN head."""
    targets: Targets = "hard"
    """``soft``: also defined for a distribution over the classes instead of a label."""
    lr_scale: float = 1.0
    """Learning rate of the loss's own parameters, as a multiple of the model's."""
    progress: Tensor
    """The finished share of training, 0 to 1: what schedules inside a loss follow."""

    def __init__(self) -> None:
        super().__init__()
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        # A tensor, so that a compiled or captured step sees it move; not saved, because the step gives it.
        # A loss that is used by itself stands at the end of its schedule.
        self.register_buffer("progress", torch.ones((), dtype=torch.float64), persistent=False)

    @property
    def head(self) -> HeadSpec:
        """The head to build the model with."""
        return HeadSpec(self.needs if self.needs in ("cosine", "godin") else "linear")

    @abstractmethod
    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        """The loss of a batch of at least one image.

        Args:
            output: float32 or float64; ``output.logits`` is [batch, classes].
            targets: class indices, int64 [batch], or (soft losses only) probabilities [batch, classes].
        Returns: scalar, connected to ``output.logits`` even where it is zero.
        """
        raise TypeError(f"{type(self).__name__} defines no value(output, targets)")

    def forward(
        self,
        output: HeadOutput | Tensor,
        labels: Tensor,
        active: Tensor | None = None,
        ignore_index: int | None = None,
    ) -> Tensor:
        """The loss of a batch, in at least float32 also under autocast.

        Args:
            output: what the head says; a tensor stands for an output that has only ``logits``.
            labels: class indices, int64 [batch], or probabilities [batch, classes] for a soft loss.
            active: class indices, int64 [active classes]: the loss sees these columns only, and every label
                must be among them. None: all classes.
            ignore_index: images with this label do not count.
        Returns: scalar; zero, with a graph, where no image counts.
        Raises: ValueError where shapes do not fit, probabilities are given to a hard loss, a label is not a
            class (checked on the CPU only: asking a GPU would make every step wait for it), ``active`` is
            empty, or the value is not a scalar.
        """
        out = output if isinstance(output, HeadOutput) else HeadOutput(output)
        self.check(out, labels)
        if ignore_index is not None and not labels.is_floating_point():
            kept = labels != ignore_index
            out, labels = out.rows(kept), labels[kept]
        if active is not None:
            out, labels = _select(out, labels, active)
        _check_range(labels, out.logits.shape[1])
        if len(labels) == 0:
            return out.logits.sum() * 0
        # A norm, an arc cosine, an exponential of 1/tau or a comparison with a mean loses its meaning in
        # 16 bits.
        with torch.autocast(device_type=out.logits.device.type, enabled=False):
            if out.logits.dtype in HALF:
                out = _widened(out)
            if labels.is_floating_point():
                labels = labels.to(out.logits.dtype)
            if self.training:
                self.observe(out, labels)
            value = self.value(out, labels)
        if value.ndim != 0:
            raise ValueError(f"{type(self).__name__} must return a scalar; got shape {tuple(value.shape)}")
        return value

    def observe(self, output: HeadOutput, targets: Tensor) -> None:
        """Track what is worth a line an epoch of every batch, before its loss is computed."""
        self.track("logit_norm", lengths(output.logits.detach()).mean())

    def eval_logits(self, output: HeadOutput | Tensor) -> Tensor:
        """The only logits that scores and calibration see: no margin, scale restored, argmax = prediction.

        Args:
            output: what the head says; a tensor stands for an output that has only ``logits``.
        Returns: float [batch, classes].
        """
        out = output if isinstance(output, HeadOutput) else HeadOutput(output)
        with torch.autocast(device_type=out.logits.device.type, enabled=False):
            return self.restored(_widened(out) if out.logits.dtype in HALF else out)

    def restored(self, output: HeadOutput) -> Tensor:
        """What :meth:`eval_logits` returns; a loss whose head does not give logits writes it anew."""
        return output.logits

    def set_progress(self, fraction: float) -> None:
        """Say how much of the training is done, 0 to 1; losses without a schedule take no notice."""
        self.progress.fill_(fraction)

    def of_classes(self, values: Tensor, output: HeadOutput) -> Tensor:
        """One value a class, [classes], for the output's columns, in the precision of its logits."""
        chosen = values if output.classes is None else values[output.classes]
        return chosen.to(output.logits.dtype)

    def track(self, name: str, value: Tensor) -> None:
        """Add a scalar to the epoch's mean of ``name``, without waiting for the device.

        Nothing is tracked in evaluation mode or inside a compiled graph.
        """
        if not self.training or torch.compiler.is_compiling():
            return
        seen = self._counts.get(name, 0)
        self._sums[name] = value.detach() + self._sums[name] if seen else value.detach().clone()
        self._counts[name] = seen + 1

    def stats(self) -> dict[str, float]:
        """Means over the batches since the last call, of what the loss tracks."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means

    def check(self, output: HeadOutput, labels: Tensor) -> None:
        """Raises: ValueError where the output or the labels are not what the loss needs."""
        name = type(self).__name__
        if output.logits.ndim != 2:
            raise ValueError(f"{name}: logits must be [batch, classes]; got {list(output.logits.shape)}")
        if self.needs == "features+fc" and (output.features is None or output.weight is None):
            raise ValueError(f"{name} needs the features and weights of a linear head; got logits alone")
        expected = list(output.logits.shape)
        if labels.is_floating_point():
            if self.targets == "hard":
                raise ValueError(
                    f"{name} needs class indices; got soft targets ({labels.dtype}). "
                    "Mixup, label smoothing and distillation need a loss with soft targets"
                )
        elif labels.dtype != torch.int64:
            raise ValueError(f"{name}: labels must be int64 class indices; got {labels.dtype}")
        else:
            del expected[1]
        if list(labels.shape) != expected:
            what = "soft targets" if labels.is_floating_point() else "labels"
            raise ValueError(
                f"{name}: {what} must have shape {expected}, as the logits have; got {list(labels.shape)}"
            )


def _check_range(labels: Tensor, classes: int) -> None:
    if labels.is_floating_point() or labels.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if len(labels) == 0:
        return
    lowest, highest = (int(label) for label in labels.aminmax())
    if lowest < 0 or highest >= classes:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(f"labels must be class indices in 0..{classes - 1}; got {wrong}")


def _select(output: HeadOutput, labels: Tensor, active: Tensor) -> tuple[HeadOutput, Tensor]:
    """Columns ``active``, and labels renumbered to them.

    Writing -inf into the others instead would make a norm infinite and a mean over classes wrong.
    """
    _check_active(active, output.logits.shape[1])
    if labels.is_floating_point():
        return output.columns(active), labels[:, active]
    _check_range(labels, output.logits.shape[1])
    position = labels.new_full((output.logits.shape[1],), -1)
    position[active] = torch.arange(len(active), device=labels.device)
    renumbered = position[labels]
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and (renumbered < 0).any():
        wrong = int(labels[renumbered < 0][0])
        raise ValueError(f"every label must be one of the active classes {active.tolist()}; got {wrong}")
    return output.columns(active), renumbered


def _check_active(active: Tensor, classes: int) -> None:
    if len(active) == 0:
        raise ValueError("active must name at least one class; got none")
    if active.device.type != "cpu" or torch.compiler.is_compiling():
        return
    named = active.tolist()
    if len(set(named)) < len(named) or not set(named) <= set(range(classes)):
        raise ValueError(f"active must name classes in 0..{classes - 1}, each once; got {named}")


def _widened(output: HeadOutput) -> HeadOutput:
    """The floating-point tensors in float32."""
    parts = (t.float() if t is not None and t.is_floating_point() else t for t in output)
    return HeadOutput(*parts)  # type: ignore[arg-type]
