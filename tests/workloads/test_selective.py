"""Selective classification against the mean over all orders, exact fractions and plain loops."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise, permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from workloads.evaluation.selective import selective_metrics

Array = npt.NDArray[Any]


def _aurc(correct: tuple[bool, ...]) -> Fraction:
    """Of images in the order they are accepted: the mean of the error rates of the first 1, 2, ... n."""
    rates = [Fraction(correct[:k].count(False), k) for k in range(1, len(correct) + 1)]
    return sum(rates, Fraction(0)) / len(correct)


def _over_all_orders(scores: list[float], correct: list[bool]) -> tuple[Fraction, Fraction]:
    """Mean AURC over every order that the scores allow, and the smallest AURC over every order at all."""
    allowed, any_order = [], []
    for order in permutations(range(len(scores))):
        area = _aurc(tuple(correct[i] for i in order))
        any_order.append(area)
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            allowed.append(area)
    return sum(allowed, Fraction(0)) / len(allowed), min(any_order)


@pytest.mark.parametrize(
    ("scores", "correct"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5], [True, False, True, True, False]),
        ([0.9, 0.9, 0.9, 0.5, 0.5, 0.1], [True, False, False, True, False, True]),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [False, True, True, False, True, True]),
        ([0.1, 0.7, 0.7, 0.1, 0.7, 0.3], [False, False, False, True, True, True]),
        ([np.inf, np.inf, 0.0, -np.inf, -np.inf], [True, False, True, False, True]),
        ([0.2, 0.2, 0.4], [False, False, False]),
        ([0.2, 0.2, 0.4], [True, True, True]),
        ([0.5], [False]),
    ],
)
def test_aurc_is_the_mean_over_all_orders_that_the_scores_allow(
    scores: list[float], correct: list[bool]
) -> None:
    mean, least = _over_all_orders(scores, correct)
    metrics = selective_metrics(np.array(scores), np.array(correct))
    # At most six terms of 0..1: a few roundings.
    assert metrics["aurc"] == pytest.approx(float(mean), abs=1e-15)
    assert metrics["e_aurc"] == pytest.approx(float(mean - least), abs=1e-15)


def test_the_worked_example() -> None:
    # Accepted in the order right, wrong, right, right: error rates 0, 1/2, 1/3, 1/4; at best 0, 0, 0, 1/4.
    metrics = selective_metrics(np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, True]))
    assert metrics["aurc"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 4, abs=1e-15)
    assert metrics["e_aurc"] == pytest.approx((1 / 2 + 1 / 3) / 4, abs=1e-15)
    # The failure scores below one of three right images; two of the four images are refused to find it.
    assert metrics["failure_auroc"] == 1 / 3
    assert metrics["failure_aupr"] == 1 / 3
    assert metrics["failure_fpr95"] == 2 / 3


def _by_pairs(scores: Array, correct: Array) -> dict[str, float]:
    """Failure detection as the definitions read, with one loop over thresholds and one over pairs."""
    failed, right = scores[~correct], scores[correct]
    won = sum(Fraction(int(f < r) * 2 + int(f == r), 2) for f in failed for r in right)
    precision = Fraction(0)
    fpr95 = None
    for t in np.unique(scores):
        found, refused = int((failed <= t).sum()), int((right <= t).sum())
        precision += Fraction(int((failed == t).sum()) * found, (found + refused) * len(failed))
        if fpr95 is None and Fraction(found, len(failed)) >= Fraction(95, 100):
            fpr95 = refused / len(right)
    assert fpr95 is not None
    return {
        "failure_auroc": float(won / (len(failed) * len(right))),
        "failure_aupr": float(precision),
        "failure_fpr95": fpr95,
    }


@pytest.mark.parametrize("levels", [2, 7, 10**9])
@pytest.mark.parametrize("errors", [1, 20, 60, 199])
def test_failure_detection_agrees_with_loops_over_thresholds_and_pairs(levels: int, errors: int) -> None:
    rng = np.random.default_rng(errors)
    correct = rng.permutation(np.arange(200) >= errors)
    scores = rng.integers(0, levels, 200) + correct * levels / 4
    metrics = selective_metrics(scores, correct)
    # Counts over counts, at most 200 of them added up.
    for name, value in _by_pairs(scores, correct).items():
        assert metrics[name] == pytest.approx(value, abs=1e-14), name


def test_exactly_95_percent_of_the_failures_found_is_enough() -> None:
    # 19 of 20 failures score lowest; the last one scores above every right image.
    scores = np.concatenate([np.arange(19.0), [100.0], np.arange(50.0, 60.0)])
    correct = np.arange(30) >= 20
    assert selective_metrics(scores, correct)["failure_fpr95"] == 0.0
    assert selective_metrics(np.delete(scores, 0), np.delete(correct, 0))["failure_fpr95"] == 1.0


@pytest.mark.parametrize(("right", "aurc"), [(True, 0.0), (False, 1.0)])
def test_without_both_right_and_wrong_images_failure_detection_is_missing(right: bool, aurc: float) -> None:
    metrics = selective_metrics(np.array([0.3, 0.2, 0.2]), np.full(3, right))
    assert metrics == {"aurc": aurc, "e_aurc": 0.0}


def test_the_excess_of_the_best_order_is_exactly_zero_and_never_negative() -> None:
    rng = np.random.default_rng(1)
    for n in range(1, 60):
        correct = rng.random(n) < 0.8
        assert selective_metrics(correct + rng.random(n) / 2, correct)["e_aurc"] == 0.0
        assert selective_metrics(rng.integers(0, 4, n) * 1.0, correct)["e_aurc"] >= 0.0


def test_the_optimum_is_the_finite_sum_and_its_limit_is_the_papers() -> None:
    n, rate = 200_000, 0.1
    correct = np.arange(n) >= n * rate
    metrics = selective_metrics(np.arange(n) * 1.0, correct)
    limit = rate + (1 - rate) * np.log1p(-rate)
    # A Riemann sum of n steps of a function that grows by 0.1 differs from its integral by 0.1 / n at most.
    assert metrics["aurc"] == pytest.approx(limit, abs=0.1 / n)
    # Ten images, one error: 1/100 where the limit says .0052, so it would not do for small sets.
    few = selective_metrics(np.arange(10.0), np.arange(10) >= 1)
    assert few["aurc"] == pytest.approx(0.01, abs=1e-15)


def test_scores_that_say_nothing_leave_the_error_rate() -> None:
    metrics = selective_metrics(np.zeros(8), np.arange(8) >= 2)
    assert metrics["aurc"] == metrics["failure_aupr"] == 0.25
    assert metrics["failure_auroc"] == 0.5
    assert metrics["failure_fpr95"] == 1.0


def test_the_order_of_images_and_any_increasing_map_change_nothing() -> None:
    rng = np.random.default_rng(2)
    scores, correct = rng.integers(0, 9, 300) * 1.0, rng.random(300) < 0.7
    order = rng.permutation(300)
    metrics = selective_metrics(scores, correct)
    assert selective_metrics(scores[order], correct[order]) == metrics
    assert selective_metrics(np.exp(scores), correct) == metrics


def test_scores_are_ranked_in_float64() -> None:
    # Both are 1.0 in float32.
    scores = np.array([1.0 - 1e-12, 1.0 - 2e-12])
    assert selective_metrics(scores, np.array([True, False]))["failure_auroc"] == 1.0


@pytest.mark.parametrize(
    ("scores", "correct", "message"),
    [
        (np.zeros(0), np.zeros(0, dtype=bool), r"one or more; got \[0\]"),
        (np.zeros((2, 1)), np.zeros((2, 1), dtype=bool), r"got \[2, 1\]"),
        (np.zeros(2), np.ones(3, dtype=bool), r"2 booleans.*got bool \[3\]"),
        (np.zeros(2), np.array([0, 1]), r"2 booleans.*got int64 \[2\]"),
        (np.array([0.0, np.nan]), np.array([True, False]), "got NaN"),
    ],
)
def test_input_that_does_not_fit_is_refused(scores: Array, correct: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        selective_metrics(scores, correct)
