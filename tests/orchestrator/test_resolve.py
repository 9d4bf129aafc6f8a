"""A trial's configuration from a point of an arm's space."""

from __future__ import annotations

import dataclasses

from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import ArmSpec
from workloads.catalogue import Term, Value
from workloads.contract import TrainingConfig

from .test_dump import SPEC

ARMS = {
    "hem": ArmSpec(
        "hem",
        "hem",
        {
            "mu.scale": Term("log_uniform", (200.0, 20000.0)),
            "threshold": Term("fixed", ("batch",)),
            "lr": Term("uniform", (0.01, 0.1)),
            "batch_size": Term("choice", (32, 64)),
        },
    ),
    "logitnorm": ArmSpec("logitnorm", "logitnorm", {"tau": Term("uniform", (0.1, 1.0))}),
}
STUDY = dataclasses.replace(SPEC, arms=ARMS, training=TrainingConfig(epochs=7, lr=0.3, weight_decay=0.01))


def test_flat_parameters_are_split_into_the_loss_and_the_training() -> None:
    params = {"mu.scale": 2000.0, "lr": 0.05, "batch_size": 64}
    config = trial_config(STUDY, "hem", params, seed=3, stage="search", data_hash="abc")
    assert config.loss_params == {"mu": {"scale": 2000.0}, "threshold": "batch"}
    assert config.training == dataclasses.replace(STUDY.training, lr=0.05, batch_size=64)
    assert (config.arm, config.loss, config.seed, config.stage) == ("hem", "hem", 3, "search")
    assert (config.protocol, config.data_hash, config.data) == ("standard", "abc", STUDY.data)


def test_an_arm_without_a_learning_rate_trains_with_the_studys_and_not_the_losss() -> None:
    config = trial_config(STUDY, "logitnorm", {"tau": 0.5}, seed=0, stage="confirm", data_hash="abc")
    assert config.training.lr == 0.3
    assert config.loss_params == {"tau": 0.5}


def test_fixed_terms_count_whether_they_are_among_the_parameters_or_not() -> None:
    point: dict[str, Value] = {"mu.scale": 500.0, "lr": 0.05, "batch_size": 32}
    keys = {
        trial_config(STUDY, "hem", p, seed=0, stage="search", data_hash="abc").key
        for p in (point, {**point, "threshold": "batch"}, {"threshold": "batch", **point})
    }
    assert len(keys) == 1
