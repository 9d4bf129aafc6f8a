"""The training loop: an epoch against a plain loop, what each step is told, resumption, the optimiser."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.workloads.test_training import PLAIN, data
from workloads.contract import TrainingConfig, TrainingDiverged
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.adacos import AdaCos
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.cross_entropy import CrossEntropy
from workloads.losses.godin import GODIN
from workloads.losses.meln import MarginEnhancedLogitNorm
from workloads.models.base import Classifier
from workloads.training.batches import Batches, Normaliser
from workloads.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from workloads.training.engine import Engine, build_optimizer
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


def flat_model(dropout: float = 0.0, size: int = 4, head: HeadSpec | None = None) -> Classifier:
    torch.manual_seed(11)
    return Classifier(Flat(dropout, size), 3, head)


def engine(
    config: TrainingConfig = PLAIN, loss: Loss | None = None, seed: int = 0, dropout: float = 0.0
) -> Engine:
    images, labels = data()
    loss = loss or CrossEntropy()
    return Engine(
        flat_model(dropout, head=loss.head),
        loss,
        Batches(images, labels, config, seed),
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
        for images, labels in Batches(*data(), config, 0).epoch(epoch):
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


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("stop", [1, 2])
def test_training_continues_from_its_state_to_the_bit(optimizer: Any, stop: int) -> None:
    config = dataclasses.replace(PLAIN, optimizer=optimizer, augmentation="crop_flip", lr=0.01)
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


def test_dropout_draws_from_seed_and_epoch() -> None:
    runs = [engine(seed=seed, dropout=0.5) for seed in (0, 0, 1)]
    losses = [run.train_epoch()["train/loss"] for run in runs]
    assert losses[0] == losses[1] != losses[2]


def test_what_is_decayed_at_which_rate_is_a_group_of_its_own() -> None:
    loss = LearntGODIN(0.1)
    model = flat_model(head=loss.head)
    optimizer = build_optimizer(model, loss, PLAIN)
    names = {id(p): name for module in (model, loss) for name, p in module.named_parameters()}
    got = {
        names[id(p)]: (group["weight_decay"], group["lr_scale"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert got == {
        "head.weight": (0.0, 1.0),
        "head.bias": (0.0, 1.0),
        "head.divisor.0.weight": (1e-2, 1.0),
        "head.divisor.0.bias": (1e-2, 1.0),
        "head.divisor.1.weight": (1e-2, 1.0),
        "head.divisor.1.bias": (1e-2, 1.0),
        "scale": (0.0, 0.1),
    }
    assert len(build_optimizer(flat_model(), CrossEntropy(), PLAIN).param_groups) == 1


def test_parameters_that_are_not_trained_are_not_given_to_the_optimiser() -> None:
    loss = MarginEnhancedLogitNorm(learn_T=False)
    model = flat_model()
    assert sum(len(g["params"]) for g in build_optimizer(model, loss, PLAIN).param_groups) == 2
    model.head.weight.requires_grad_(False)
    (group,) = build_optimizer(model, loss, PLAIN).param_groups
    assert [p is model.head.bias for p in group["params"]] == [True]


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"schedule": "constant"}, [0.1, 0.1, 0.1]),
        ({"schedule": "cosine"}, [0.1, 0.075, 0.025]),
        ({"schedule": "step", "milestones": (0.3, 0.6)}, [0.1, 0.01, 0.001]),
        ({"schedule": "constant", "warmup_epochs": 3}, [0.1 / 3, 0.2 / 3, 0.1]),
    ],
)
def test_a_step_decays_and_scales_each_group_as_it_should(settings: Any, rates: list[float]) -> None:
    config = dataclasses.replace(PLAIN, batch_size=32, momentum=0.0, weight_decay=0.5, **settings)
    trained = engine(config, LearntGODIN(0.2))
    images, labels = data()
    for rate in rates:
        # All 21 images are one batch, so that a step needs no order.
        model, loss = copy.deepcopy(trained.model), copy.deepcopy(trained.loss)
        loss(model(trained.normalise(images)), labels).backward()
        trained.train_epoch()
        for name, before in [*model.named_parameters(), *loss.named_parameters()]:
            decay = 0.5 if "divisor" in name else 0.0
            scale = 0.2 if name == "scale" else 1.0
            assert before.grad is not None
            expected = before.detach() - rate * scale * (before.grad + decay * before.detach())
            after = dict([*trained.model.named_parameters(), *trained.loss.named_parameters()])[name]
            # float32, with the images of the mean in another order
            assert torch.allclose(after.detach(), expected, rtol=1e-5, atol=1e-6), name


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


def test_logits_that_are_not_finite_are_no_result() -> None:
    trained = engine()
    trained.model.head.state_dict()["bias"][0] = math.nan
    with pytest.raises(TrainingDiverged, match="logits must be finite"):
        predict(trained.model, trained.loss, trained.normalise, data()[0])
