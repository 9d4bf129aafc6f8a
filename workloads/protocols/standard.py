"""The standard protocol: train on everything, in epochs, and measure at the end.

A trial's folder holds ``checkpoint.pt`` while it trains (and for good where it confirms), ``outputs/`` once
a confirm trial was measured, and last of all ``result.json``. Running the same trial in the same folder again
is the resume: it repeats the reports of what it finds finished and goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from workloads.contract import EpochReport, TrainingDiverged, TrialConfig, TrialResult
from workloads.data.prepared import PreparedData
from workloads.evaluation.calibration import calibration_metrics
from workloads.evaluation.geometry import logit_norms
from workloads.evaluation.ood import noise_metrics
from workloads.evaluation.scores import score
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.measurement.measure import measure
from workloads.measurement.outputs import OUTPUTS
from workloads.measurement.part import Part
from workloads.measurement.subject import Subject
from workloads.models.build import build_model
from workloads.training.batches import Batches, Normaliser
from workloads.training.checkpoint import (
    Checkpoint,
    plain_reports,
    read_checkpoint,
    read_reports,
    write_checkpoint,
)
from workloads.training.engine import Engine
from workloads.training.inference import as_tensor, predict
from workloads.training.numerics import reproducible
from workloads.training.seeds import derive_seed
from workloads.training.storage import write_json

RESULT = "result.json"
CHECKPOINT = "checkpoint.pt"

Report = Callable[[EpochReport], None]


def run_standard(
    config: TrialConfig, report: Report, *, folder: Path, data_root: Path, device: str, threads: int
) -> TrialResult:
    """Train and measure one trial; see :func:`workloads.run.run` for arguments and errors."""
    finished = _read_result(folder / RESULT, config.key)
    if finished is not None:
        result, reports = finished
        for each in reports:
            report(each)
        return result
    place = torch.device(device)
    with reproducible(place, threads, tf32=config.training.precision == "tf32"):
        return Trial(config, folder, data_root, place).run(report)


class Trial:
    """A trial at work: its data on the device, its engine, and what it has reported."""

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
        validation = self.data.validation()
        self.validation_labels = np.array(validation.labels)
        self.validation_images = as_tensor(validation.images).to(device)
        self.noise = {name: as_tensor(images).to(device) for name, images in self.data.noise().items()}
        self.engine = self._engine()
        self.reports: list[EpochReport] = []
        self.train_seconds = 0.0
        self.evaluation_seconds = 0.0

    def run(self, report: Report) -> TrialResult:
        self.resume()
        for each in tuple(self.reports):
            report(each)
        training = self.config.training
        while self.engine.epoch < training.epochs:
            started = time.perf_counter()
            trained = self.engine.train_epoch()
            self.train_seconds += time.perf_counter() - started
            epoch = self.engine.epoch
            last = epoch == training.epochs
            due = last or epoch % training.evaluate_every == 0
            if due:
                self.reports.append(self._evaluate(trained))
            # A search trial is about to write its result: it needs no last checkpoint.
            if epoch % training.checkpoint_every == 0 if not last else self.config.stage != "search":
                self._save()
            # After the checkpoint: where the receiver ends this process now, the report is repeated.
            if due:
                report(self.reports[-1])
        return self._finish()

    def subject(self) -> Subject:
        """The model as it is measured."""
        engine = self.engine
        return Subject(engine.evaluated, engine.loss, self.normalise, self.config.training.precision)

    def _engine(self) -> Engine:
        config, facts = self.config, self.data.facts
        train = self.data.train()
        # Seeded apart, so that neither one's random weights depend on how many the other draws.
        torch.manual_seed(derive_seed(config.seed, "loss"))
        counts = np.bincount(train.labels, minlength=facts.num_classes)
        context = LossContext(len(train.labels), facts.num_classes, tuple(int(n) for n in counts))
        loss = build_loss(config.loss, config.loss_params, context)
        torch.manual_seed(derive_seed(config.seed, "model"))
        model = build_model(config.model, facts.image_shape, facts.num_classes, loss.head)
        model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        labels = torch.from_numpy(np.array(train.labels)).to(self.device)
        images = as_tensor(train.images).to(self.device)
        batches = Batches(images, labels, facts.num_classes, config.training, config.seed)
        return Engine(model, loss.to(self.device), batches, self.normalise, config.training, config.seed)

    def resume(self) -> None:
        """Go on from the checkpoint, where there is one."""
        checkpoint = read_checkpoint(self.folder / CHECKPOINT, self.config.key, self.device)
        if checkpoint is not None:
            self.engine.load_state_dict(checkpoint.engine)
            self.reports = list(checkpoint.reports)
            self.train_seconds = checkpoint.train_seconds
            self.evaluation_seconds = checkpoint.evaluation_seconds

    def _save(self) -> None:
        checkpoint = Checkpoint(
            self.engine.state_dict(), tuple(self.reports), self.train_seconds, self.evaluation_seconds
        )
        write_checkpoint(self.folder / CHECKPOINT, self.config.key, checkpoint)

    def _evaluate(self, trained: dict[str, float]) -> EpochReport:
        """Validation and noise, by the headline score."""
        started = time.perf_counter()
        engine, evaluation = self.engine, self.config.evaluation
        logits = self._logits(self.validation_images)
        noise = {name: self._logits(images) for name, images in self.noise.items()}
        known = score(evaluation.headline, logits)
        unknown = {name: score(evaluation.headline, each) for name, each in noise.items()}
        labels = self.validation_labels
        metrics = {
            **trained,
            "validation/accuracy": float((logits.argmax(axis=1) == labels).mean()),
            "validation/nll": calibration_metrics(logits, labels, 1.0, evaluation.calibration.bins)["nll"],
            **noise_metrics(known, unknown),
            "validation/logit_norm": logit_norms(logits)["mean"],
            "noise/logit_norm": float(np.mean([logit_norms(each)["mean"] for each in noise.values()])),
        }
        self.evaluation_seconds += time.perf_counter() - started
        return EpochReport(engine.epoch, metrics)

    def _logits(self, images: Tensor) -> npt.NDArray[np.float32]:
        engine, precision = self.engine, self.config.training.precision
        logits = predict(engine.evaluated, engine.loss, self.normalise, images, precision).logits
        if not np.isfinite(logits).all():
            raise TrainingDiverged("the logits must be finite; some are not, though the weights are")
        return logits

    def _finish(self) -> TrialResult:
        metrics = dict(self.reports[-1].metrics)
        measured = Part()
        if self.config.stage != "search":
            started = time.perf_counter()
            measured = measure(self.subject(), self.data, self.config, self.folder / OUTPUTS)
            metrics.update(measured.metrics)
            self.evaluation_seconds += time.perf_counter() - started
        result = TrialResult(
            metrics=metrics,
            train_seconds=self.train_seconds,
            evaluation_seconds=self.evaluation_seconds,
            parameters=sum(p.numel() for p in self.engine.parameters),
            notes=measured.notes,
        )
        _write_result(self.folder / RESULT, self.config.key, result, self.reports)
        if self.config.stage == "search":
            (self.folder / CHECKPOINT).unlink(missing_ok=True)
        return result


def _write_result(path: Path, key: str, result: TrialResult, reports: list[EpochReport]) -> None:
    record = {
        "key": key,
        "result": {
            "metrics": dict(result.metrics),
            "train_seconds": result.train_seconds,
            "evaluation_seconds": result.evaluation_seconds,
            "parameters": result.parameters,
            "notes": list(result.notes),
        },
        "reports": plain_reports(reports),
    }
    write_json(path, record)


def _read_result(path: Path, key: str) -> tuple[TrialResult, tuple[EpochReport, ...]] | None:
    """The finished trial ``key``, or None where this file is not there, not whole, or another trial's."""
    try:
        record = json.loads(path.read_text())
        if record["key"] != key:
            return None
        saved = {**record["result"], "notes": tuple(record["result"]["notes"])}
        return TrialResult(**saved), read_reports(record["reports"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
