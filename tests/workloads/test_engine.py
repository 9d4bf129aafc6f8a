"""The training loop: an epoch against a plain loop, what each step is told, resumption, the optimiser."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.workloads.test_training import PIXELS, PLAIN, data
from workloads.contract import AugmentationConfig, TrainingConfig, TrainingDiverged
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.adacos import AdaCos
from workloads.losses.base import Loss, LossContext, Targets
from workloads.losses.build import build_loss
from workloads.losses.cross_entropy import CrossEntropy
from workloads.losses.godin import GODIN
from workloads.losses.meln import MarginEnhancedLogitNorm
from workloads.models.base import Classifier
from workloads.training.batches import Batches, Normaliser
from workloads.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from workloads.training.engine import Engine
from workloads.training.inference import predict
from workloads.training.numerics import reproducible
from workloads.training.schedule import learning_rate

CPU = torch.device("cpu")
CONTEXT = LossContext(21, 3, (12, 6, 3))
SCHEDULED: dict[str, dict[str, Any]] = {
    "cosface": {"margin_warmup": 0.9},
    "arcface": {"margin_warmup": 0.9, "triplet": 0.5},
    "ldam": {"drw": 0.5, "beta": 0.9},
    "l_softmax": {"anneal": 0.9},
    "a_softmax": {"anneal": 0.9},
    "adacos": {},
    "meln": {"mode": "per_class"},
    "normface": {"learn_s": True},
    "godin": {},
}
"""Losses that depend on how much of the training is done, or that change in it."""


class Learnt(Loss):
    """Cross-entropy at a learnt scale."""

    targets: Targets = "soft"

    def __init__(self, lr_scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.lr_scale = lr_scale

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.scale * output.logits, targets)


class LearntGODIN(GODIN):
    """GODIN's loss at a learnt scale: a model and a loss with parameters that are not decayed."""

    def __init__(self, lr_scale: float) -> None:
        super().__init__("inner")
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.lr_scale = lr_scale

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.scale * output.logits, targets)


class Recording(CrossEntropy):
    """Cross-entropy that notes how much of the training is done whenever it is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        self.seen.append(float(self.progress))
        return super().value(output, targets)


class Spoiled(CrossEntropy):
    """Cross-entropy that is ``bad`` from its third batch on."""

    def __init__(self, bad: float) -> None:
        super().__init__()
        self.bad = bad
        self.calls = 0

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        self.calls += 1
        return super().value(output, targets) * (self.bad if self.calls > 2 else 1.0)


class Flat(nn.Sequential):
    """Pixels as features."""

    def __init__(self, dropout: float, size: int) -> None:
        super().__init__(nn.Flatten(), nn.Dropout(dropout))
        self.features = size * size


class Deep(nn.Sequential):
    """A convolution, a layer that sees its channels last, and a linear layer."""

    def __init__(self, dropout: float) -> None:
        super().__init__(
            nn.Conv2d(1, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 6, 2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(6, 5),
        )
        self.features = 5


def flat_model(dropout: float = 0.0, size: int = 4, head: HeadSpec | None = None) -> Classifier:
    torch.manual_seed(11)
    return Classifier(Flat(dropout, size), 3, head)


def engine(
    config: TrainingConfig = PLAIN, loss: Loss | None = None, seed: int = 0, dropout: float = 0.0
) -> Engine:
    images, labels = data()
    loss = loss or CrossEntropy()
    model = flat_model(dropout, head=loss.head)
    if config.optimizer == "muon":
        torch.manual_seed(11)
        model = Classifier(Deep(dropout), 3, loss.head)
        model = model.to(memory_format=torch.channels_last)
    return Engine(
        model,
        loss,
        Batches(images, labels, 3, config, seed),
        Normaliser([0.5], [0.25], CPU),
        config,
        seed,
    )


def weights(engine: Engine) -> Tensor:
    return torch.cat([p.detach().flatten() for p in engine.parameters])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"nesterov": True, "schedule": "step"},
        {"momentum": 0.0, "clip_grad_norm": 0.5, "warmup_epochs": 1},
        {"optimizer": "adamw", "lr": 0.01},
    ],
)
def test_an_epoch_is_what_a_plain_loop_computes(settings: dict[str, Any]) -> None:
    config = dataclasses.replace(PLAIN, **settings)
    trained = engine(config)
    reports = [trained.train_epoch() for _ in range(config.epochs)]

    model = flat_model()
    w, b = (p.detach().double().requires_grad_() for p in model.parameters())
    if config.optimizer == "adamw":
        optimizer: torch.optim.Optimizer = torch.optim.AdamW([w, b], weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.SGD(
            [w, b], momentum=config.momentum, nesterov=config.nesterov, weight_decay=config.weight_decay
        )
    step = 0
    for epoch in range(1, config.epochs + 1):
        total, hits = 0.0, 0
        for images, labels, _, _ in Batches(*data(), 3, config, 0).epoch(epoch, PIXELS):
            x = (images.double() / 255 - 0.5) / 0.25
            logits = x.flatten(1) @ w.T + b
            value = -torch.log_softmax(logits, 1)[range(len(labels)), labels].mean()
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            assert w.grad is not None
            assert b.grad is not None
            norm = math.sqrt((w.grad**2).sum().item() + (b.grad**2).sum().item())
            if config.clip_grad_norm is not None and norm > config.clip_grad_norm:
                w.grad *= config.clip_grad_norm / norm
                b.grad *= config.clip_grad_norm / norm
            rate = learning_rate(config, step, 3)
            optimizer.param_groups[0]["lr"] = rate
            optimizer.step()
            step += 1
            total += value.item() * len(labels)
            hits += int((logits.argmax(1) == labels).sum())
        assert reports[epoch - 1]["train/loss"] == pytest.approx(total / 21, rel=1e-4)
        assert reports[epoch - 1]["train/accuracy"] == hits / 21
        assert reports[epoch - 1]["train/lr"] == rate
    expected = torch.cat([w.detach().flatten(), b.detach().flatten()]).float()
    # float32 against float64 over nine steps
    assert torch.allclose(weights(trained), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("schedule", ["constant", "cosine", "step", "one_cycle"])
@pytest.mark.parametrize("stop", [1, 2])
def test_training_continues_from_its_state_to_the_bit(optimizer: Any, schedule: Any, stop: int) -> None:
    continues_to_the_bit(stop, optimizer=optimizer, schedule=schedule)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"ema_decay": 0.9},
        {"warmup_epochs": 1, "nesterov": True, "clip_grad_norm": 0.1},
        {"augmentation": AugmentationConfig(erasing=0.5, randaugment=2, repeats=2)},
        {"augmentation": AugmentationConfig(mixup=1.0, cutmix=1.0)},
    ],
    ids=str,
)
def test_training_with_other_settings_continues_to_the_bit(settings: Any) -> None:
    continues_to_the_bit(1, **settings)


def continues_to_the_bit(stop: int, **settings: Any) -> None:
    config = dataclasses.replace(PLAIN, lr=0.01, augmentation=AugmentationConfig(crop=1, flip=True))
    config = dataclasses.replace(config, **settings)
    with reproducible(CPU, threads=1):
        whole = engine(config, Learnt(), dropout=0.5)
        expected = [whole.train_epoch() for _ in range(3)]

        first = engine(config, Learnt(), dropout=0.5)
        for _ in range(stop):
            first.train_epoch()
        second = engine(config, Learnt(), dropout=0.5)
        second.load_state_dict(first.state_dict())
        torch.manual_seed(999)
        got = [second.train_epoch() for _ in range(3 - stop)]
    assert second.epoch == 3
    assert got == expected[stop:]
    assert torch.equal(weights(second), weights(whole))
    evaluated = [torch.cat([p.flatten() for p in e.evaluated.state_dict().values()]) for e in (second, whole)]
    assert torch.equal(*evaluated)


def test_an_averaged_model_is_the_running_mean_of_the_weights() -> None:
    trained = engine(dataclasses.replace(PLAIN, ema_decay=0.5, batch_size=32))
    mean = trained.model.head.weight.detach().clone()
    for epoch in range(3):
        trained.train_epoch()
        new = trained.model.head.weight.detach()
        mean = new.clone() if epoch == 0 else 0.5 * mean + 0.5 * new
    assert torch.allclose(trained.evaluated.head.weight, mean, atol=1e-7)
    assert not torch.equal(trained.evaluated.head.weight, trained.model.head.weight)


def test_bf16_trains_the_trunk_in_16_bits_and_head_and_loss_in_32() -> None:
    seen: list[torch.dtype] = []
    trained = engine(dataclasses.replace(PLAIN, precision="bf16", optimizer="muon"))
    trained.model.trunk.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    trained.model.head.register_forward_hook(lambda module, inputs, output: seen.append(output.logits.dtype))
    trained.train_epoch()
    assert set(seen[::2]) == {torch.bfloat16}
    assert set(seen[1::2]) == {torch.float32}


def test_labels_cannot_be_mixed_for_a_loss_that_takes_hard_ones() -> None:
    config = dataclasses.replace(PLAIN, augmentation=AugmentationConfig(mixup=0.2))
    with pytest.raises(ValueError, match="HighErrorMargin takes hard labels only"):
        engine(config, build_loss("hem", {"mu": 0.2}, CONTEXT))


def test_dropout_draws_from_seed_and_epoch() -> None:
    runs = [engine(seed=seed, dropout=0.5) for seed in (0, 0, 1)]
    losses = [run.train_epoch()["train/loss"] for run in runs]
    assert losses[0] == losses[1] != losses[2]


def test_every_step_tells_the_loss_how_much_of_the_training_is_done() -> None:
    config = dataclasses.replace(PLAIN, epochs=2)
    whole, resumed = Recording(), Recording()
    trained = engine(config, whole)
    trained.train_epoch()
    state = copy.deepcopy(trained.state_dict())
    trained.train_epoch()
    assert whole.seen == [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]
    second = engine(config, resumed)
    second.load_state_dict(state)
    second.train_epoch()
    assert resumed.seen == [3 / 6, 4 / 6, 5 / 6]


@pytest.mark.parametrize("stop", [1, 3])
def test_a_loss_stands_at_the_same_progress_after_a_resume(stop: int) -> None:
    first, second = engine(), engine()
    for _ in range(stop):
        first.train_epoch()
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.loss.progress, first.loss.progress)


def test_a_margin_grows_step_by_step() -> None:
    trained = engine(loss=build_loss("cosface", {"m": 0.2, "margin_warmup": 0.5}, CONTEXT))
    # Nine steps, the margin full after four and a half; the mean over an epoch's three steps.
    means = [0.2 * (0 + 2 / 9 + 4 / 9) / 3, 0.2 * (6 / 9 + 8 / 9 + 1) / 3, 0.2]
    got = [trained.train_epoch()["loss/m"] for _ in range(3)]
    assert got == pytest.approx(means, rel=1e-6)


@pytest.mark.parametrize("stop", [1, 2])
@pytest.mark.parametrize("name", SCHEDULED)
def test_training_continues_in_the_middle_of_a_schedule_to_the_bit(name: str, stop: int) -> None:
    with reproducible(CPU, threads=1):
        whole, first, second = (
            engine(loss=build_loss(name, SCHEDULED[name], CONTEXT), dropout=0.5) for _ in range(3)
        )
        expected = [whole.train_epoch() for _ in range(3)]
        for _ in range(stop):
            first.train_epoch()
        second.load_state_dict(copy.deepcopy(first.state_dict()))
        got = [second.train_epoch() for _ in range(3 - stop)]
    assert got == expected[stop:]
    assert torch.equal(weights(second), weights(whole))
    evaluated = [torch.cat([p.flatten() for p in e.evaluated.state_dict().values()]) for e in (second, whole)]
    assert torch.equal(*evaluated)
    assert_same(second.loss.state_dict(), whole.loss.state_dict())


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("name", ["adacos", "meln"])
def test_what_a_loss_has_adapted_or_learnt_survives_a_checkpoint(name: str, tmp_path: Path) -> None:
    def scale(loss: Loss) -> float:
        if isinstance(loss, AdaCos):
            return float(loss.s)
        assert isinstance(loss, MarginEnhancedLogitNorm)
        return float(loss.divisor.detach())

    first, second = (engine(loss=build_loss(name, {}, CONTEXT)) for _ in range(2))
    start = scale(first.loss)
    first.train_epoch()
    write_checkpoint(tmp_path / "checkpoint.pt", "key", Checkpoint(first.state_dict(), (), 0.0, 0.0))
    checkpoint = read_checkpoint(tmp_path / "checkpoint.pt", "key", CPU)
    assert checkpoint is not None
    second.load_state_dict(checkpoint.engine)
    assert scale(second.loss) == scale(first.loss)
    # Three steps move either by far more than a rounding.
    assert abs(scale(first.loss) / start - 1) > 1e-3


def test_the_stats_of_a_loss_are_part_of_the_epochs_report() -> None:
    trained = engine()
    first, second = trained.train_epoch(), trained.train_epoch()
    assert first["loss/logit_norm"] > 0
    assert second["loss/logit_norm"] != first["loss/logit_norm"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_longer_finite_ends_the_training_with_epoch_and_value(bad: float) -> None:
    trained = engine(loss=Spoiled(bad))
    with pytest.raises(TrainingDiverged, match=rf"got {bad} in epoch 1 of 3 at lr 0\.1"):
        trained.train_epoch()


def test_weights_that_are_no_longer_finite_end_the_training() -> None:
    trained = engine()
    with torch.no_grad():
        trained.model.head.weight[0, 0] = math.inf
        trained.model.head.weight.requires_grad_(False)
    trained.loss = Zero()
    with pytest.raises(TrainingDiverged, match=r"weights must stay finite; some are not after epoch 1 of 3"):
        trained.train_epoch()


class Zero(Loss):
    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return output.logits.nan_to_num(posinf=0, neginf=0).sum() * 0


def test_prediction_is_in_evaluation_mode_and_the_same_for_any_batching(monkeypatch: Any) -> None:
    images, _ = data(21)
    trained = engine(dropout=0.5)
    normalise = trained.normalise
    whole = predict(trained.model, trained.loss, normalise, images)
    monkeypatch.setattr("workloads.training.inference.CPU_BATCH", 4)
    parts = predict(trained.model, trained.loss, normalise, images.numpy())
    x = normalise(images).flatten(1)
    assert trained.model.head.bias is not None
    expected = x @ trained.model.head.weight.T + trained.model.head.bias
    assert whole.features.tolist() == parts.features.tolist() == x.tolist()
    for got in (whole, parts):
        assert torch.allclose(torch.from_numpy(got.logits), expected, atol=1e-5)


def test_logits_that_are_not_finite_are_handed_on_for_the_caller_to_judge() -> None:
    trained = engine()
    trained.model.head.state_dict()["bias"][0] = math.nan
    said = predict(trained.model, trained.loss, trained.normalise, data()[0])
    assert np.isnan(said.logits[:, 0]).all()
    assert np.isfinite(said.logits[:, 1:]).all()
