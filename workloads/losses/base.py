"""What every loss is: the interface that training, evaluation and a user's own loss meet in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from workloads.head import HeadOutput, HeadSpec, lengths
from workloads.losses.inputs import Inputs, check_shapes, prepare, widened

Needs = Literal["logits", "cosine", "features+fc", "godin"]
Targets = Literal["hard", "soft"]


@dataclass(frozen=True)
class LossContext:
    """What a loss may know of the training data when it is made."""

    num_train: int
    """Training images, after the validation split."""
    num_classes: int
    class_counts: tuple[int, ...]
    """Training images of each class."""
    active: tuple[int, ...] | None = None
    """Classes that occur at all so far; None: all. The others have no images: no margin or weight is defined
    for them (NaN), and the loss must be called with ``active`` columns among these. Sums, minima and numbers
    of classes that follow from the counts are over these classes. Scales that follow from ``num_classes``
    (of adacos, of normface by ``log_classes``, of arcgrad by a gap) do not change with them: they are made
    for the whole head."""


class Loss(nn.Module):
    """A classification loss: a scalar to minimise, and the logits that scores may see.

    A subclass writes :meth:`per_sample`, the loss of each image, and :meth:`reduce` where that of the batch
    is not their mean. One whose batch is no reduction of losses of images writes :meth:`value` instead.
    :meth:`forward` checks and prepares the inputs. Parameters registered on the loss are trained in their own
    optimiser group, without weight decay.
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

    @property
    def splits(self) -> bool:
        """Whether the loss of a batch is made of losses of its images, which can be weighted and seen.

        It is not where ``value`` was written anew below the class that wrote ``per_sample``: the number to be
        minimised is then another one.
        """
        for kind in type(self).__mro__:
            if "per_sample" in vars(kind):
                return kind is not Loss
            if "value" in vars(kind):
                return False
        return False

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        """The loss of each image of a batch of at least one, given the batch; called once a batch.

        Args:
            output: float32 or float64; ``output.logits`` is [batch, classes].
            targets: class indices, int64 [batch], or (soft losses only) probabilities [batch, classes].
        Returns: [batch], connected to ``output.logits`` even where it is zero.
        """
        raise TypeError(f"{type(self).__name__} defines neither per_sample(output, targets) nor value")

    def reduce(
        self, losses: Tensor, output: HeadOutput, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """The loss of the batch, scalar, of those of its images: their mean, or (sum w l) / (sum w).

        Args:
            losses: what :meth:`per_sample` gave for ``output`` and ``targets``, [batch].
            weights: what each image counts, at least 0, [batch]; None: all the same.
        """
        return losses.mean() if weights is None else (weights * losses).sum() / weights.sum()

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        """The loss of a batch of at least one image, from the arguments of :meth:`per_sample`.

        Returns: scalar, connected to ``output.logits`` even where it is zero.
        """
        return self.reduce(self._losses(output, targets), output, targets)

    def forward(
        self,
        output: HeadOutput | Tensor,
        labels: Tensor,
        active: Tensor | None = None,
        ignore_index: int | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch, in at least float32 also under autocast.

        Args:
            output: what the head says; a tensor stands for an output that has only ``logits``.
            labels: class indices, int64 [batch], or probabilities [batch, classes] for a soft loss.
            active: class indices, int64 [active classes]: the loss sees these columns only, and every label
                must be among them. None: all classes.
            ignore_index: images with this label do not count.
            weights: what each image counts in the mean, float [batch], at least 0, not all 0. None: all the
                same.
        Returns: scalar; zero, with a graph, where no image counts.
        Raises: ValueError where shapes do not fit, probabilities are given to a hard loss, a label is not a
            class or a weight out of its range (checked on the CPU only: asking a GPU would make every step
            wait for it), ``active`` is empty, the value is not a scalar, or weights are given to a loss that
            does not split.
        """
        if weights is not None:
            self._must_split("to weight")
        out, targets, w = self._prepared(output, labels, active, ignore_index, weights)
        if len(targets) == 0:
            return out.logits.sum() * 0
        with _in_full_precision(out):
            if self.training:
                self.observe(out, targets)
            if w is None:
                value = self.value(out, targets)
            else:
                value = self.reduce(self._losses(out, targets), out, targets, w)
        return self._scalar(value)

    def detailed(
        self,
        output: HeadOutput | Tensor,
        labels: Tensor,
        active: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` returns, and the loss of each image, [batch], detached.

        Raises: ValueError where ``forward`` does, and for a loss that does not split.
        """
        self._must_split("to show")
        out, targets, w = self._prepared(output, labels, active, None, weights)
        if len(targets) == 0:
            return out.logits.sum() * 0, out.logits.new_zeros(0)
        with _in_full_precision(out):
            if self.training:
                self.observe(out, targets)
            losses = self._losses(out, targets)
            value = self.reduce(losses, out, targets, w)
        return self._scalar(value), losses.detach()

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
        with _in_full_precision(out):
            return self.restored(widened(out))

    def restored(self, output: HeadOutput) -> Tensor:
        """What :meth:`eval_logits` returns; a loss whose head does not give logits writes it anew."""
        return output.logits

    def set_progress(self, fraction: float) -> None:
        """Say how much of the training is done, 0 to 1; losses without a schedule take no notice."""
        self.progress.fill_(fraction)

    def of_classes(self, values: Tensor, output: HeadOutput) -> Tensor:
        """One value a class, [classes], for the output's columns, in the precision of its logits.

        All are NaN where one is: a batch with a column of a class that has no value (see
        ``LossContext.active``) must not get a number, whichever its labels are.
        """
        chosen = values if output.classes is None else values[output.classes]
        return chosen.masked_fill(chosen.isnan().any(), torch.nan).to(output.logits.dtype)

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
        check_shapes(type(self).__name__, self.needs, self.targets, output, labels)

    def _prepared(
        self,
        output: HeadOutput | Tensor,
        labels: Tensor,
        active: Tensor | None,
        ignore_index: int | None,
        weights: Tensor | None,
    ) -> Inputs:
        out = output if isinstance(output, HeadOutput) else HeadOutput(output)
        self.check(out, labels)
        return prepare(out, labels, active, ignore_index, weights)

    def _losses(self, output: HeadOutput, targets: Tensor) -> Tensor:
        losses = self.per_sample(output, targets)
        if losses.shape != (len(targets),):
            raise ValueError(
                f"{type(self).__name__} must return one loss an image, shape {(len(targets),)}; "
                f"got shape {tuple(losses.shape)}"
            )
        return losses

    def _scalar(self, value: Tensor) -> Tensor:
        if value.ndim != 0:
            raise ValueError(f"{type(self).__name__} must return a scalar; got shape {tuple(value.shape)}")
        return value

    def _must_split(self, purpose: str) -> None:
        if not self.splits:
            raise ValueError(
                f"{type(self).__name__} gives one number for a batch: "
                f"it has no losses of single images {purpose}"
            )


def _in_full_precision(output: HeadOutput) -> torch.autocast:
    """A norm, an arc cosine, an exponential of 1/tau or a comparison with a mean means nothing in 16 bits."""
    return torch.autocast(device_type=output.logits.device.type, enabled=False)
