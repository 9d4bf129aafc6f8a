"""What changed between two versions of a study."""

from __future__ import annotations

import dataclasses

from orchestrator.study.changes import changes
from orchestrator.study.completion import completed
from orchestrator.study.spec import (
    ArmSpec,
    ConfirmSpec,
    ExecutionSpec,
    PrunerSpec,
    ReportSpec,
    SearchSpec,
    StudySpec,
    TrackingSpec,
)
from workloads.catalogue import Term
from workloads.contract import TrainingConfig

from .test_dump import SPEC

TAU = ArmSpec("logitnorm", "logitnorm", {"tau": Term("log_uniform", (0.02, 1.0))})
OLD = dataclasses.replace(SPEC, arms={**SPEC.arms, "logitnorm": TAU}, search=SearchSpec(trials=12))


def _with(**fields: object) -> StudySpec:
    return dataclasses.replace(OLD, **fields)  # type: ignore[arg-type]


def test_equal_studies_have_no_changes_whether_completed_or_not() -> None:
    assert changes(OLD, OLD) == []
    assert changes(OLD, completed(OLD)) == []


def test_a_changed_value_is_given_with_its_path_and_both_values() -> None:
    assert changes(OLD, _with(search=SearchSpec(trials=16))) == ["search.trials: 12 -> 16"]
    assert changes(OLD, _with(confirm=ConfirmSpec((1, 2)))) == [
        "confirm.seeds: [100, 101, 102, 103, 104] -> [1, 2]"
    ]


def test_a_changed_term_is_given_as_the_file_writes_it() -> None:
    wider = dataclasses.replace(TAU, space={"tau": Term("log_uniform", (0.01, 1.0))})
    assert changes(OLD, _with(arms={**SPEC.arms, "logitnorm": wider})) == [
        "arms.logitnorm.tau: {log_uniform: [0.02, 1.0]} -> {log_uniform: [0.01, 1.0]}"
    ]


def test_an_arm_that_came_or_went_is_named() -> None:
    assert "arms.logitnorm.tau: not set -> {log_uniform: [0.02, 1.0]}" in changes(SPEC, OLD)
    assert changes(OLD, _with(arms={"logitnorm": TAU}, baseline="logitnorm")) == [
        "arms.cross_entropy.lr: 0.1 -> not set",
        "baseline: 'cross_entropy' -> 'logitnorm'",
    ]


def test_another_pruner_is_seen_with_all_its_parameters() -> None:
    found = changes(OLD, _with(search=SearchSpec(trials=12, pruner=PrunerSpec("none"))))
    assert "search.pruner.name: 'median' -> 'none'" in found
    assert "search.pruner.n_startup_trials: 5 -> not set" in found


def test_values_that_differ_in_the_last_digit_are_told_apart() -> None:
    (line,) = changes(OLD, _with(training=TrainingConfig(lr=0.1 + 2e-17)))
    assert line == f"training.lr: 0.1 -> {0.1 + 2e-17!r}"


def test_what_cannot_change_a_result_may_change() -> None:
    assert (
        changes(
            OLD,
            _with(
                question="another",
                execution=ExecutionSpec(max_concurrent=7),
                tracking=TrackingSpec(uri="http://localhost:5000"),
                report=ReportSpec(confidence=0.9),
            ),
        )
        == []
    )
