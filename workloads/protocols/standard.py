"""The standard protocol: train on everything, in epochs, and measure at the end."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.losses.base import LossContext
from workloads.measurement.measure import measure
from workloads.measurement.outputs import OUTPUTS
from workloads.measurement.part import Part
from workloads.models.base import Classifier
from workloads.protocols.trial import Trial
from workloads.training.batches import Batches
from workloads.training.engine import Engine
from workloads.training.inference import as_tensor
from workloads.training.objective import Objective
from workloads.training.seeds import derive_seed


class StandardTrial(Trial):
    """One stage: all training images, all classes."""

    def prepared(self) -> Classifier:
        validation = self.data.validation()
        self._validation = as_tensor(validation.images).to(self.device), np.array(validation.labels), None
        self.loss = self.build_loss(self.context())
        return self.build_model(self.loss, self.data.facts.num_classes)

    def context(self) -> LossContext:
        """What the loss is told of the training images."""
        labels, classes = self.data.train().labels, self.data.facts.num_classes
        counts = np.bincount(labels, minlength=classes)
        return LossContext(len(labels), classes, tuple(int(n) for n in counts))

    def opened(self, stage: int) -> Engine:
        training = self.training(stage)
        # A further stage draws other orders than the first.
        seed = derive_seed(self.config.seed, "task", stage) if stage else self.config.seed
        train, classes = self.data.train(), self.data.facts.num_classes
        labels = torch.from_numpy(np.array(train.labels)).to(self.device)
        images = as_tensor(train.images).to(self.device)
        batches = Batches(images, labels, classes, training, seed, balanced=self.balanced(stage))
        return Engine(self.model, self.loss, batches, self.normalise, training, seed, self.objective())

    def balanced(self, stage: int) -> bool:
        """Whether every class is drawn equally often."""
        return False

    def objective(self) -> Objective:
        """What a step minimises."""
        return Objective()

    def validation(self) -> tuple[Tensor, npt.NDArray[np.int64], Tensor | None]:
        return self._validation

    def measured(self) -> Part:
        return measure(self.subject(), self.data, self.config, self.folder / OUTPUTS)
