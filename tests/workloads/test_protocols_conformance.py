"""Every loss of the catalogue in a stream and on a long tail; every optimiser, precision and small model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from tests.workloads.small_trials import CNN, MLP, TEN, Bench, Finished
from workloads.check import problem
from workloads.contract import ModelConfig, TrialConfig
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES

WIDE = ModelConfig("mlp", {"hidden": 32, "depth": 1})
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "logit_adjustment afterwards": ("logit_adjustment", {"apply": "evaluation"}),
    "weighted cross_entropy": ("cross_entropy", {"class_weights": "effective"}),
    "meln per class": ("meln", {"mode": "per_class"}),
    "learned normface": ("normface", {"learn_s": True}),
    "with triplets": ("arcface", {"triplet": 0.5}),
    "hem by the batch": ("hem", {"threshold": "batch", "mean_over": "all"}),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in LOSSES} | VARIANTS
STEEP = {"logitnorm", "meln", "meln per class"}
"""Divided by a temperature of some hundredths, with a network as small as this: a tenth of the rate."""


def facts(config: TrialConfig, bench: Bench) -> dict[str, Any]:
    return dict(vars(bench.facts(config.data)))


def checked(config: TrialConfig, bench: Bench, folder: Path) -> Finished:
    """The trial is said to be possible, and is; no number of it is missing."""
    assert problem(config, facts(config, bench)) is None
    done = bench.run(config, folder)
    for metrics in (done.metrics, *(each.metrics for each in done.reports)):
        assert all(math.isfinite(value) for value in metrics.values())
    return done


@pytest.mark.parametrize("name", CASES)
def test_every_loss_learns_each_task_of_a_stream(bench: Bench, tmp_path: Path, name: str) -> None:
    loss, params = CASES[name]
    config = bench.stream(
        "replay",
        loss=loss,
        loss_params=params,
        data=TEN,
        tasks=5,
        buffer=40,
        model=WIDE,
        lr=0.005 if name in STEEP else 0.05,
    )
    done = checked(config, bench, tmp_path)
    # Of 599 test images half at chance, with a deviation of 0.02; and a tenth among all ten classes.
    assert done.metrics["continual/class_il/masked/learning_accuracy"] > 0.6
    assert done.metrics["continual/class_il/accuracy"] > 0.15


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("strategy", "scenario"), [("derpp", "class_il"), ("lwf", "task_il"), ("ewc", "class_il")]
)
def test_every_loss_goes_through_every_kind_of_strategy(
    bench: Bench, tmp_path: Path, name: str, strategy: str, scenario: str
) -> None:
    loss, params = CASES[name]
    config = bench.stream(
        strategy, scenario, loss=loss, loss_params=params, epochs=1, lr=0.002, ewc_lambda=1.0, l2_lambda=0.1
    )
    done = bench.run(config, tmp_path)
    assert all(math.isfinite(value) for each in done.reports for value in each.metrics.values())
    assert all(math.isfinite(value) for value in done.metrics.values())


@pytest.mark.parametrize("name", CASES)
def test_every_loss_learns_from_a_long_tail(bench: Bench, tmp_path: Path, name: str) -> None:
    loss, params = CASES[name]
    built = build_loss(loss, params, LossContext(6, 6, (1,) * 6))
    weighs = loss == "ldam" or "class_weights" in params
    method = "class_balanced" if built.splits and not weighs else "plain"
    rate = 0.005 if name in STEEP else 0.05
    done = checked(
        bench.tail(method, loss=loss, loss_params=params, factor=3.0, epochs=4, model=WIDE, lr=rate),
        bench,
        tmp_path,
    )
    assert done.metrics["imbalance/balanced_accuracy"] > 1 / 6 + 0.1


@pytest.mark.parametrize("model", [CNN, MLP], ids=lambda model: model.name)
@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16", "lr": 0.1},
        {"optimizer": "muon", "lr": 0.01},
        {"optimizer": "adamw", "lr": 0.01},
        {"schedule": "one_cycle"},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
@pytest.mark.parametrize("strategy", ["derpp", "ewc", "lwf"])
def test_every_recipe_learns_a_stream(
    bench: Bench, tmp_path: Path, model: ModelConfig, settings: dict[str, Any], strategy: str
) -> None:
    if settings.get("optimizer") == "muon" and model is MLP:
        model = ModelConfig("mlp", {"hidden": 16, "depth": 2})
    config = bench.stream(strategy, "task_il", model=model, epochs=4, fisher_images=20, **settings)
    done = checked(config, bench, tmp_path)
    assert done.metrics["continual/task_il/learning_accuracy"] > 0.6
