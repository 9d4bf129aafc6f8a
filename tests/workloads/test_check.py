"""What can be said of a trial before it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from workloads.check import problem
from workloads.contract import (
    AugmentationConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    TrainingConfig,
    TrialConfig,
)
from workloads.protocols.fitness import presented

FACTS = {
    "image_shape": [1, 8, 8],
    "num_classes": 6,
    "num_train": 400,
    "train_counts": [70, 70, 70, 70, 60, 60],
}


def trial(loss: str = "cross_entropy", model: str = "small_cnn_8x8", **settings: Any) -> TrialConfig:
    params = settings.pop("loss_params", {})
    return TrialConfig(
        arm="one",
        stage="search",
        protocol="standard",
        seed=0,
        loss=loss,
        loss_params=params,
        data=DataConfig("digits"),
        data_hash="0" * 16,
        model=ModelConfig(model),
        training=TrainingConfig(**settings),
        noise=NoiseConfig(),
        evaluation=EvaluationConfig(),
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "arcface", "godin", "t2fnorm", "hem_plus", "a_softmax"])
def test_what_can_be_built_is_no_problem(loss: str) -> None:
    assert problem(trial(loss), FACTS) is None


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (trial(model="vit_tiny"), "vit_tiny: patch must divide the image's 8x7; got 2"),
        (trial("meln", loss_params={"temperature": "multiply"}), "T must be in 1..100"),
        (trial("nobody.wrote:This"), "cannot be imported"),
        (trial(augmentation=AugmentationConfig(crop=9, padding="reflect")), "crop must be below"),
        (trial("fractions:Fraction"), "must be a torch.nn.Module"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.loss,
)
def test_what_cannot_be_built_is_said_in_a_sentence(config: TrialConfig, says: str) -> None:
    found = problem(config, {**FACTS, "image_shape": [1, 8, 7]})
    assert found is not None
    assert found.whose == ("settings" if "crop" in says else "arm")
    assert says in found.reason


def test_the_command_answers_for_every_configuration() -> None:
    configs = [trial(), trial("nobody.wrote:This")]
    request = json.dumps({"configs": [c.to_dict() for c in configs], "facts": FACTS})
    words = [sys.executable, "-m", "workloads.check"]
    done = subprocess.run(words, input=request, capture_output=True, text=True, check=True)
    first, second = json.loads(done.stdout)
    assert first is None
    assert second["whose"] == "arm"
    assert "loss 'nobody.wrote:This' cannot be imported" in second["reason"]


def test_counts_that_nobody_asked_for_are_taken_to_be_equal() -> None:
    presentation = presented(trial(), {**FACTS, "train_counts": []})
    assert presentation.context.class_counts == (66,) * 6
    assert presented(trial(), FACTS).context.class_counts == (70, 70, 70, 70, 60, 60)
