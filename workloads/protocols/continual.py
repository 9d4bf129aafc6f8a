"""The continual protocol: a stream of tasks, learned one after the other and measured after each.

Every task is a stage: the same model goes on, with a new optimiser and a schedule from its start. The loss is
made anew for each task, with the counts that the study wants it to know, and takes over what it has learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.data.streams import make_stream
from workloads.head import lengths
from workloads.losses.base import Loss, LossContext
from workloads.measurement.outputs import OUTPUTS
from workloads.measurement.part import Part
from workloads.measurement.stream import (
    StreamRecord,
    StreamView,
    measure_stream,
    measure_tasks,
    measure_untrained,
)
from workloads.measurement.subject import Subject
from workloads.models.base import Classifier
from workloads.protocol_config import ContinualConfig
from workloads.protocols.trial import Trial
from workloads.training.batches import Batches
from workloads.training.engine import Engine
from workloads.training.inference import as_tensor
from workloads.training.seeds import derive_seed
from workloads.training.strategies.build import build_strategy
from workloads.training.strategies.replay import Replay
from workloads.training.strategies.strategy import Columns, Strategy, TaskImages


class ContinualTrial(Trial):
    """One stage for each task; one for all where they are learned at once (``joint``)."""

    @property
    def settings(self) -> ContinualConfig:
        if self.config.continual is None:
            raise ValueError("a continual trial needs the settings continual; got none")
        return self.config.continual

    @property
    def stages(self) -> int:  # type: ignore[override]
        return 1 if self.joint else self.settings.tasks

    @property
    def joint(self) -> bool:
        """Whether all tasks are learned at once."""
        return self.settings.strategy == "joint"

    def prepared(self) -> Classifier:
        settings, facts = self.settings, self.data.facts
        order = self.config.seed if settings.order == "seed" else None
        self.stream = make_stream(
            settings.stream, settings.scenario, settings.tasks, facts.num_classes, facts.image_shape, order
        )
        self.view = StreamView(self.stream, settings, self.data)
        self.record = StreamRecord()
        self._train = self.data.train()
        self._learned: dict[str, Any] = {}
        self._told: list[int] = []
        model = self.build_model(self.build_loss(self._context(self._counts(0))), self.stream.num_columns)
        self._first_rows = [p.detach().clone() for p in (model.head.weight, model.head.bias) if p is not None]
        training = self.config.training
        self.strategy = build_strategy(settings, model, self.normalise, training, self.config.seed)
        return model

    def opened(self, stage: int) -> Engine:
        # A reservoir is not there yet where a stream goes on from a checkpoint: what it held is remembered.
        self._told = self._told or self._counts(stage, self.strategy)
        loss = self.build_loss(self._context(self._told))
        if stage == 0 and not self.record.baseline:
            self.record.baseline = measure_untrained(self.view, self._subject(loss))
        if stage > 0:
            loss.load_state_dict(self._learned)
            self._welcome(stage, cosine=loss.head.kind == "cosine")
        task = self._task(stage)
        seed = derive_seed(self.config.seed, "task", stage)
        training = self.training(stage)
        batches = Batches(task.images, task.labels, self.stream.num_columns, training, seed)
        self.strategy.begin_task(task, seed, len(batches))
        return Engine(self.model, loss, batches, self.normalise, training, seed, self.strategy)

    def closed(self, stage: int) -> None:
        seen = len(self.stream.tasks) if self.joint else stage + 1
        measure_tasks(self.view, self.subject(), seen, self.config.evaluation, self.record)
        if stage < self.stages - 1:
            self.end_of_task()

    def end_of_task(self) -> None:
        """What the next task needs of this one."""
        self.strategy.end_task(self.engine.loss)
        self._learned = self.engine.loss.state_dict()
        self._told = []

    def memory(self) -> dict[str, Any]:
        return {"record": asdict(self.record), "learned": self._learned, "told": self._told}

    def remember(self, memory: dict[str, Any]) -> None:
        self.record = StreamRecord(**memory["record"])
        self._learned, self._told = memory["learned"], memory["told"]

    def validation(self) -> tuple[Tensor, npt.NDArray[np.int64], Tensor | None]:
        """The task's own validation images (those of the last one where all are learned at once)."""
        number = -1 if self.joint else self.stage
        task, images = self.stream.tasks[number], self.data.validation()
        index = task.index(images.labels)
        columns = self.view.columns(len(self.stream.tasks) if self.joint else self.stage + 1, task)
        shown = as_tensor(np.ascontiguousarray(task.present(images.images[index]))).to(self.device)
        labels = np.searchsorted(columns, task.relabel(images.labels[index]))
        return shown, labels, torch.tensor(columns, device=self.device)

    def measured(self) -> Part:
        return measure_stream(self.view, self.record, self.folder / OUTPUTS)

    def _subject(self, loss: Loss) -> Subject:
        return Subject(self.model, loss, self.normalise, self.config.training.precision)

    def _task(self, stage: int) -> TaskImages:
        """The training images of a stage, on the device."""
        train, numbers = self._train, range(len(self.stream.tasks)) if self.joint else [stage]
        images, labels, tasks = [], [], []
        for number in numbers:
            task = self.stream.tasks[number]
            index = task.index(train.labels)
            images.append(task.present(train.images[index]))
            labels.append(task.relabel(train.labels[index]))
            tasks.append(np.full(len(index), number))
        shown = as_tensor(images[0] if len(images) == 1 else np.concatenate(images))
        return TaskImages(
            stage,
            shown.to(self.device),
            torch.from_numpy(np.concatenate(labels)).to(self.device),
            torch.from_numpy(np.concatenate(tasks)).to(self.device),
            self._columns(len(self.stream.tasks) if self.joint else stage + 1),
        )

    def _columns(self, seen: int) -> Columns:
        def place(columns: Sequence[int]) -> Tensor:
            return torch.tensor(columns, device=self.device)

        if self.settings.scenario == "task_il":
            return Columns(of_task=tuple(place(task.columns) for task in self.stream.tasks[:seen]))
        columns = self.view.columns(seen, self.stream.tasks[0])
        return Columns(None if len(columns) == self.stream.num_columns else place(columns))

    def _counts(self, stage: int, strategy: Strategy | None = None) -> list[int]:
        """The training images of each column that the loss is told of at a stage.

        Counts of the task alone leave earlier classes without an image, though the loss still sees their
        columns: each counts as one image then. 0: the column does not occur yet.
        """
        settings, tasks = self.settings, self.stream.tasks
        seen = len(tasks) if self.joint else stage + 1
        told = {"task": tasks[0 if self.joint else stage : seen], "seen": tasks[:seen], "total": tasks}
        labels = self._train.labels
        counts = np.zeros(self.stream.num_columns, dtype=np.int64)
        for task in told[settings.counts]:
            counts += np.bincount(task.relabel(labels[task.index(labels)]), minlength=len(counts))
        if settings.counts == "task" and isinstance(strategy, Replay):
            counts += strategy.reservoir.class_counts(len(counts)).cpu().numpy()
        known = sorted({column for task in tasks[:seen] for column in task.columns})
        counts[known] = np.maximum(counts[known], 1)
        return [int(n) for n in counts]

    def _context(self, counts: list[int]) -> LossContext:
        active = tuple(column for column, count in enumerate(counts) if count)
        whole = len(active) == len(counts)
        return LossContext(sum(counts), len(counts), tuple(counts), None if whole else active)

    def _welcome(self, stage: int, *, cosine: bool) -> None:
        """New classes get their columns as they were drawn at the beginning, whatever decay has made of them.

        The length of a row is nothing to a cosine, but the shorter it is the faster it turns: a cosine head's
        new rows are as long as its old ones are on average.
        """
        if self.settings.scenario == "domain_il":
            return
        tasks = self.stream.tasks
        old = torch.tensor(sorted(c for task in tasks[:stage] for c in task.columns), device=self.device)
        new = torch.tensor(tasks[stage].columns, device=self.device)
        head = self.model.head
        with torch.no_grad():
            for p, first in zip((head.weight, head.bias), self._first_rows, strict=False):
                if p is not None:
                    p[new] = first[new]
            if cosine:
                length = lengths(head.weight[old]).mean()
                head.weight[new] *= length / lengths(head.weight[new])
