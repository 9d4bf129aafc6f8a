"""A study written out reads back as the same study."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from orchestrator.study.completion import completed
from orchestrator.study.dump import to_yaml
from orchestrator.study.loader import load_study, parse_study
from orchestrator.study.spec import ArmSpec, ConfirmSpec, ExecutionSpec, StudySpec, TrackingSpec
from workloads.catalogue import Term, Value
from workloads.contract import DataConfig, ModelConfig, TrainingConfig

STUDIES = Path(__file__).resolve().parents[2] / "studies"
SPEC = StudySpec(
    name="small",
    data=DataConfig("digits", id_classes=(0, 1, 2), near_ood=("held_out",), far_ood=("blobs",)),
    model=ModelConfig("small_cnn_8x8"),
    arms={"cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {"lr": Term("fixed", (0.1,))})},
)


def back(spec: StudySpec) -> StudySpec:
    return parse_study(to_yaml(spec), "dumped.yaml")


@pytest.mark.parametrize("name", ["quickstart", "logitnorm_tau", "all_losses_digits"])
def test_a_loaded_study_survives_the_round_trip(name: str) -> None:
    spec = load_study(STUDIES / f"{name}.yaml")
    assert back(spec) == spec


def test_a_study_made_in_python_comes_back_completed() -> None:
    assert back(SPEC) == completed(SPEC)
    assert completed(completed(SPEC)) == completed(SPEC)
    assert completed(SPEC).baseline == "cross_entropy"


def test_a_projector_survives_the_round_trip() -> None:
    projected = dataclasses.replace(SPEC, model=ModelConfig("small_cnn_8x8", {}, 32))
    assert back(projected).model == ModelConfig("small_cnn_8x8", {"width": 16}, 32)


def test_an_arm_without_terms_comes_back_fixed_and_not_with_the_recommended_ranges() -> None:
    bare = dataclasses.replace(SPEC, arms={"hem": ArmSpec("hem", "hem", {})})
    assert back(bare).arms["hem"].space == {"lr": Term("fixed", (SPEC.training.lr,))}


@pytest.mark.parametrize(
    "question",
    [
        "no",
        "1e-3",
        "12",
        "a: b # c",
        "two\nlines\n",
        "'quoted' \"twice\"",
        " spaces ",
        "τ ≥ 0.04?",
        "null",
        "x" * 300,
    ],
)
def test_any_text_survives_the_round_trip(question: str) -> None:
    assert back(dataclasses.replace(SPEC, question=question)).question == question


def test_nothing_survives_as_nothing_and_a_set_value_as_itself() -> None:
    spec = dataclasses.replace(
        SPEC,
        tracking=TrackingSpec(uri="http://localhost:5000", experiment="2026"),
        execution=ExecutionSpec(max_concurrent=3),
    )
    assert (back(spec).tracking, back(spec).execution) == (spec.tracking, spec.execution)
    assert back(SPEC).tracking == TrackingSpec(None, None)


def _random_studies(count: int) -> Iterator[StudySpec]:
    draw = random.Random(0)

    def number() -> float:
        return draw.choice([draw.uniform(0.001, 1), 10.0 ** draw.randint(-12, 15), float(draw.randint(1, 9))])

    def term() -> Term:
        kind = draw.choice(["fixed", "grid", "choice", "uniform", "log_uniform"])
        if kind == "fixed":
            return Term("fixed", (number(),))
        low, high = sorted({number(), number() + 20.0})
        return Term(kind, (low, high))  # type: ignore[arg-type]

    words: list[Value] = [
        "yes",
        "1e-5",
        "012",
        "null",
        "plain",
        "~",
        "1.5",
        True,
        False,
        3,
        2.5,
        "1:30",
        "0x1F",
    ]
    for _ in range(count):
        own = {
            "p": term(),
            "q.expression": term(),
            "r": Term("choice", tuple(draw.sample(words, 4))),
            "s": Term("fixed", (draw.choice(words),)),
        }
        yield dataclasses.replace(
            SPEC,
            arms={
                "yes": ArmSpec("yes", "hem", {"mu.scale": term(), "lr": term(), "weight_decay": term()}),
                "123": ArmSpec("123", "own.losses:Margin", own),
            },
            training=TrainingConfig(epochs=draw.randint(1, 99), lr=number(), clip_grad_norm=number()),
            confirm=ConfirmSpec(tuple(draw.sample(range(1, 2**31 - 1), 5))),
        )


def test_random_studies_survive_the_round_trip_to_the_last_digit() -> None:
    for spec in _random_studies(200):
        assert back(spec) == completed(spec)


def test_small_and_large_numbers_are_written_so_that_yaml_reads_numbers() -> None:
    for lr in (1e-05, 1.0, 123456789.125, 1e22, 5e-324):
        document = yaml.safe_load(to_yaml(dataclasses.replace(SPEC, training=TrainingConfig(lr=lr))))
        assert document["training"]["lr"] == lr
        assert type(document["training"]["lr"]) is float


def test_every_field_of_the_study_is_written() -> None:
    document = yaml.safe_load(to_yaml(SPEC))
    fields = {f.name for f in dataclasses.fields(StudySpec)} - {"name", "evaluation"} | {"study", "evaluate"}
    assert set(document) == fields
    assert set(document["training"]) == {f.name for f in dataclasses.fields(TrainingConfig)}
    assert document["search"]["pruner"] == {
        "name": "median",
        "warmup_epochs": 0,
        "n_startup_trials": 5,
        "interval_steps": 1,
        "n_min_trials": 1,
    }
