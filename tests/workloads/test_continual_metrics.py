"""Continual-learning metrics: by hand, and against the bookkeeping of Avalanche and of Mammoth."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from workloads.evaluation.continual import continual_metrics

Array = npt.NDArray[Any]
NAN = float("nan")

R4 = np.array(
    [
        [0.90, NAN, NAN, NAN],
        [0.95, 0.97, NAN, NAN],
        [0.85, 0.80, 0.70, NAN],
        [0.60, 0.55, 0.75, 0.96],
    ]
)
"""Task 0 is best after task 1, task 2 after the last one: the three definitions of forgetting differ."""


class AvalancheForgetting:
    """Its stream metric, fed one evaluation after the other as its plugin is."""

    def __init__(self) -> None:
        self.initial: dict[int, float] = {}
        self.last: dict[int, float] = {}

    def evaluate(self, trained: int, accuracies: dict[int, float]) -> float:
        self.last = {}
        for experience, accuracy in accuracies.items():
            (self.initial if experience == trained else self.last)[experience] = accuracy
        both = self.initial.keys() & self.last.keys()
        return sum(self.initial[k] - self.last[k] for k in both) / len(both) if both else 0.0


def _mammoth_forgetting(results: list[list[float]]) -> float:
    """Rows grow with the tasks seen, or by one more where forward transfer is measured."""
    tasks = len(results)
    padded = [row + [0.0] * (tasks - len(row)) for row in results]
    highest = [max(row[j] for row in padded) for j in range(tasks)]
    return sum(highest[j] - results[-1][j] for j in range(tasks - 1)) / (tasks - 1)


def _matrix(tasks: int, seed: int, ahead: int) -> Array:
    """Random accuracies, measured as far as ``ahead`` tasks above the diagonal."""
    R = np.random.default_rng(seed).random((tasks, tasks))
    R[np.triu_indices(tasks, ahead + 1)] = NAN
    return R


def test_a_hand_computed_example() -> None:
    metrics = continual_metrics(R4)
    # Sums of a dozen decimals.
    assert metrics == pytest.approx(
        {
            "accuracy": (0.60 + 0.55 + 0.75 + 0.96) / 4,
            "average_incremental_accuracy": (0.9 + 1.92 / 2 + 2.35 / 3 + 2.86 / 4) / 4,
            "learning_accuracy": (0.90 + 0.97 + 0.70 + 0.96) / 4,
            "bwt": (-0.30 - 0.42 + 0.05) / 3,
            "forgetting": (0.35 + 0.42 - 0.05) / 3,
            "forgetting_avalanche": (0.30 + 0.42 - 0.05) / 3,
            "forgetting_mammoth": (0.35 + 0.42 + 0.00) / 3,
        },
        abs=1e-14,
    )
    assert metrics["forgetting"] == pytest.approx(0.24, abs=1e-14)
    assert metrics["forgetting_avalanche"] == pytest.approx(0.223333, abs=1e-6)
    assert metrics["forgetting_mammoth"] == pytest.approx(0.256667, abs=1e-6)


@pytest.mark.parametrize("ahead", [0, 1, 8])
@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_forgetting_and_bwt_agree_with_the_bookkeeping_of_avalanche(tasks: int, ahead: int) -> None:
    for seed in range(20):
        R = _matrix(tasks, seed, ahead)
        plugin = AvalancheForgetting()
        for trained in range(tasks):
            # Evaluated before the training too, as with eval_every: the first value is overwritten.
            plugin.evaluate(trained, {trained: 0.123})
            forgetting = plugin.evaluate(trained, {j: a for j, a in enumerate(R[trained]) if not np.isnan(a)})
        metrics = continual_metrics(R)
        # Means of at most seven differences.
        assert metrics["forgetting_avalanche"] == pytest.approx(forgetting, abs=1e-14)
        assert metrics["bwt"] == pytest.approx(-forgetting, abs=1e-14)


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("tasks", [2, 3, 8])
def test_forgetting_agrees_with_the_padded_maximum_of_mammoth(tasks: int, ahead: int) -> None:
    for seed in range(20):
        R = _matrix(tasks, seed, ahead)
        rows = [[float(a) for a in row if not np.isnan(a)] for row in R]
        found = continual_metrics(R)["forgetting_mammoth"]
        assert found == pytest.approx(_mammoth_forgetting(rows), abs=1e-14)


def test_forgetting_is_the_fall_from_the_best_earlier_row_measured_above_the_diagonal_too() -> None:
    for seed in range(20):
        R = _matrix(5, seed, 5)
        falls = [max(R[i, j] for i in range(4)) - R[4, j] for j in range(4)]
        assert continual_metrics(R)["forgetting"] == pytest.approx(sum(falls) / 4, abs=1e-14)


def test_a_task_that_got_better_is_forgotten_by_less_than_nothing_except_in_mammoth() -> None:
    metrics = continual_metrics(np.array([[0.5, NAN], [0.75, 1.0]]))
    assert metrics["forgetting"] == metrics["forgetting_avalanche"] == -0.25
    assert metrics["bwt"] == 0.25
    assert metrics["forgetting_mammoth"] == 0.0


def test_forward_transfer_is_the_gain_over_the_untrained_model_before_a_task_begins() -> None:
    R = np.array([[0.9, 0.4, 0.0], [0.8, 0.9, 0.7], [0.7, 0.8, 0.9]])
    # (.4 - .1) and (.7 - .2); the baseline of task 0 has no part in it.
    for baseline in ([0.3, 0.1, 0.2], np.array([NAN, 0.1, 0.2])):
        assert continual_metrics(R, baseline)["fwt"] == pytest.approx(0.4, abs=1e-14)


def test_forward_transfer_is_absent_where_a_part_of_it_was_not_measured() -> None:
    R = np.array([[0.9, 0.4, NAN], [0.8, 0.9, NAN], [0.7, 0.8, 0.9]])
    assert "fwt" not in continual_metrics(R, [0.1, 0.1, 0.1])
    R[1, 2] = 0.7
    assert "fwt" in continual_metrics(R, [0.1, 0.1, 0.1])
    assert "fwt" not in continual_metrics(R, [0.1, 0.1, NAN])
    assert "fwt" not in continual_metrics(R)
    assert "fwt" not in continual_metrics(R4, [0.1] * 4)


def test_what_was_not_measured_below_the_diagonal_is_in_no_maximum_and_leaves_no_incremental_mean() -> None:
    R = R4.copy()
    R[1, 0] = NAN
    metrics = continual_metrics(R)
    assert "average_incremental_accuracy" not in metrics
    assert metrics["forgetting"] == pytest.approx((0.30 + 0.42 - 0.05) / 3, abs=1e-14)


def test_the_incremental_mean_weighs_steps_alike_and_knows_nothing_above_the_diagonal() -> None:
    R = np.array([[1.0, 0.9], [0.2, 0.4]])
    assert continual_metrics(R)["average_incremental_accuracy"] == pytest.approx((1.0 + 0.3) / 2, abs=1e-15)


def test_one_task_is_neither_forgotten_nor_transferred() -> None:
    metrics = continual_metrics(np.array([[0.8]]), [0.1])
    assert metrics == {"accuracy": 0.8, "average_incremental_accuracy": 0.8, "learning_accuracy": 0.8}


def test_a_joint_run_has_an_accuracy_and_nothing_else() -> None:
    metrics = continual_metrics(np.array([[0.25, 0.5, 0.75]]), [0.1, 0.1, 0.1])
    assert metrics == {"accuracy": 0.5}


def test_no_value_is_ever_nan() -> None:
    for ahead in range(4):
        metrics = continual_metrics(_matrix(4, ahead, ahead), [0.1, NAN, 0.1, 0.1])
        assert not np.isnan(list(metrics.values())).any()


@pytest.mark.parametrize(
    ("R", "baseline", "message"),
    [
        (np.zeros((2, 3)), None, r"shape \[tasks, tasks\].*got \[2, 3\]"),
        (np.zeros((3, 1)), None, r"got \[3, 1\]"),
        (np.zeros(3), None, r"got \[3\]"),
        (np.zeros((0, 0)), None, r"got \[0, 0\]"),
        (np.array([[0.5, NAN], [NAN, 0.5]]), None, "NaN in the last row"),
        (np.array([[0.5, NAN]]), None, "NaN in the last row"),
        (np.array([[NAN, 0.5], [0.5, 0.5]]), None, "NaN on the diagonal"),
        (np.array([[1.5, NAN], [0.5, 0.5]]), None, r"accuracies must be in 0\.\.1; got 1\.5"),
        (np.array([[0.5, -0.5], [0.5, 0.5]]), None, r"must be in 0\.\.1; got -0\.5"),
        (np.array([[0.5, np.inf], [0.5, 0.5]]), None, r"must be in 0\.\.1; got inf"),
        (np.full((2, 2), 0.5), [0.5], r"the baseline must have shape \[2\].*got \[1\]"),
        (np.full((2, 2), 0.5), [0.5, 50.0], r"the baseline's accuracies must be in 0\.\.1; got 50"),
    ],
)
def test_input_that_makes_no_sense_is_refused(R: Array, baseline: list[float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        continual_metrics(R, baseline)
