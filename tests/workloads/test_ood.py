"""Rejection metrics against hand values and against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from workloads.evaluation.ood import noise_metrics, rejection_metrics

Array = npt.NDArray[Any]

ID_S = np.array([0.99, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.55, 0.5, 0.4, 0.3, 0.1])
OOD_S = np.array([0.88, 0.65, 0.45, 0.35, 0.25, 0.2, 0.15, 0.05])


def _reference(known: Array, unknown: Array) -> dict[str, float]:
    truth = np.concatenate([np.ones(len(known)), np.zeros(len(unknown))])
    scores = np.concatenate([known, unknown])

    def fpr95(labels: Array, ranked: Array) -> float:
        fpr, tpr, _ = roc_curve(labels, ranked, drop_intermediate=False)
        return float(fpr[np.flatnonzero(tpr >= 0.95)[0]])

    return {
        "fpr95": fpr95(truth, scores),
        "fpr95_ood_positive": fpr95(1 - truth, -scores),
        "auroc": float(roc_auc_score(truth, scores)),
        "aupr_in": float(average_precision_score(truth, scores)),
        "aupr_out": float(average_precision_score(1 - truth, -scores)),
        "id_prevalence": float(truth.mean()),
    }


def _cases() -> dict[str, tuple[Array, Array]]:
    rng = np.random.default_rng(3)
    saturated = np.where(rng.random(400) < 0.5, 1.0, rng.random(400))
    return {
        "random": (rng.normal(1, 1, 500), rng.normal(0, 1, 300)),
        "heavily tied": (rng.integers(0, 6, 400) + 1.0, rng.integers(0, 6, 250) + 0.0),
        "saturated": (saturated, np.where(rng.random(200) < 0.1, 1.0, rng.random(200))),
        "all equal": (np.ones(30), np.ones(20)),
        "perfectly separated": (np.arange(10.0) + 100, np.arange(15.0)),
        "perfectly wrong": (np.arange(10.0), np.arange(15.0) + 100),
        "one of each": (np.array([0.5]), np.array([0.4])),
        "infinite": (np.array([np.inf, np.inf, 1.0]), np.array([np.inf, -np.inf, 0.0])),
    }


@pytest.mark.parametrize("case", sorted(set(_cases()) - {"infinite"}))
def test_every_metric_agrees_with_scikit_learn(case: str) -> None:
    known, unknown = _cases()[case]
    metrics = rejection_metrics(known, unknown)
    for name, value in _reference(known, unknown).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name


def test_the_two_conventions_of_fpr95_differ_on_the_worked_example() -> None:
    metrics = rejection_metrics(ID_S, OOD_S)
    assert metrics["fpr95"] == 0.875
    assert metrics["fpr95_ood_positive"] == 0.75


def test_auroc_of_the_worked_example_is_the_count_of_won_pairs() -> None:
    won = sum(float(known > unknown) for known in ID_S for unknown in OOD_S)
    assert rejection_metrics(ID_S, OOD_S)["auroc"] == won / 96


@pytest.mark.parametrize("count", [20, 40, 60, 100, 140, 1000, 10000])
def test_exactly_95_percent_accepted_is_enough(count: int) -> None:
    # The OOD image lies between the ID images ranked at exactly 95 % and just below.
    known = np.arange(count, 0, -1.0)
    cut = 19 * count // 20
    assert rejection_metrics(known, np.array([known[cut - 1] - 0.5]))["fpr95"] == 0.0
    assert rejection_metrics(known, np.array([known[cut - 1] + 0.5]))["fpr95"] == 1.0


def test_a_tie_at_the_threshold_is_accepted_whole() -> None:
    # 1.0 accepts only half of the ID images, so the threshold is 0.0, and takes every OOD image with it.
    assert rejection_metrics(np.array([1.0, 0.0]), np.array([0.0, 0.0, 0.0]))["fpr95"] == 1.0


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
    assert back["fpr95"] == there["fpr95_ood_positive"]
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
