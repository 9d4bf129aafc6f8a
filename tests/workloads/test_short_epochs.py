"""Schedules in epochs of fewer steps than others."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from torch import Tensor

from tests.workloads.test_selection_in_training import Noting, engine, skipping
from workloads.contract import SkipConfig, TrainingConfig
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.training.batches import Batch
from workloads.training.schedule import learning_rate, place


@pytest.mark.parametrize(
    ("taken", "whole", "expected"),
    [
        (5, 5, [0, 1, 2, 3, 4]),
        (3, 5, [0, 2, 4]),
        (4, 5, [0, 4 / 3, 8 / 3, 4]),
        (2, 7, [0, 6]),
        (1, 5, [2]),
        (1, 1, [0]),
    ],
)
def test_the_steps_of_a_short_epoch_are_spread_over_those_of_a_whole_one(
    taken: int, whole: int, expected: list[float]
) -> None:
    assert [place(index, taken, whole) for index in range(taken)] == expected


@pytest.mark.parametrize("whole", [1, 7, 391, 1000])
def test_a_whole_epoch_stands_at_whole_steps_to_the_bit(whole: int) -> None:
    assert [place(index, whole, whole) for index in range(whole)] == list(range(whole))


def test_a_short_epoch_of_any_length_ends_where_a_whole_one_does_to_the_bit() -> None:
    # 11 * (15 / 11) is not 15.
    for whole in range(2, 60):
        for taken in range(2, whole):
            assert place(taken - 1, taken, whole) == whole - 1


WHOLE = 20
SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant", "warmup_epochs": 2},
    {"schedule": "cosine", "warmup_epochs": 1, "min_lr": 0.01},
    {"schedule": "cosine"},
    {"schedule": "step", "milestones": (0.4, 0.7)},
    {"schedule": "step", "milestones": (1 / 3, 0.77), "warmup_epochs": 1},
    {"schedule": "one_cycle"},
]


@pytest.mark.parametrize("settings", SCHEDULES, ids=str)
@pytest.mark.parametrize("taken", [2, 3, 7, 13, 19])
def test_a_short_epoch_has_the_first_and_last_rate_of_a_whole_one(
    settings: dict[str, Any], taken: int
) -> None:
    config = TrainingConfig(epochs=10, lr=0.1, **settings)
    for epoch in range(10):
        start = epoch * WHOLE
        whole = [learning_rate(config, start + step, WHOLE) for step in range(WHOLE)]
        short = [learning_rate(config, start + place(i, taken, WHOLE), WHOLE) for i in range(taken)]
        # A sum in floats: place(...) ends exactly at WHOLE - 1.
        assert short[0] == whole[0]
        assert short[-1] == whole[-1]
        assert min(whole) - 1e-12 <= min(short) <= max(short) <= max(whole) + 1e-12


def test_rates_between_whole_steps_lie_on_the_same_curves() -> None:
    half = {"schedule": "constant", "warmup_epochs": 1}
    warm = TrainingConfig(epochs=4, lr=0.8, **half)  # type: ignore[arg-type]
    # Eight steps of warm-up: (2.5 + 1) / 8 of 0.8; and 0.8 from step 7 on.
    assert learning_rate(warm, 2.5, 8) == pytest.approx(0.35, abs=1e-12)
    assert learning_rate(warm, 7, 8) == learning_rate(warm, 8.5, 8) == 0.8
    cosine = TrainingConfig(epochs=4, lr=0.8, schedule="cosine")
    assert learning_rate(cosine, 10.5, 8) == pytest.approx(
        0.4 * (1 + math.cos(math.pi * 10.5 / 32)), abs=1e-12
    )
    step = TrainingConfig(epochs=4, lr=0.8, schedule="step", milestones=(0.5,))
    assert [learning_rate(step, at, 8) for at in (15.9, 16, 16.1)] == pytest.approx([0.8, 0.08, 0.08])
    # A milestone on a step that no decimal number is.
    third = TrainingConfig(epochs=1, lr=1.0, schedule="step", milestones=(2 / 3,))
    assert learning_rate(third, 20 / 3, 10) == pytest.approx(0.1)
    cycle = TrainingConfig(epochs=10, lr=0.1, schedule="one_cycle")
    # 0.3 * 100 - 1 = 29 is the peak; from 0.004 half of the rise at 14.5, and (64 - 29) / 70 = half the fall.
    assert learning_rate(cycle, 14.5, 10) == pytest.approx((0.004 + 0.1) / 2, rel=1e-9)
    assert learning_rate(cycle, 64.0, 10) == pytest.approx((0.1 + 4e-7) / 2, rel=1e-9)


class Clock(Noting):
    """Notes where in the training each step stands."""

    def __init__(self) -> None:
        super().__init__()
        self.progress: list[list[float]] = []

    def begin_epoch(self, epoch: int) -> None:
        super().begin_epoch(epoch)
        self.progress.append([])

    def value(self, loss: Loss, output: HeadOutput, batch: Batch) -> tuple[Tensor, Tensor | None]:
        self.progress[-1].append(float(loss.progress))
        return super().value(loss, output, batch)


def test_a_training_that_skips_images_ends_its_schedules_where_the_others_do() -> None:
    clock = Clock()
    trained = engine(skipping(4, skip=SkipConfig("random", 1, 0.4), schedule="one_cycle"), objective=clock)
    reports = [trained.train_epoch() for _ in range(4)]
    # Of 24 images in sixes of four steps: 24, 14, 18, 17.
    assert [len(seen) for seen in clock.epochs] == [24, 14, 18, 17]
    assert [len(steps) for steps in clock.progress] == [6, 4, 5, 4]
    for epoch, steps in enumerate(clock.progress):
        gaps = [b - a for a, b in pairwise(steps)]
        assert gaps == pytest.approx([5 / (len(steps) - 1) / 24] * len(gaps), abs=1e-12)
        assert (steps[0], steps[-1]) == pytest.approx((epoch / 4, (6 * epoch + 5) / 24), abs=1e-12)
    assert reports[-1]["train/lr"] == pytest.approx(0.05 / 25 / 1e4, rel=1e-9)
    assert float(trained.loss.progress) == 1
