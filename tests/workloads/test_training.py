"""The training loop and its parts: rates, batches, augmentation, the optimiser, one epoch against another."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workloads.contract import TrainingConfig, TrainingDiverged
from workloads.losses.base import Loss
from workloads.losses.cross_entropy import CrossEntropy
from workloads.models.base import Classifier
from workloads.training.batches import Batches, Normaliser
from workloads.training.engine import Engine, build_optimizer
from workloads.training.inference import predict
from workloads.training.numerics import reproducible
from workloads.training.schedule import learning_rate
from workloads.training.seeds import derive_seed

CPU = torch.device("cpu")
PLAIN = TrainingConfig(epochs=3, batch_size=8, lr=0.1, momentum=0.9, weight_decay=1e-2, schedule="cosine")


class Learnt(Loss):
    """Cross-entropy at a learnt scale."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.scale * logits, targets)


class Spoiled(CrossEntropy):
    """Cross-entropy that is ``bad`` from its third batch on."""

    def __init__(self, bad: float) -> None:
        super().__init__()
        self.bad = bad
        self.calls = 0

    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        self.calls += 1
        return super().value(logits, targets) * (self.bad if self.calls > 2 else 1.0)


def data(count: int = 21, size: int = 4) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(5)
    images = torch.randint(256, (count, 1, size, size), generator=source, dtype=torch.uint8)
    return images, torch.randint(3, (count,), generator=source)


def linear_model(dropout: float = 0.0, size: int = 4) -> Classifier:
    torch.manual_seed(11)
    return Classifier(nn.Sequential(nn.Flatten(), nn.Dropout(dropout)), size * size, 3)


def engine(
    config: TrainingConfig = PLAIN, loss: Loss | None = None, seed: int = 0, dropout: float = 0.0
) -> Engine:
    images, labels = data()
    return Engine(
        linear_model(dropout),
        loss or CrossEntropy(),
        Batches(images, labels, config, seed),
        Normaliser([0.5], [0.25], CPU),
        config,
        seed,
    )


def weights(engine: Engine) -> Tensor:
    return torch.cat([p.detach().flatten() for p in engine.parameters])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"schedule": "constant"}, [0.1] * 10),
        # 0.05 * (1 + cos(pi * t / 10))
        ({"schedule": "cosine"}, [0.05 * (1 + math.cos(math.pi * t / 10)) for t in range(10)]),
        ({"schedule": "step", "milestones": (0.4, 0.7)}, [0.1] * 4 + [0.01] * 3 + [0.001] * 3),
        ({"schedule": "step", "milestones": (0.25,), "gamma": 0.5}, [0.1] * 3 + [0.05] * 7),
        ({"schedule": "constant", "warmup_epochs": 2}, [0.025, 0.05, 0.075, 0.1] + [0.1] * 6),
        (
            {"schedule": "cosine", "warmup_epochs": 1},
            [0.05, 0.1] + [0.05 * (1 + math.cos(math.pi * t / 8)) for t in range(8)],
        ),
    ],
)
def test_the_learning_rate_follows_its_schedule(settings: dict[str, Any], expected: Sequence[float]) -> None:
    config = TrainingConfig(epochs=5, lr=0.1, **settings)
    assert [learning_rate(config, step, 2) for step in range(10)] == pytest.approx(expected, abs=1e-12)


def test_warm_up_as_long_as_the_training_never_leaves_it() -> None:
    config = TrainingConfig(epochs=2, lr=1.0, warmup_epochs=2)
    assert [learning_rate(config, step, 2) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("count", "sizes"), [(21, [8, 8, 5]), (16, [8, 8]), (17, [8, 9]), (9, [9]), (8, [8]), (5, [5])]
)
def test_an_epoch_shows_every_image_once_and_never_a_single_one(count: int, sizes: list[int]) -> None:
    images, labels = data(count)
    batches = Batches(images, labels, PLAIN, seed=0)
    seen = list(batches.epoch(1))
    assert [len(y) for _, y in seen] == sizes
    assert len(batches) == len(sizes)
    rows = {tuple(row) for x, _ in seen for row in x.flatten(1).tolist()}
    assert rows == {tuple(row) for row in images.flatten(1).tolist()}
    pairs = {(tuple(row), int(y)) for row, y in zip(images.flatten(1).tolist(), labels, strict=True)}
    assert {
        (tuple(r), int(y)) for x, ys in seen for r, y in zip(x.flatten(1).tolist(), ys, strict=True)
    } == pairs


@pytest.mark.parametrize("augmentation", ["none", "crop", "crop_flip"])
def test_batches_are_a_function_of_seed_and_epoch(augmentation: Any) -> None:
    config = dataclasses.replace(PLAIN, augmentation=augmentation)

    def drawn(seed: int, epoch: int) -> Tensor:
        torch.manual_seed(torch.seed() % 1000)  # whatever the global generator does
        return torch.cat([x for x, _ in Batches(*data(), config, seed).epoch(epoch)])

    assert torch.equal(drawn(0, 3), drawn(0, 3))
    assert not torch.equal(drawn(0, 3), drawn(0, 4))
    assert not torch.equal(drawn(0, 3), drawn(1, 3))


def every_crop(image: Tensor, padding: int) -> set[tuple[int, ...]]:
    height, width = image.shape[1:]
    padded = torch.zeros(1, height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    return {
        tuple(padded[:, top : top + height, left : left + width].flatten().tolist())
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
    }


@pytest.mark.parametrize("augmentation", ["crop", "crop_flip"])
def test_an_augmented_image_is_one_of_its_own_shifted_crops(augmentation: Any) -> None:
    images, _ = data(40, size=8)
    labels = torch.arange(40)  # so that a batch says which image each row came from
    config = dataclasses.replace(PLAIN, augmentation=augmentation)
    unflipped, shifted = 0, set()
    for epoch in range(1, 6):
        for batch, which in Batches(images, labels, config, seed=0).epoch(epoch):
            for row, index in zip(batch, which.tolist(), strict=True):
                crops = every_crop(images[index], padding=1)
                plain = tuple(row.flatten().tolist())
                mirrored = tuple(row.flip(2).flatten().tolist())
                assert plain in crops or (augmentation == "crop_flip" and mirrored in crops)
                unflipped += plain in crops
                shifted.add(plain)
    # 200 fair coins: 60..140 is six standard deviations wide on either side.
    assert unflipped == 200 if augmentation == "crop" else 60 < unflipped < 140
    assert len(shifted) > 120


def test_pixels_are_normalised_by_channel() -> None:
    images = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)
    got = Normaliser([0.5, 0.2], [0.25, 0.1], CPU)(images)
    assert got.dtype == torch.float32
    # (0 - .5)/.25, (1 - .5)/.25; (.2 - .2)/.1, (.4 - .2)/.1
    assert got.flatten().tolist() == pytest.approx([-2.0, 2.0, 0.0, 2.0], abs=1e-5)


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (21, 1)])
def test_batches_of_one_image_are_refused(count: int, batch_size: int) -> None:
    images, labels = data(count)
    with pytest.raises(ValueError, match="two images or more"):
        Batches(images, labels, dataclasses.replace(PLAIN, batch_size=batch_size), seed=0)


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

    model = linear_model()
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


def test_a_losss_own_parameters_are_trained_without_weight_decay() -> None:
    loss = Learnt()
    model = linear_model()
    optimizer = build_optimizer(model, loss, PLAIN)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {id(model.head.weight): 1e-2, id(model.head.bias): 1e-2, id(loss.scale): 0.0}
    trained = engine(loss=Learnt())
    trained.train_epoch()
    assert isinstance(trained.loss, Learnt)
    assert trained.loss.scale.item() != 1.0


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
    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.nan_to_num(posinf=0, neginf=0).sum() * 0


def test_prediction_is_in_evaluation_mode_and_the_same_for_any_batching(monkeypatch: Any) -> None:
    images, _ = data(21)
    trained = engine(dropout=0.5)
    normalise = trained.normalise
    whole = predict(trained.model, trained.loss, normalise, images)
    monkeypatch.setattr("workloads.training.inference.CPU_BATCH", 4)
    parts = predict(trained.model, trained.loss, normalise, images.numpy())
    x = normalise(images).flatten(1)
    expected = x @ trained.model.head.weight.T + trained.model.head.bias
    assert whole.features.tolist() == parts.features.tolist() == x.tolist()
    for got in (whole, parts):
        assert torch.allclose(torch.from_numpy(got.logits), expected, atol=1e-5)


def test_logits_that_are_not_finite_are_no_result() -> None:
    trained = engine()
    with torch.no_grad():
        trained.model.head.bias[0] = math.nan
    with pytest.raises(TrainingDiverged, match="logits must be finite"):
        predict(trained.model, trained.loss, trained.normalise, data()[0])


def test_seeds_differ_by_purpose_epoch_and_seed() -> None:
    seeds = [
        derive_seed(seed, purpose, epoch)
        for seed in (0, 1)
        for purpose in ("model", "order")
        for epoch in (0, 1)
    ]
    assert len(set(seeds)) == 8
    assert derive_seed(1, "order", 2) == derive_seed(1, "order", 2)


def test_the_switches_of_a_trial_are_put_back_after_it() -> None:
    torch.manual_seed(3)
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state())
    with reproducible(CPU, threads=before[0] + 1):
        assert torch.get_num_threads() == before[0] + 1
        assert torch.are_deterministic_algorithms_enabled()
        torch.rand(5)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
