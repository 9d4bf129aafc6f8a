"""A trial at work: its data, its engine, what it has reported, and how it goes on after an interruption.

A trial's folder holds ``checkpoint.pt`` while it trains (and for good where it confirms), ``outputs/`` once
a confirm trial was measured, and last of all ``result.json``. Running the same trial in the same folder again
is the resume: it repeats the reports of what it finds finished and goes on from there. A finished trial whose
result or outputs are damaged is measured again, from its checkpoint where that is whole.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.contract import EpochReport, TrainingConfig, TrainingDiverged, TrialConfig, TrialResult
from workloads.data.prepared import PreparedData
from workloads.evaluation.calibration import calibration_metrics
from workloads.evaluation.geometry import logit_norms
from workloads.evaluation.ood import noise_metrics
from workloads.evaluation.scores import score
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.machine import environment
from workloads.measurement.part import Part
from workloads.measurement.subject import Subject
from workloads.models.base import Classifier
from workloads.models.build import build_model
from workloads.protocols.folder import CHECKPOINT, write_result
from workloads.training.batches import Normaliser
from workloads.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from workloads.training.engine import Engine
from workloads.training.inference import as_tensor, predict
from workloads.training.seeds import derive_seed

Report = Callable[[EpochReport], None]


class Trial:
    """One trial, in one or more stages: each trains the same model with an engine of its own.

    A subclass says what a stage is (:meth:`opened`), what is done at its end (:meth:`closed`), and what is
    measured in the end (:meth:`measured`).
    """

    def __init__(self, config: TrialConfig, folder: Path, data_root: Path, device: torch.device) -> None:
        self.config = config
        self.folder = folder
        self.device = device
        self.data = PreparedData.open(
            config.data, config.noise, data_root, stage=config.stage, data_hash=config.data_hash
        )
        if self.data.facts.hash != config.data_hash:
            raise ValueError(
                f"the prepared data must be those that the trial was planned with (hash {config.data_hash}); "
                f"got {self.data.facts.hash}"
            )
        self.normalise = Normaliser(self.data.mean, self.data.std, device)
        self.noise = {name: as_tensor(images).to(device) for name, images in self.data.noise().items()}
        self.reports: list[EpochReport] = []
        self.train_seconds = 0.0
        self.evaluation_seconds = 0.0
        self.stage = 0
        """Of the stages, from 0."""
        self.model = self.prepared()
        self.engine: Engine
        """Of this stage; there once the trial was resumed."""

    # -- what a protocol defines ----------------------------------------------------------------------

    stages: int = 1

    def training(self, stage: int) -> TrainingConfig:
        """The recipe of a stage."""
        return self.config.training

    @abstractmethod
    def prepared(self) -> Classifier:
        """The untrained model, and whatever else all stages need."""

    @abstractmethod
    def opened(self, stage: int) -> Engine:
        """The engine of a stage. A resumed trial loads its state into it."""

    def closed(self, stage: int) -> None:
        """What is done once at the end of a stage; what it leaves must be in :meth:`memory`."""

    def memory(self) -> dict[str, Any]:
        """What is remembered beside the engine: tensors and plain values, for the checkpoint."""
        return {}

    def remember(self, memory: dict[str, Any]) -> None:
        """Take back what :meth:`memory` gave; the stage's engine is not open yet."""

    @abstractmethod
    def validation(self) -> tuple[Tensor, npt.NDArray[np.int64], Tensor | None]:
        """What a report is measured on: images uint8 on the device, labels int64 [N] counted among the
        active columns, and these columns (None: all)."""

    @abstractmethod
    def measured(self) -> Part:
        """The measurements of a confirm trial."""

    # -- the run --------------------------------------------------------------------------------------

    def run(self, report: Report) -> TrialResult:
        self.resume()
        for each in tuple(self.reports):
            report(each)
        while not self.finished:
            started = time.perf_counter()
            trained = self.engine.train_epoch()
            self.train_seconds += time.perf_counter() - started
            over = self.engine.epoch == self.engine.config.epochs
            last = over and self.stage == self.stages - 1
            due = over or self.engine.epoch % self.config.training.evaluate_every == 0
            epoch = self.epoch
            if due:
                self.reports.append(self._evaluate(epoch, trained))
            if over and not last:
                self._advance()
            # A search trial is about to write its result: it needs no last checkpoint.
            often = over or self.engine.epoch % self.config.training.checkpoint_every == 0
            if often if not last else self.config.stage != "search":
                self._save()
            # After the checkpoint: where the receiver ends this process now, the report is repeated.
            if due:
                report(self.reports[-1])
        return self._finish()

    @property
    def epoch(self) -> int:
        """Finished epochs of all stages."""
        return sum(self.training(stage).epochs for stage in range(self.stage)) + self.engine.epoch

    @property
    def finished(self) -> bool:
        """Whether the last stage has come to its end."""
        return self.stage == self.stages - 1 and self.engine.epoch == self.engine.config.epochs

    def subject(self) -> Subject:
        """The model as it is measured."""
        engine = self.engine
        return Subject(engine.evaluated, self.reading, self.normalise, self.config.training.precision)

    @property
    def reading(self) -> Loss:
        """Whose ``eval_logits`` are measured."""
        return self.engine.loss

    def resume(self) -> None:
        """Begin, or go on from the checkpoint where there is one."""
        checkpoint = read_checkpoint(self.folder / CHECKPOINT, self.config.key, self.device)
        if checkpoint is None:
            self.engine = self.opened(0)
            return
        self.stage = checkpoint.stage
        self.remember(checkpoint.memory)
        self.engine = self.opened(self.stage)
        self.engine.load_state_dict(checkpoint.engine)
        self.reports = list(checkpoint.reports)
        self.train_seconds = checkpoint.train_seconds
        self.evaluation_seconds = checkpoint.evaluation_seconds

    def _advance(self) -> None:
        """From the end of a stage to the next one."""
        started = time.perf_counter()
        self.closed(self.stage)
        passes = self.engine.forward_passes
        self.stage += 1
        self.engine = self.opened(self.stage)
        self.engine.forward_passes = passes
        self.evaluation_seconds += time.perf_counter() - started

    def _save(self) -> None:
        checkpoint = Checkpoint(
            self.engine.state_dict(),
            tuple(self.reports),
            self.train_seconds,
            self.evaluation_seconds,
            self.stage,
            self.memory(),
        )
        write_checkpoint(self.folder / CHECKPOINT, self.config.key, checkpoint)

    def _evaluate(self, epoch: int, trained: dict[str, float]) -> EpochReport:
        """Validation and noise, by the headline score."""
        started = time.perf_counter()
        evaluation = self.config.evaluation
        images, labels, active = self.validation()
        logits = self._logits(images, active)
        noise = {name: self._logits(images, active) for name, images in self.noise.items()}
        known = score(evaluation.headline, logits)
        unknown = {name: score(evaluation.headline, each) for name, each in noise.items()}
        bins = evaluation.calibration.bins
        calibration = calibration_metrics(logits, labels, 1.0, bins)
        metrics = {
            **trained,
            "validation/accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "validation/nll": calibration["nll"],
            f"validation/ece_{bins}": calibration[f"ece_{bins}"],
            **noise_metrics(known, unknown),
            "validation/logit_norm": logit_norms(logits)["mean"],
            "noise/logit_norm": float(np.mean([logit_norms(each)["mean"] for each in noise.values()])),
        }
        self.evaluation_seconds += time.perf_counter() - started
        return EpochReport(epoch, metrics)

    def _logits(self, images: Tensor, active: Tensor | None) -> npt.NDArray[np.float32]:
        precision = self.config.training.precision
        logits = predict(
            self.engine.evaluated, self.reading, self.normalise, images, precision, active
        ).logits
        if not np.isfinite(logits).all():
            raise TrainingDiverged("the logits must be finite; some are not, though the weights are")
        return logits

    def _finish(self) -> TrialResult:
        metrics = dict(self.reports[-1].metrics)
        measured = Part()
        if self.config.stage != "search":
            started = time.perf_counter()
            self.closed(self.stage)
            measured = self.measured()
            metrics.update(measured.metrics)
            self.evaluation_seconds += time.perf_counter() - started
        result = TrialResult(
            metrics=metrics,
            train_seconds=self.train_seconds,
            evaluation_seconds=self.evaluation_seconds,
            parameters=sum(p.numel() for p in (*self.model.parameters(), *self.engine.loss.parameters())),
            notes=measured.notes,
            environment=environment(str(self.device)),
        )
        write_result(self.folder, self.config.key, result, self.reports)
        if self.config.stage == "search":
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        return result

    # -- what protocols share -------------------------------------------------------------------------

    def build_loss(self, context: LossContext) -> Loss:
        """The loss, at its start."""
        # Seeded apart from the model, so that neither's random weights depend on how many the other draws.
        torch.manual_seed(derive_seed(self.config.seed, "loss"))
        return build_loss(self.config.loss, self.config.loss_params, context).to(self.device)

    def build_model(self, loss: Loss, num_classes: int) -> Classifier:
        """The model, at its start."""
        torch.manual_seed(derive_seed(self.config.seed, "model"))
        model = build_model(self.config.model, self.data.facts.image_shape, num_classes, loss.head)
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
