"""Trials of a second or less on some of the bundled digits, for the tests of the protocols."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from workloads.contract import (
    DataConfig,
    DataFacts,
    EpochReport,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    OODConfig,
    TrainingConfig,
    TrialConfig,
    TrialResult,
)
from workloads.data.prepared import PreparedData
from workloads.protocol_config import ContinualConfig, LongTailedConfig
from workloads.run import prepare, run
from workloads.training.checkpoint import Checkpoint, read_checkpoint

SIX = DataConfig(
    "digits",
    id_classes=(0, 1, 2, 3, 4, 5),
    near_ood=("held_out",),
    far_ood=("uniform", "pixel_permuted"),
    train_fraction=0.25,
)
"""24 or 25 training images of each of six classes, and OOD sets."""
TEN = DataConfig("digits", far_ood=("uniform",), train_fraction=0.4)
"""37 to 39 training images of each of ten classes."""
NOISE = NoiseConfig(sigmas=(0.25,), size=30)
MLP = ModelConfig("mlp", {"hidden": 16, "depth": 1})
CNN = ModelConfig("small_cnn_8x8", {"width": 4})
TRAINING = TrainingConfig(epochs=2, batch_size=16, lr=0.05, schedule="constant", checkpoint_every=2)
STREAM = ContinualConfig(tasks=3, buffer=20, replay_batch=8, fisher_images=40, ood_images=50)
TAIL = LongTailedConfig(factor=8.0, crt_epochs=2)
EVALUATION = EvaluationConfig(measures=(), ood=OODConfig(("msp",)))


class Interrupted(Exception):
    """What a receiver of reports raises."""


@dataclass(frozen=True)
class Finished:
    """A trial that ran to its end."""

    config: TrialConfig
    folder: Path
    result: TrialResult
    reports: list[EpochReport]

    @property
    def metrics(self) -> dict[str, float]:
        return dict(self.result.metrics)

    @property
    def checkpoint(self) -> Checkpoint:
        found = read_checkpoint(self.folder / "checkpoint.pt", self.config.key, torch.device("cpu"))
        assert found is not None
        return found

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The model at the end."""
        state: dict[str, torch.Tensor] = self.checkpoint.engine["model"]
        return state


class Bench:
    """The prepared data, and trials on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._facts: dict[DataConfig, DataFacts] = {}

    def facts(self, data: DataConfig = SIX) -> DataFacts:
        if data not in self._facts:
            self._facts[data] = prepare(data, NOISE, self.root)
        return self._facts[data]

    def data(self, data: DataConfig = SIX) -> PreparedData:
        wanted = self.facts(data).hash
        return PreparedData.open(data, NOISE, self.root, stage="confirm", data_hash=wanted)

    def trial(self, loss: str = "cross_entropy", seed: int = 0, **settings: Any) -> TrialConfig:
        """A confirm trial; ``settings`` are fields of its configuration, or of its training."""
        data: DataConfig = settings.pop("data", SIX)
        training: TrainingConfig = settings.pop("training", TRAINING)
        fields = {name: settings.pop(name) for name in tuple(settings) if name not in vars(TRAINING)}
        protocol = "continual" if "continual" in fields else "long_tailed"
        plain: dict[str, Any] = {
            "arm": "arm",
            "stage": "confirm",
            "protocol": protocol if "continual" in fields or "long_tailed" in fields else "standard",
            "loss_params": {},
            "model": MLP,
            "noise": NOISE,
            "evaluation": EVALUATION,
            "data_hash": self.facts(data).hash,
        }
        return TrialConfig(
            seed=seed, loss=loss, data=data, training=replace(training, **settings), **plain | fields
        )

    def stream(self, strategy: str = "naive", scenario: str = "class_il", **settings: Any) -> TrialConfig:
        """A trial of a stream; ``settings`` are also those of the stream."""
        own = {name: settings.pop(name) for name in tuple(settings) if name in vars(STREAM)}
        given: Any = {"strategy": strategy, "scenario": scenario, **own}
        return self.trial(continual=replace(STREAM, **given), **settings)

    def tail(self, method: str = "plain", **settings: Any) -> TrialConfig:
        """A long-tailed trial; ``settings`` are also those of the tail."""
        own = {name: settings.pop(name) for name in tuple(settings) if name in vars(TAIL)}
        given: Any = {"method": method, **own}
        return self.trial(long_tailed=replace(TAIL, **given), **settings)

    def run(self, config: TrialConfig, folder: Path) -> Finished:
        reports: list[EpochReport] = []
        result = run(config, reports.append, folder=folder, data_root=self.root)
        return Finished(config, folder, result, reports)

    def run_in_parts(self, config: TrialConfig, folder: Path, epochs: Iterable[int]) -> Finished:
        """Interrupted by the reports of these epochs, one after the other, and gone on with each time."""
        for epoch in epochs:
            try:
                run(config, _interrupting(epoch), folder=folder, data_root=self.root)
            except Interrupted:
                torch.rand(epoch)  # what another trial of the process may draw meanwhile
                continue
            raise AssertionError(f"there was no report of epoch {epoch}")
        return self.run(config, folder)


def _interrupting(epoch: int) -> Callable[[EpochReport], None]:
    def report(each: EpochReport) -> None:
        if each.epoch == epoch:
            raise Interrupted

    return report
