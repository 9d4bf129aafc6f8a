"""Rejection metrics and the open-set classification rate against hand values and plain loops."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.workloads.score_cases import finite_scores
from workloads.evaluation.ood import ccr_at_fpr, noise_metrics, oscr, rejection_metrics

Array = npt.NDArray[Any]

ID_S = np.array([0.99, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.55, 0.5, 0.4, 0.3, 0.1])
OOD_S = np.array([0.88, 0.65, 0.45, 0.35, 0.25, 0.2, 0.15, 0.05])


def _cases() -> dict[str, tuple[Array, Array]]:
    infinite = (np.array([np.inf, np.inf, 1.0]), np.array([np.inf, -np.inf, 0.0]))
    return {**finite_scores(), "infinite": infinite}


def test_the_two_conventions_of_fpr95_differ_on_the_worked_example() -> None:
    metrics = rejection_metrics(ID_S, OOD_S)
    assert metrics["fpr95_id_positive"] == 0.875
    assert metrics["fpr95_ood_positive"] == 0.75


def test_auroc_of_the_worked_example_is_the_count_of_won_pairs() -> None:
    won = sum(float(known > unknown) for known in ID_S for unknown in OOD_S)
    assert rejection_metrics(ID_S, OOD_S)["auroc"] == won / 96


@pytest.mark.parametrize("count", [20, 40, 60, 100, 140, 1000, 10000])
def test_exactly_95_percent_accepted_is_enough(count: int) -> None:
    # The OOD image lies between the ID images ranked at exactly 95 % and just below.
    known = np.arange(count, 0, -1.0)
    cut = 19 * count // 20
    assert rejection_metrics(known, np.array([known[cut - 1] - 0.5]))["fpr95_id_positive"] == 0.0
    assert rejection_metrics(known, np.array([known[cut - 1] + 0.5]))["fpr95_id_positive"] == 1.0


def test_a_tie_at_the_threshold_is_accepted_whole() -> None:
    # 1.0 accepts only half of the ID images, so the threshold is 0.0, and takes every OOD image with it.
    assert rejection_metrics(np.array([1.0, 0.0]), np.array([0.0, 0.0, 0.0]))["fpr95_id_positive"] == 1.0


def test_tied_scores_count_one_half_in_auroc() -> None:
    assert rejection_metrics(np.array([1.0, 1.0]), np.array([1.0, 0.0]))["auroc"] == 0.75


def test_the_tied_fraction_counts_every_score_that_another_equals() -> None:
    metrics = rejection_metrics(np.array([3.0, 2.0, 2.0, 1.0]), np.array([1.0, 0.0, -1.0, -2.0]))
    assert metrics["tied_fraction"] == 4 / 8
    assert rejection_metrics(ID_S, OOD_S)["tied_fraction"] == 0.0


def test_infinite_scores_are_ranked_and_tie_with_each_other() -> None:
    metrics = rejection_metrics(*_cases()["infinite"])
    # Pairs won: 2 * (½ + 1 + 1) for the infinite ones, 0 + 1 + 1 for the 1.0; of 9.
    assert metrics["auroc"] == pytest.approx(7 / 9, abs=1e-15)
    assert metrics["tied_fraction"] == 3 / 6


def test_any_increasing_map_of_the_scores_changes_nothing() -> None:
    known, unknown = _cases()["random"]
    assert rejection_metrics(np.exp(known), np.exp(unknown)) == rejection_metrics(known, unknown)


def test_the_order_of_images_changes_nothing() -> None:
    known, unknown = _cases()["heavily tied"]
    assert rejection_metrics(known[::-1], np.roll(unknown, 7)) == rejection_metrics(known, unknown)


def test_swapping_and_negating_the_sets_swaps_the_conventions() -> None:
    known, unknown = _cases()["saturated"]
    there, back = rejection_metrics(known, unknown), rejection_metrics(-unknown, -known)
    assert back["fpr95_id_positive"] == there["fpr95_ood_positive"]
    assert back["aupr_in"] == pytest.approx(there["aupr_out"], abs=1e-15)
    assert back["auroc"] == pytest.approx(there["auroc"], abs=1e-15)
    assert back["id_prevalence"] == pytest.approx(1 - there["id_prevalence"], abs=1e-15)


@pytest.mark.parametrize(
    ("known", "unknown", "message"),
    [([], [1.0], "0 ID"), ([1.0], [], "0 OOD"), ([np.nan], [1.0], "NaN"), ([1.0], [np.nan], "NaN")],
)
def test_empty_sets_and_nan_are_refused(known: list[float], unknown: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rejection_metrics(np.array(known), np.array(unknown))


def test_noise_metrics_are_means_over_the_noise_sets() -> None:
    # Against OOD_S: .875 and 73/96 (above); against scores below every ID score: 0 and 1.
    metrics = noise_metrics(ID_S, {"noise_0.25": OOD_S, "noise_0.5": np.array([-1.0, -2.0])})
    assert metrics == {
        "noise/fpr95": pytest.approx(0.4375, abs=1e-15),
        "noise/auroc": pytest.approx((73 / 96 + 1) / 2, abs=1e-15),
    }


def test_noise_metrics_without_a_noise_set_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one noise set"):
        noise_metrics(ID_S, {})


def _accept(known: Array, correct: Array, unknown: Array) -> list[tuple[Fraction, Fraction]]:
    """(FPR, CCR) of every threshold from above the highest score to the lowest, one count after another."""
    points = [(Fraction(0), Fraction(0))]
    for t in sorted({*known.tolist(), *unknown.tolist()}, reverse=True):
        fpr = Fraction(sum(o >= t for o in unknown.tolist()), len(unknown))
        right = sum(c and s >= t for s, c in zip(known.tolist(), correct.tolist(), strict=True))
        points.append((fpr, Fraction(right, len(known))))
    return points


def _open_set(case: str) -> tuple[Array, Array, Array]:
    known, unknown = _cases()[case]
    known, unknown = known[:120], unknown[:70]
    return known, np.random.default_rng(4).random(len(known)) < 0.7, unknown


@pytest.mark.parametrize("case", sorted(_cases()))
def test_oscr_is_the_area_under_its_curve_joined_by_straight_lines(case: str) -> None:
    known, correct, unknown = _open_set(case)
    points = _accept(known, correct, unknown)
    area = sum(
        ((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points)),
        Fraction(0),
    )
    # Both are one quotient of whole numbers, so they agree to the bit.
    assert oscr(known, correct, unknown) == float(area)


@pytest.mark.parametrize("fpr", [0.0, 0.01, 0.05, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("case", sorted(_cases()))
def test_ccr_at_fpr_is_the_best_of_all_thresholds_that_keep_the_fpr(case: str, fpr: float) -> None:
    known, correct, unknown = _open_set(case)
    best = max(y for x, y in _accept(known, correct, unknown) if x <= Fraction(str(fpr)))
    assert ccr_at_fpr(known, correct, unknown, fpr) == float(best)


def test_oscr_of_the_worked_example() -> None:
    # Pairs with OOD 2 and 1: 3 wins both; 2 wins half and one; the 4 is misclassified; 0 wins none.
    known, correct = np.array([4.0, 3.0, 2.0, 0.0]), np.array([False, True, True, True])
    assert oscr(known, correct, np.array([2.0, 1.0])) == (2 + 1.5) / 8


def test_oscr_is_auroc_where_all_are_right_and_zero_where_none_is() -> None:
    for known, unknown in _cases().values():
        everyone = np.ones(len(known), dtype=bool)
        assert oscr(known, everyone, unknown) == rejection_metrics(known, unknown)["auroc"]
        assert oscr(known, ~everyone, unknown) == 0.0


def test_oscr_is_the_accuracy_of_a_perfect_score_and_half_of_it_for_an_empty_one() -> None:
    correct = np.arange(20) < 15
    assert oscr(np.arange(20.0) + 1, correct, np.zeros(7)) == 0.75
    assert oscr(np.zeros(20), correct, np.zeros(7)) == 0.375


def test_ccr_at_fpr_accepts_no_tie_that_breaks_the_fpr() -> None:
    # The two OOD images at 5 come together, so at most 25 % means none, and the ID image at 5 is lost.
    known, correct = np.array([6.0, 5.0, 4.0]), np.array([True, True, True])
    unknown = np.array([5.0, 5.0, 1.0, 0.0])
    assert ccr_at_fpr(known, correct, unknown, 0.25) == 1 / 3
    assert ccr_at_fpr(known, correct, unknown, 0.5) == 1.0
    assert ccr_at_fpr(known, correct, np.array([6.0]), 0.05) == 0.0


@pytest.mark.parametrize("percent", range(101))
def test_ccr_at_fpr_allows_exactly_the_share_as_it_is_written(percent: int) -> None:
    # ID image k lies just above OOD image k + 1, so the CCR counts the OOD images that may be accepted.
    unknown = np.arange(100, 0, -1.0)
    known = unknown - 0.5
    assert ccr_at_fpr(known, np.ones(100, dtype=bool), unknown, percent / 100) == percent / 100


@pytest.mark.parametrize("fpr", [-0.1, 1.5, float("nan")])
def test_a_false_positive_rate_that_is_no_share_is_refused(fpr: float) -> None:
    with pytest.raises(ValueError, match=r"must be in 0\.\.1; got"):
        ccr_at_fpr(ID_S, ID_S > 0, OOD_S, fpr)


@pytest.mark.parametrize(
    ("known", "correct", "message"),
    [
        (np.zeros(2), np.array([1, 0]), r"2 booleans.*got int64 \[2\]"),
        (np.zeros(2), np.array([True]), r"2 booleans.*got bool \[1\]"),
        (np.array([np.nan]), np.array([True]), "NaN"),
        (np.zeros(0), np.zeros(0, dtype=bool), "0 ID"),
    ],
)
def test_open_set_input_that_does_not_fit_is_refused(known: Array, correct: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        oscr(known, correct, OOD_S)
    with pytest.raises(ValueError, match=message):
        ccr_at_fpr(known, correct, OOD_S, 0.05)
