"""Showing kept images again: experience replay and DER++."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.contract import TrainingConfig
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.protocol_config import ContinualConfig
from workloads.training.augmentation import augment, draw, erase
from workloads.training.augmentation.draws import Draws
from workloads.training.batches import Batch, Normaliser
from workloads.training.reservoir import Reservoir
from workloads.training.seeds import derive_seed
from workloads.training.strategies.strategy import Strategy, joined

Rows = dict[str, Tensor]
"""Images that were kept: ``images`` uint8, ``labels``, ``tasks`` int64, DER++: ``logits`` float32."""


class Replay(Strategy):
    """Experience replay: each batch is joined by images out of a reservoir of all that were trained on.

    The reservoir is offered every image of every step, in every epoch, as it was before augmentation, and
    keeps each with the same probability. Replayed images are augmented anew, and share the forward pass and
    the loss's mean with the batch.

    Source: Riemer et al. 2019, "Learning to learn without forgetting"; aimagelab/mammoth (er).
    Differs from source: nothing.
    """

    samples = 1
    """Draws from the reservoir a step."""

    def __init__(
        self,
        config: ContinualConfig,
        model: Classifier,
        normalise: Normaliser,
        training: TrainingConfig,
        seed: int,
    ) -> None:
        super().__init__(config, model, normalise, training)
        self.count = config.replay_batch or training.batch_size
        device = next(model.parameters()).device
        self.reservoir = Reservoir(config.buffer, derive_seed(seed, "reservoir"), device)
        self.drawn = 0
        """Draws from the reservoir so far, in the whole stream."""
        self.again: list[Rows] = []
        """What this step replays."""
        self._draws = Draws()
        self._used = 0

    def begin_epoch(self, epoch: int) -> None:
        # Cut into the steps' shares as they are needed, because drawing has a fixed cost a call.
        positions = torch.arange(self.steps * self.samples * self.count)
        seed, shape = derive_seed(self.seed, "replay"), self.task.images.shape[1:]
        image_shape = (shape[0], shape[1], shape[2])
        self._draws = draw(self.training.augmentation, seed, epoch, positions, image_shape)
        self._draws = self._draws.to(self.task.images.device)
        self._used = 0

    def images(self, batch: Batch) -> Tensor:
        self.again = []
        if len(self.reservoir):
            for _ in range(self.samples):
                self.again.append(self.reservoir.sample(self.count, self.drawn))
                self.drawn += 1
        return joined([batch.images, *(self._presented(rows["images"]) for rows in self.again)])

    def _presented(self, images: Tensor) -> Tensor:
        draws = self._draws[self._used : self._used + len(images)]
        self._used += len(images)
        augmented = augment(images, draws, self.training.augmentation)
        return erase(self.normalise(augmented), draws)

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        targets = torch.cat([batch.targets, *(rows["labels"] for rows in self.again)])
        tasks = torch.cat([self.tasks_of(batch), *(rows["tasks"] for rows in self.again)])
        value, losses = self.losses(loss, output, targets, tasks)
        return value, None if losses is None else losses[: len(batch.labels)]

    def before_step(self, loss: Loss, output: HeadOutput, batch: Batch) -> None:
        self.reservoir.add(**self.kept(loss, output, batch))

    def kept(self, loss: Loss, output: HeadOutput, batch: Batch) -> Rows:
        """What the reservoir is offered of a batch."""
        return {
            "images": self.task.images[batch.index],
            "labels": batch.labels,
            "tasks": self.tasks_of(batch),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"reservoir": self.reservoir.state_dict(), "drawn": self.drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reservoir.load_state_dict(state["reservoir"])
        self.drawn = state["drawn"]


class DarkReplay(Replay):
    """DER++: of one replayed draw the logits should be those of then, of another the labels.

    value = loss(batch) + alpha MSE(eval_logits, eval_logits of then) + beta loss(second draw). The logits are
    those of the step in which an image was kept, and are compared in the columns that it was then
    classified among.

    Source: Buzzega et al. 2020, "Dark experience for general continual learning", eq. 6; aimagelab/mammoth
        (derpp).
    Differs from source: 1. batch and draws share one forward pass (and its batch norm statistics); 2. columns
        of classes that had not appeared are not compared.
    """

    samples = 2

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        own, *drawn = _cut(output, [len(batch.labels), *(len(rows["labels"]) for rows in self.again)])
        value, losses = self.losses(loss, own, batch.targets, self.tasks_of(batch))
        if drawn:
            then, labelled = self.again
            again, _ = self.losses(loss, drawn[1], labelled["labels"], labelled["tasks"])
            # After the last loss: one that sets its scale by the batch (adacos) would change what the
            # backward pass of the distance needs.
            value = value + self.config.derpp_alpha * self._distance(loss, drawn[0], then)
            value = value + self.config.derpp_beta * again
        return value, losses

    def _distance(self, loss: Loss, output: HeadOutput, then: Rows) -> Tensor:
        logits = self._answers(loss, output, then["tasks"])
        compared = then["compared"]
        difference = torch.where(compared, logits - then["logits"], torch.zeros_like(logits))
        return difference.square().sum() / compared.sum()

    def _answers(self, loss: Loss, output: HeadOutput, tasks: Tensor) -> Tensor:
        """``eval_logits`` of rows, each among the columns of its task, [rows, all columns]; 0 in the others.

        The others are not asked: a loss may have no answer there (class frequencies of classes to come).
        """
        answers = torch.zeros_like(output.logits)
        for rows, columns in self.task.groups(tasks):
            part = output.rows(rows)
            if columns is None:
                answers[rows] = loss.eval_logits(part)
            else:
                said = loss.eval_logits(part.columns(columns))
                answers[rows] = torch.zeros_like(part.logits).index_copy(1, columns, said)
        return answers

    def kept(self, loss: Loss, output: HeadOutput, batch: Batch) -> Rows:
        logits = self._answers(loss, output, self.tasks_of(batch))
        compared = torch.ones_like(logits, dtype=torch.bool)
        for rows, columns in self.task.groups(self.tasks_of(batch)):
            if columns is not None:
                chosen = F.one_hot(columns, logits.shape[1]).sum(dim=0).bool()
                compared[rows] = chosen
        return {**super().kept(loss, output, batch), "logits": logits, "compared": compared}


def _cut(output: HeadOutput, sizes: Sequence[int]) -> list[HeadOutput]:
    """The output's rows in consecutive parts of these sizes."""
    parts, start = [], 0
    for size in sizes:
        parts.append(output.rows(slice(start, start + size)))
        start += size
    return parts
