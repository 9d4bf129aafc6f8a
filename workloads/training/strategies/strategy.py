"""Learning one task after the other, and what every strategy against forgetting starts from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from workloads.contract import TrainingConfig
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.protocol_config import ContinualConfig
from workloads.training.batches import Batch, Normaliser
from workloads.training.objective import Objective, predicted


@dataclass(frozen=True)
class Columns:
    """Which of the head's columns an image is classified among; int64 tensors on the device."""

    shared: Tensor | None = None
    """The same for every image; None with ``of_task`` None: all."""
    of_task: tuple[Tensor, ...] | None = None
    """Those of the image's own task (task-incremental learning)."""

    def of(self, task: int) -> Tensor | None:
        """The columns of a task's images."""
        return self.shared if self.of_task is None else self.of_task[task]


@dataclass(frozen=True)
class TaskImages:
    """The training images of a task, on the device they stay on."""

    number: int
    """Of the task, from 0."""
    images: Tensor
    """uint8 [N, C, H, W], as the task presents them."""
    labels: Tensor
    """Columns of the head, int64 [N]."""
    tasks: Tensor
    """int64 [N]: ``number``, or, where all tasks are learned at once, each image's own."""
    columns: Columns
    """Of the images of each task so far."""

    def groups(self, tasks: Tensor) -> Iterator[tuple[Tensor | slice, Tensor | None]]:
        """Rows of a batch whose images are of ``tasks``, int64 [batch], with the columns that they share."""
        if self.columns.of_task is None:
            yield slice(None), self.columns.shared
            return
        for task, columns in enumerate(self.columns.of_task):
            rows = (tasks == task).nonzero().squeeze(1)
            if len(rows):
                yield rows, columns


class Strategy(Objective):
    """Nothing against forgetting: each batch's loss, among the columns of its task.

    One object goes through the whole stream: :meth:`begin_task` and :meth:`end_task` around each task's
    training. What it keeps for later tasks is in :meth:`state_dict`.
    """

    def __init__(
        self,
        config: ContinualConfig,
        model: Classifier,
        normalise: Normaliser,
        training: TrainingConfig,
    ) -> None:
        super().__init__()
        self.config = config
        self.model = model
        self.normalise = normalise
        self.training = training
        self.task: TaskImages
        self.seed, self.steps = 0, 0

    def begin_task(self, task: TaskImages, seed: int, steps: int) -> None:
        """The training on ``task`` begins: so many ``steps`` an epoch, its randomness from ``seed``.

        Keeps nothing: the state of a stream that is resumed inside the task is loaded afterwards.
        """
        self.task, self.seed, self.steps = task, seed, steps
        self.active = task.columns.shared

    def end_task(self, loss: Loss) -> None:
        """The training on the task is over, and another task follows."""

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        if self.task.columns.of_task is None:
            return super().value(loss, output, batch)
        return self.losses(loss, output, batch.targets, self.tasks_of(batch))

    def tasks_of(self, batch: Batch) -> Tensor:
        """The task of each image, int64 [batch]."""
        return self.task.tasks[batch.index]

    def losses(
        self, loss: Loss, output: HeadOutput, targets: Tensor, tasks: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The loss of rows, each among the columns of its task: the mean over the tasks, weighted by rows.

        Returns: the scalar, and the losses of the rows where they are asked for.
        """
        if self.task.columns.of_task is None:
            # Most streams: one group, for which nothing need be cut, joined or weighted.
            if self.detailed:
                return loss.detailed(output, targets, self.active)
            return loss(output, targets, self.active), None
        total, singles = output.logits.new_zeros(()), None
        if self.detailed:
            singles = output.logits.new_zeros(len(targets))
        for rows, columns in self.task.groups(tasks):
            part, labels = output.rows(rows), targets[rows]
            if singles is not None:
                value, singles[rows] = loss.detailed(part, labels, columns)
            else:
                value = loss(part, labels, columns)
            total = total + value * (len(labels) / len(targets))
        return total, singles

    def hits(self, loss: Loss, output: HeadOutput, batch: Batch) -> Tensor:
        if self.task.columns.of_task is None:
            return super().hits(loss, output, batch)
        groups = self.task.groups(self.tasks_of(batch))
        return torch.stack(
            [
                (predicted(loss, output.rows(rows), columns) == batch.labels[rows]).sum()
                for rows, columns in groups
            ]
        ).sum()


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Batches one after the other; channels last in memory stays so."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))
