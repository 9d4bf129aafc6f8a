"""The continual protocol written a second time, as plainly as can be: cross-entropy, SGD at a constant rate.

Nothing is shared with the trials but the batches, the choice of rows in the reservoir, the stream's tasks and
the architectures, all of which have tests of their own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workloads.contract import TrialConfig
from workloads.data.prepared import PreparedData
from workloads.data.streams import Task, make_stream
from workloads.head import HeadSpec
from workloads.models.base import Classifier
from workloads.models.build import build_model
from workloads.training.batches import Batches, Normaliser
from workloads.training.reservoir import Reservoir
from workloads.training.seeds import derive_seed


@dataclass
class Kept:
    """An image that may be replayed."""

    image: Tensor
    label: int
    columns: list[int]
    logits: Tensor
    task: int


@dataclass
class PlainStream:
    """One trial of a stream, by hand."""

    config: TrialConfig
    data: PreparedData
    R: list[list[float]] = field(default_factory=list)
    """Accuracy on each task after each task; NaN where not measured."""
    trained: list[float] = field(default_factory=list)
    """Accuracy on the task's own images while they are trained on, of each epoch."""

    def __post_init__(self) -> None:
        assert self.config.continual is not None
        self.settings = self.config.continual
        facts = self.data.facts
        self.stream = make_stream(
            self.settings.stream,
            self.settings.scenario,
            self.settings.tasks,
            facts.num_classes,
            facts.image_shape,
            self.config.seed,
        )
        self.mean = np.array(self.data.mean, dtype=np.float32).reshape(1, -1, 1, 1) * 255
        self.std = np.array(self.data.std, dtype=np.float32).reshape(1, -1, 1, 1) * 255
        torch.manual_seed(derive_seed(self.config.seed, "model"))
        width = self.stream.num_columns
        self.model: Classifier = build_model(self.config.model, facts.image_shape, width, HeadSpec())
        self.first = copy.deepcopy(self.model.head)
        self.rows: list[Kept] = []
        self.reservoir = Reservoir(
            self.settings.buffer, derive_seed(self.config.seed, "reservoir"), torch.device("cpu")
        )
        self.draws = 0
        self.fishers: list[dict[str, Tensor]] = []
        self.anchors: list[dict[str, Tensor]] = []
        self.teacher: Classifier | None = None

    def run(self) -> PlainStream:
        if self.settings.strategy == "joint":
            self.learn(0, list(self.stream.tasks))
            self.R.append([self.accuracy(task, self.settings.tasks) for task in self.stream.tasks])
            return self
        for number, task in enumerate(self.stream.tasks):
            self.learn(number, [task])
            self.R.append([self.accuracy(each, number + 1) for each in self.stream.tasks])
            self.remember(number, task)
        return self

    def columns(self, task: Task, seen: int) -> list[int]:
        if self.settings.scenario == "class_il":
            return [c for each in self.stream.tasks[:seen] for c in each.columns]
        return list(task.columns)

    def images(self, task: Task, part: Any) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        chosen = [n for n, label in enumerate(part.labels) if label in task.classes]
        targets = dict(zip(task.classes, task.targets, strict=True))
        labels = np.array([targets[int(part.labels[n])] for n in chosen])
        return task.present(np.array(part.images[chosen])), labels

    def normalised(self, images: Any) -> Tensor:
        return torch.from_numpy((np.asarray(images, dtype=np.float32) - self.mean) / self.std)

    def learn(self, number: int, tasks: list[Task]) -> None:
        parts = [self.images(task, self.data.train()) for task in tasks]
        images = torch.from_numpy(np.concatenate([images for images, _ in parts]))
        labels = torch.from_numpy(np.concatenate([labels for _, labels in parts]))
        own = [task for task, (_, labels) in zip(tasks, parts, strict=True) for _ in labels]
        seen = self.settings.tasks if len(tasks) > 1 else number + 1
        if number > 0 and self.settings.scenario != "domain_il":
            with torch.no_grad():
                for column in tasks[0].columns:
                    self.model.head.weight[column] = self.first.weight[column]
                    self.model.head.bias[column] = self.first.bias[column]  # type: ignore[index]
        self.start = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        training = self.config.training
        optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=training.lr,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
        )
        seed = derive_seed(self.config.seed, "task", number)
        batches = Batches(images, labels, self.stream.num_columns, training, seed)
        normaliser = Normaliser(self.data.mean, self.data.std, torch.device("cpu"))
        for epoch in range(1, training.epochs + 1):
            hits = 0
            for batch in batches.epoch(epoch, normaliser):
                self.model.train()
                chosen = [own[int(n)] for n in batch.index]
                kept = [
                    Kept(
                        images[int(n)], int(labels[int(n)]), self.columns(task, seen), torch.empty(0), number
                    )
                    for n, task in zip(batch.index, chosen, strict=True)
                ]
                value, said = self.value(batch.images, kept, number)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                self.offer(kept, said)
                hits += sum(self.hit(z, row) for z, row in zip(said, kept, strict=True))
            self.trained.append(hits / len(labels))

    def value(self, images: Tensor, batch: list[Kept], number: int) -> tuple[Tensor, Tensor]:
        settings, strategy = self.settings, self.settings.strategy
        again: list[list[Kept]] = []
        if strategy in ("replay", "derpp") and self.rows:
            for _ in range(2 if strategy == "derpp" else 1):
                chosen = self.reservoir.sample(settings.replay_batch or 16, self.draws)["position"]
                again.append([self.rows[int(n)] for n in chosen])
                self.draws += 1
        shown = [images, *(self.normalised(np.stack([r.image.numpy() for r in drawn])) for drawn in again)]
        logits = self.model(torch.cat(shown)).logits
        rows = [*batch, *(row for drawn in again for row in drawn)]
        losses = [self.cross_entropy(z, row) for z, row in zip(logits, rows, strict=True)]
        n = len(batch)
        if strategy == "replay":
            return torch.stack(losses).mean(), logits.detach()[:n]
        value = torch.stack(losses[:n]).mean()
        if strategy == "derpp" and again:
            m = len(again[0])
            squares = [
                (z[c] - row.logits[c]) ** 2
                for z, row in zip(logits[n : n + m], again[0], strict=True)
                for c in row.columns
            ]
            value = value + settings.derpp_alpha * torch.stack(squares).mean()
            value = value + settings.derpp_beta * torch.stack(losses[n + m :]).mean()
        if strategy == "lwf" and self.teacher is not None:
            value = value + settings.lwf_lambda * self.distillation(logits, images, number)
        if strategy == "ewc":
            for fisher, anchor in zip(self.fishers, self.anchors, strict=True):
                for name, p in self.model.named_parameters():
                    value = value + settings.ewc_lambda / 2 * (fisher[name] * (p - anchor[name]) ** 2).sum()
        if strategy == "l2" and number > 0:
            for name, p in self.model.named_parameters():
                value = value + settings.l2_lambda / 2 * ((p - self.start[name]) ** 2).sum()
        return value, logits.detach()[:n]

    def cross_entropy(self, z: Tensor, row: Kept) -> Tensor:
        return z[self.now(row)].logsumexp(0) - z[row.label]

    def hit(self, z: Tensor, row: Kept) -> bool:
        return max(self.now(row), key=lambda column: float(z[column])) == row.label

    def now(self, row: Kept) -> list[int]:
        """The columns that a row is classified among, which in class_il are more than when it was kept."""
        if self.settings.scenario == "class_il" and self.settings.strategy != "joint":
            return self.columns(self.stream.tasks[0], len(self.R) + 1)
        return row.columns

    def distillation(self, logits: Tensor, images: Tensor, number: int) -> Tensor:
        """T^2 sum p log(p / q), the mean over images, of the old columns."""
        assert self.teacher is not None
        T = self.settings.lwf_temperature
        with torch.no_grad():
            taught = self.teacher(images).logits
        groups = [self.columns(self.stream.tasks[0], number)]
        if self.settings.scenario == "task_il":
            groups = [list(task.columns) for task in self.stream.tasks[:number]]
        found = []
        for columns in groups:
            p = (taught[:, columns] / T).softmax(1)
            q = (logits[:, columns] / T).softmax(1)
            found.append(T**2 * (p * (p.log() - q.log())).sum(1).mean())
        return torch.stack(found).mean()

    def offer(self, batch: list[Kept], logits: Tensor) -> None:
        """After the step; the reservoir holds positions in the list of all that was ever offered."""
        first = len(self.rows)
        for row, z in zip(batch, logits, strict=True):
            row.logits = z.clone()
            self.rows.append(row)
        self.reservoir.add(position=torch.arange(first, len(self.rows)))

    def remember(self, number: int, task: Task) -> None:
        self.teacher = copy.deepcopy(self.model).eval()
        if self.settings.strategy != "ewc":
            return
        images, labels = self.images(task, self.data.train())
        assert len(labels) <= self.settings.fisher_images, "the Fisher information is of all images here"
        columns = self.columns(task, number + 1)
        self.model.eval()
        fisher = {name: torch.zeros_like(p) for name, p in self.model.named_parameters()}
        for image, label in zip(self.normalised(images), labels, strict=True):
            z = self.model(image[None]).logits[0]
            self.model.zero_grad()
            (z[columns].logsumexp(0) - z[int(label)]).backward()
            for name, p in self.model.named_parameters():
                assert p.grad is not None
                fisher[name] += p.grad**2 / len(labels)
        self.model.zero_grad()
        self.fishers.append(fisher)
        self.anchors.append({name: p.detach().clone() for name, p in self.model.named_parameters()})

    @torch.no_grad()
    def said(self, images: Any) -> Tensor:
        """All logits of images uint8 as they are presented, [N, columns]."""
        self.model.eval()
        logits: Tensor = self.model(self.normalised(images)).logits
        return logits

    def accuracy(self, task: Task, seen: int) -> float:
        if self.settings.scenario == "class_il" and task.number > seen:
            return float("nan")
        images, labels = self.images(task, self.data.test())
        columns = self.columns(task, seen)
        predicted = [columns[int(c)] for c in self.said(images)[:, columns].argmax(1)]
        return float(np.mean(np.array(predicted) == labels))
