"""Holding weights where earlier tasks left them: EWC and its control, L2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.training.batches import Batch
from workloads.training.fisher import fisher_diagonal
from workloads.training.seeds import generator
from workloads.training.strategies.strategy import Strategy, TaskImages

_FISHER_BATCH = 128


class Held(Strategy):
    """A quadratic penalty on the way from an anchor, each weight with its own importance."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.anchor: dict[str, Tensor] = {}
        self.importance: dict[str, Tensor] = {}
        """By the weight's name; without an entry of its own: 1."""

    @property
    def strength(self) -> float:
        """lambda."""
        raise TypeError(f"{type(self).__name__} defines no strength")

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        value, losses = super().value(loss, output, batch)
        return value + self.penalty() if self.anchor else value, losses

    def penalty(self) -> Tensor:
        """lambda / 2 times the sum of importance times squared distance; scalar."""
        terms = []
        for name, p in self.model.named_parameters():
            if name in self.anchor:
                squares = (p - self.anchor[name]).square()
                terms.append((squares * self.importance[name] if name in self.importance else squares).sum())
        return self.strength / 2 * torch.stack(terms).sum()

    def state_dict(self) -> dict[str, Any]:
        return {"anchor": self.anchor, "importance": self.importance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.anchor, self.importance = dict(state["anchor"]), dict(state["importance"])


class L2(Held):
    """Every weight is held at its value at the beginning of the task: EWC with an importance of 1.

    Source: the control of Kirkpatrick et al. 2017, figure 2.
    Differs from source: nothing.
    """

    @property
    def strength(self) -> float:
        return self.config.l2_lambda

    def begin_task(self, task: TaskImages, seed: int, steps: int) -> None:
        super().begin_task(task, seed, steps)
        if task.number > 0:
            # After the rows of new classes were drawn, so that these are not pulled back to old values.
            self.anchor = {name: p.detach().clone() for name, p in self.model.named_parameters()}


class EWC(Held):
    """Elastic weight consolidation: weights that matter to earlier tasks are held.

    The penalty is the sum over the tasks t so far of lambda / 2 F_t (theta - theta_t)^2, with theta_t the
    weights and F_t the diagonal Fisher information at the end of task t. It is kept as one importance, the
    sum of the F_t, and one anchor, the mean of the theta_t weighted by them: equal up to a constant, and of
    constant size.

    Source: Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks", eq. 3.
    Differs from source: nothing; for which F see ``workloads.training.fisher``.
    """

    @property
    def strength(self) -> float:
        return self.config.ewc_lambda

    def end_task(self, loss: Loss) -> None:
        fresh = self._fisher(loss)
        for name, p in self.model.named_parameters():
            if name not in fresh:
                continue
            theta, new = p.detach(), fresh[name]
            old = self.importance.get(name, torch.zeros_like(new))
            total = old + new
            # What nothing held so far has no anchor yet: rows of classes to come were not trained.
            anchor = torch.where(old > 0, self.anchor.get(name, theta), theta)
            share = torch.where(total > 0, new / total, torch.zeros_like(total))
            self.anchor[name] = anchor + share * (theta - anchor)
            self.importance[name] = total

    def _fisher(self, loss: Loss) -> dict[str, Tensor]:
        task = self.task
        order = torch.randperm(len(task.labels), generator=generator(self.seed, "fisher"))
        chosen = order[: self.config.fisher_images].to(task.labels.device)
        batches = [
            (self.normalise(task.images[part]), task.labels[part])
            for part in torch.split(chosen, _FISHER_BATCH)
        ]
        columns = task.columns.of(task.number)
        return fisher_diagonal(self.model, loss, batches, columns, self.config.fisher)
