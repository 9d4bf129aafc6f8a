"""Holding the answers of the last task's model: learning without forgetting."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.batches import Batch
from workloads.training.numerics import autocast
from workloads.training.strategies.strategy import Strategy


class LwF(Strategy):
    """Learning without forgetting: on the new task's images, the old columns should say what they said.

    value = loss(batch) + lambda T^2 KL(softmax(z'/T) || softmax(z/T)) with z the ``eval_logits`` of the old
    columns and z' those of the model at the end of the last task. Task-incremental: the mean over the
    old tasks, each among its own columns. The T^2 keeps the size of the gradients (Hinton et al. 2015).

    Source: Li and Hoiem 2016, "Learning without forgetting", eq. 2 to 5.
    Differs from source: 1. KL in place of the cross-entropy (the same gradients); 2. the T^2; 3. no warm-up
        of the new head alone; 4. ``eval_logits`` of any loss: where their scale is not that of log
        probabilities, neither is what T = 2 means; 5. a scale that the loss learns is today's for both.
    """

    teacher: Classifier | None = None
    old: tuple[Tensor | None, ...] = ()
    """The columns that are held, a group of its own for each old task in task-incremental learning."""

    def end_task(self, loss: Loss) -> None:
        self._teach(self.model)
        columns = self.task.columns
        if columns.of_task is None:
            self.old = (columns.shared,)
        else:
            self.old = columns.of_task[: self.task.number + 1]

    def _teach(self, model: Classifier) -> None:
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        value, losses = super().value(loss, output, batch)
        if self.teacher is not None:
            value = value + self.config.lwf_lambda * self._distance(loss, output, batch)
        return value, losses

    def _distance(self, loss: Loss, output: HeadOutput, batch: Batch) -> Tensor:
        assert self.teacher is not None
        with torch.no_grad(), autocast(self.training.precision, batch.images.device):
            taught: HeadOutput = self.teacher(batch.images)
        return torch.stack([self._divergence(loss, output, taught, columns) for columns in self.old]).mean()

    def _divergence(
        self, loss: Loss, output: HeadOutput, taught: HeadOutput, columns: Tensor | None
    ) -> Tensor:
        T = self.config.lwf_temperature
        now = F.log_softmax(_read(loss, output, columns) / T, dim=1)
        with torch.no_grad():
            # A learned scale (normface, meln) must not make the answers agree by flattening the teacher's.
            then = F.log_softmax(_read(loss, taught, columns) / T, dim=1)
        return T * T * F.kl_div(now, then, reduction="batchmean", log_target=True)

    def state_dict(self) -> dict[str, Any]:
        return {"teacher": None if self.teacher is None else self.teacher.state_dict(), "old": list(self.old)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher, self.old = None, tuple(state["old"])
        if state["teacher"] is not None:
            self._teach(self.model)
            assert self.teacher is not None
            self.teacher.load_state_dict(state["teacher"])


def _read(loss: Loss, output: HeadOutput, columns: Tensor | None) -> Tensor:
    return loss.eval_logits(output if columns is None else output.columns(columns))
