"""The parts of training: rates, batches, augmentation, seeds, the switches of a trial."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from workloads.contract import AugmentationConfig, TrainingConfig
from workloads.training.batches import Batches, Normaliser
from workloads.training.numerics import reproducible
from workloads.training.schedule import learning_rate
from workloads.training.seeds import derive_seed

CPU = torch.device("cpu")
PIXELS = Normaliser([0.0], [1 / 255], CPU)
"""Leaves pixels as they are."""
AUGMENTATIONS = [
    AugmentationConfig(),
    AugmentationConfig(crop=1, flip=True),
    AugmentationConfig(crop=1, padding="reflect", erasing=0.5, repeats=2),
    AugmentationConfig(randaugment=2, mixup=0.4, cutmix=1.0),
]
PLAIN = TrainingConfig(epochs=3, batch_size=8, lr=0.1, momentum=0.9, weight_decay=1e-2, schedule="cosine")


def data(count: int = 21, size: int = 4) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(5)
    images = torch.randint(256, (count, 1, size, size), generator=source, dtype=torch.uint8)
    return images, torch.randint(3, (count,), generator=source)


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
            {"schedule": "cosine", "min_lr": 0.02},
            [0.02 + 0.04 * (1 + math.cos(math.pi * t / 10)) for t in range(10)],
        ),
        (
            {"schedule": "cosine", "warmup_epochs": 1},
            [0.05, 0.1] + [0.05 * (1 + math.cos(math.pi * t / 8)) for t in range(8)],
        ),
    ],
)
def test_the_learning_rate_follows_its_schedule(settings: dict[str, Any], expected: Sequence[float]) -> None:
    config = TrainingConfig(epochs=5, lr=0.1, **settings)
    assert [learning_rate(config, step, 2) for step in range(10)] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("epochs", [5, 100])
def test_one_cycle_is_torchs(epochs: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    expected = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=2 * epochs)
    config = TrainingConfig(epochs=epochs, lr=0.1, schedule="one_cycle")
    for step in range(2 * epochs):
        assert learning_rate(config, step, 2) == pytest.approx(expected.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        if step < 2 * epochs - 1:
            expected.step()


def test_warm_up_as_long_as_the_training_never_leaves_it() -> None:
    config = TrainingConfig(epochs=2, lr=1.0, warmup_epochs=2)
    assert [learning_rate(config, step, 2) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("count", "sizes"), [(21, [8, 8, 5]), (16, [8, 8]), (17, [8, 9]), (9, [9]), (8, [8]), (5, [5])]
)
def test_an_epoch_shows_every_image_once_and_never_a_single_one(count: int, sizes: list[int]) -> None:
    images, labels = data(count)
    batches = Batches(images, labels, 3, PLAIN, seed=0)
    seen = [(batch.images, batch.labels) for batch in batches.epoch(1, PIXELS)]
    assert [len(y) for _, y in seen] == sizes
    assert len(batches) == len(sizes)
    rows = {tuple(row) for x, _ in seen for row in x.flatten(1).tolist()}
    assert rows == {tuple(row) for row in images.flatten(1).tolist()}
    pairs = {(tuple(row), int(y)) for row, y in zip(images.flatten(1).tolist(), labels, strict=True)}
    assert {
        (tuple(r), int(y)) for x, ys in seen for r, y in zip(x.flatten(1).tolist(), ys, strict=True)
    } == pairs


@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_batches_are_a_function_of_seed_and_epoch(augmentation: AugmentationConfig) -> None:
    config = dataclasses.replace(PLAIN, augmentation=augmentation)

    def drawn(seed: int, epoch: int) -> Tensor:
        torch.manual_seed(torch.seed() % 1000)  # whatever the global generator does
        return torch.cat([b.images for b in Batches(*data(), 3, config, seed).epoch(epoch, PIXELS)])

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


@pytest.mark.parametrize("flip", [False, True])
def test_an_augmented_image_is_one_of_its_own_shifted_crops(flip: bool) -> None:
    images, _ = data(40, size=8)
    labels = torch.arange(40)  # so that a batch says which image each row came from
    config = dataclasses.replace(PLAIN, augmentation=AugmentationConfig(crop=1, flip=flip))
    unflipped, shifted = 0, set()
    for epoch in range(1, 6):
        for batch in Batches(images, labels, 40, config, seed=0).epoch(epoch, PIXELS):
            assert torch.equal(batch.index, batch.labels)
            for row, index in zip(batch.images, batch.labels.tolist(), strict=True):
                crops = every_crop(images[index], padding=1)
                plain = tuple(row.flatten().tolist())
                mirrored = tuple(row.flip(2).flatten().tolist())
                assert plain in crops or (flip and mirrored in crops)
                unflipped += plain in crops
                shifted.add(plain)
    # 200 fair coins: 60..140 is six standard deviations wide on either side.
    assert 60 < unflipped < 140 if flip else unflipped == 200
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
        Batches(images, labels, 3, dataclasses.replace(PLAIN, batch_size=batch_size), seed=0)


def test_a_label_that_is_no_class_is_refused_before_training() -> None:
    images, labels = data()
    with pytest.raises(ValueError, match=r"class indices in 0\.\.1; got 2"):
        Batches(images, labels, 2, PLAIN, seed=0)


def test_repeats_show_every_image_so_often_each_time_augmented_anew() -> None:
    images, _ = data(40, size=8)
    config = dataclasses.replace(PLAIN, augmentation=AugmentationConfig(crop=2, repeats=3))
    batches = Batches(images, torch.arange(40), 40, config, seed=0)
    seen = list(batches.epoch(1, PIXELS))
    assert len(batches) == len(seen) == 15
    which = torch.cat([batch.labels for batch in seen])
    assert which.bincount().tolist() == [3] * 40
    rows = torch.cat([batch.images for batch in seen])
    first = rows[which == 0].flatten(1)
    assert len({tuple(row.tolist()) for row in first}) > 1


def test_mixed_targets_are_distributions_that_keep_the_batch_average() -> None:
    images, labels = data(40, size=8)
    config = dataclasses.replace(PLAIN, augmentation=AugmentationConfig(mixup=1.0, cutmix=1.0))
    batches = Batches(images, labels, 3, config, seed=0)
    assert batches.mixes
    mixed = 0
    for x, y, targets, index in batches.epoch(1, PIXELS):
        assert torch.equal(labels[index], y)
        assert targets.shape == (len(x), 3)
        assert torch.allclose(targets.sum(1), torch.ones(len(x)))
        mixed += int((targets.max(1).values < 1).sum())
        assert (targets[torch.arange(len(y)), y] > 0).all()
    assert mixed > 10


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
