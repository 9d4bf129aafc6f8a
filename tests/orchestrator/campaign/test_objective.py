"""The objective orders networks as the study promises."""

from __future__ import annotations

import pytest

from orchestrator.campaign.objective import Objective, meets_guard
from orchestrator.study.spec import GuardSpec
from tests.orchestrator.simulation import study

OBJECTIVE = Objective.of(study(), num_classes=6)
"""100 noise images, 2 search seeds: FPR95 means differ by at least .005."""


def value(fpr: float, auroc: float = 1.0, accuracy: float = 0.9, threshold: float = 0.8) -> float:
    metrics = {"noise/fpr95": fpr, "noise/auroc": auroc, "validation/accuracy": accuracy}
    return OBJECTIVE.value(metrics, threshold)


def test_a_lower_fpr95_is_better_whatever_the_auroc() -> None:
    assert value(0.10, auroc=0.0) < value(0.105, auroc=1.0) or value(0.10, auroc=0.01) < value(0.105)


def test_auroc_breaks_ties() -> None:
    assert value(0.0, auroc=0.99) < value(0.0, auroc=0.98)


def test_the_tie_break_never_outweighs_the_smallest_step_of_a_mean_over_seeds() -> None:
    quantum = 1 / (100 * 2)
    assert pytest.approx(quantum) == OBJECTIVE.quantum
    assert value(0.0, auroc=0.001) < quantum


def test_a_network_below_the_guard_is_worse_than_any_above_it() -> None:
    assert value(1.0, auroc=0.0, accuracy=0.8) <= 1.0 + OBJECTIVE.quantum < 1.01
    assert value(0.0, accuracy=0.7) > value(1.0, auroc=0.5, accuracy=0.8)


def test_below_the_guard_more_accuracy_is_better() -> None:
    assert value(0.0, accuracy=0.3) > value(0.9, accuracy=0.4)


def test_the_guard_is_midway_between_chance_and_one_until_a_configuration_is_complete() -> None:
    assert OBJECTIVE.threshold(None) == pytest.approx((1 + 1 / 6) / 2)


def test_the_guard_follows_the_best_accuracy_and_a_given_minimum() -> None:
    assert OBJECTIVE.threshold(0.97) == pytest.approx(0.92)
    strict = Objective(GuardSpec(max_drop=0.05, min_accuracy=0.95), 2, OBJECTIVE.quantum, 1 / 6)
    assert strict.threshold(0.97) == pytest.approx(0.95)


def test_one_seed_below_the_guard_makes_a_configuration_worse_than_any_without() -> None:
    worst_with_all_above = value(1.0, auroc=0.0)
    best_with_one_below = (value(0.0) + value(0.0, accuracy=0.79)) / 2
    assert best_with_one_below > worst_with_all_above
    assert meets_guard(worst_with_all_above, 2)
    assert not meets_guard(best_with_one_below, 2)
