"""A trial's configuration from a point of an arm's space."""

from __future__ import annotations

import dataclasses

from orchestrator.study.regimes import regimes
from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import ArmSpec, ProtocolSpec
from workloads.catalogue import Term, Value
from workloads.contract import TrainingConfig
from workloads.protocol_config import LongTailedConfig

from .simulation import PROTOCOLS
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


def test_an_arm_sets_its_rate_over_the_training_of_a_regime_too() -> None:
    own = TrainingConfig(epochs=3, lr=0.7, momentum=0.5)
    tail = ProtocolSpec("long_tailed", ("plain", "drw"), LongTailedConfig(factor=10.0), training=own)
    spec = dataclasses.replace(STUDY, protocols={"mine": tail})
    regime = regimes(spec)["mine/drw"]
    hem = trial_config(spec, "hem", {"lr": 0.05, "batch_size": 64}, 3, "confirm", "abc", regime)
    assert hem.training == dataclasses.replace(own, lr=0.05, batch_size=64)
    assert (hem.protocol, hem.continual) == ("long_tailed", None)
    assert hem.long_tailed == LongTailedConfig("drw", factor=10.0)
    free = trial_config(spec, "logitnorm", {"tau": 0.5}, 3, "confirm", "abc", regime)
    assert free.training == own
    assert free.key != trial_config(spec, "logitnorm", {"tau": 0.5}, 3, "confirm", "abc").key


def test_a_standard_trial_of_a_study_of_regimes_is_that_of_a_standard_study() -> None:
    spec = dataclasses.replace(STUDY, protocols=PROTOCOLS)
    standard = regimes(spec)["standard"]
    keys = {
        trial_config(STUDY, "logitnorm", {"tau": 0.5}, 3, "confirm", "abc").key,
        trial_config(spec, "logitnorm", {"tau": 0.5}, 3, "confirm", "abc").key,
        trial_config(spec, "logitnorm", {"tau": 0.5}, 3, "confirm", "abc", standard).key,
    }
    assert len(keys) == 1
