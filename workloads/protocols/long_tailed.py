"""The long-tailed protocol: training classes differ in size, test classes do not.

The validation images stay as they were split off: they are not long-tailed. What is reported is the last
epoch's model, never the best on the test.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from workloads.contract import TrainingConfig
from workloads.data.long_tail import long_tail_counts, long_tail_index
from workloads.evaluation.imbalance import imbalance_metrics, imbalance_notes
from workloads.losses.adjusted import Adjusted
from workloads.losses.base import Loss
from workloads.losses.counts import effective_weights
from workloads.measurement.outputs import OUTPUTS, read_outputs
from workloads.measurement.part import Part
from workloads.models.base import Classifier
from workloads.models.heads import build_head
from workloads.protocol_config import LongTailedConfig
from workloads.protocols.standard import StandardTrial
from workloads.training.engine import Engine
from workloads.training.objective import ClassWeights, Objective
from workloads.training.seeds import derive_seed


class LongTailedTrial(StandardTrial):
    """Training on a long-tailed part of the training images, by one of the methods against imbalance."""

    @property
    def settings(self) -> LongTailedConfig:
        if self.config.long_tailed is None:
            raise ValueError("a long_tailed trial needs the settings long_tailed; got none")
        return self.config.long_tailed

    @property
    def stages(self) -> int:  # type: ignore[override]
        return 2 if self.settings.method == "crt" else 1

    def training(self, stage: int) -> TrainingConfig:
        training = self.config.training
        if stage == 0:
            return training
        epochs = self.settings.crt_epochs
        return dataclasses.replace(
            training, epochs=epochs, warmup_epochs=min(training.warmup_epochs, epochs - 1)
        )

    def prepared(self) -> Classifier:
        settings, labels = self.settings, self.data.train().labels
        available = np.bincount(labels, minlength=self.data.facts.num_classes)
        self.counts = long_tail_counts(available.tolist(), settings.profile, settings.factor)
        self.data = self.data.restricted(long_tail_index(labels, self.counts, settings.subset_seed))
        model = super().prepared()
        self._reading = self.loss
        if settings.method == "logit_adjustment":
            self._reading = Adjusted(self.loss, self.counts, settings.tau).to(self.device)
        return model

    @property
    def reading(self) -> Loss:
        return self._reading

    def opened(self, stage: int) -> Engine:
        if stage == 1:
            self._renew_head()
        return super().opened(stage)

    def balanced(self, stage: int) -> bool:
        return stage == 1 or self.settings.method == "resampling"

    def _renew_head(self) -> None:
        """A new head on a trunk that is not trained any more."""
        # Seeded apart from the first head, which would come back otherwise.
        torch.manual_seed(derive_seed(self.config.seed, "model", 1))
        for module in (self.model.trunk, self.model.projector):
            if module is not None:
                module.requires_grad_(False)
        classes, features = self.model.head.weight.shape
        self.model.head = build_head(self.loss.head, features, classes).to(self.device)

    def objective(self) -> Objective:
        settings = self.settings
        if settings.method not in ("class_balanced", "drw"):
            return Objective()
        counts = torch.tensor(self.counts, dtype=torch.float64)
        weights = effective_weights(counts, settings.beta).float().to(self.device)
        start = settings.drw_from if settings.method == "drw" else 0.0
        return Objective(class_weights=ClassWeights(weights, start))

    def measured(self) -> Part:
        part = super().measured()
        tested = read_outputs(self.folder / OUTPUTS)["id_test"]
        bins = self.config.evaluation.calibration.bins
        assert tested.labels is not None
        notes = tuple(imbalance_notes(tested.labels, self.counts))
        return part + Part(imbalance_metrics(tested.Z, tested.labels, self.counts, bins), notes)
