"""Calibration against hand values, and the temperature against scipy's minimiser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from workloads.evaluation.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    at_bound,
    calibration_metrics,
    calibration_notes,
    confidence,
    fit_temperature,
    reliability,
)
from workloads.evaluation.calibration_errors import (
    adaptive_calibration_error,
    bin_totals,
    classwise_calibration_error,
    expected_calibration_error,
    kolmogorov_smirnov_error,
)

Array = npt.NDArray[Any]

CAL_Z = np.array([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 1.0], [1.5, 1.0, 0], [0.2, 0.1, 0], [4.0, 1.0, 0]])
CAL_Y = np.array([0, 1, 0, 1, 0, 0])


@pytest.fixture
def noisy() -> tuple[Array, Array]:
    """Logits whose labels are drawn from their own softmax, then logits blurred: T* is near 1."""
    rng = np.random.default_rng(5)
    logits = rng.normal(size=(2000, 6)) * 2.0
    p = softmax(logits, axis=1).cumsum(axis=1)
    labels = (rng.random((2000, 1)) > p).sum(axis=1).clip(0, 5)
    return logits, labels


def test_the_metrics_of_a_hand_computed_pair() -> None:
    # Softmax of (log 3, 0) is (.75, .25): right once, wrong once, both in one bin of each class.
    logits = np.array([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    metrics = calibration_metrics(logits, np.array([0, 1]), 1.0, 15)
    assert metrics == {
        "ece_15": pytest.approx(0.25, abs=1e-15),
        "ece_adaptive_15": pytest.approx(0.25, abs=1e-15),
        "ece_classwise_15": pytest.approx(0.25, abs=1e-15),
        "ks": pytest.approx(0.25, abs=1e-15),
        "nll": pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-15),
        "brier": pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2, abs=1e-15),
    }


def test_a_confidence_of_exactly_one_is_in_the_last_bin() -> None:
    diagram = reliability(np.array([[1000.0, 0.0]]), np.array([0]), 1.0, 15)
    assert diagram["count"] == [0.0] * 14 + [1.0]
    assert diagram["confidence"][-1] == 1.0
    assert calibration_metrics(np.array([[1000.0, 0.0]]), np.array([1]), 1.0, 15)["ece_15"] == 1.0


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 10])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(classes: int) -> None:
    diagram = reliability(np.zeros((1, classes)), np.array([0]), 1.0, 30)
    assert diagram["count"].index(1.0) == 30 // classes - 1


def test_the_reliability_diagram_holds_the_ece(noisy: tuple[Array, Array]) -> None:
    diagram = reliability(*noisy, 1.0, 15)
    gaps = [
        count * abs(confidence - accuracy)
        for count, confidence, accuracy in zip(
            diagram["count"], diagram["confidence"], diagram["accuracy"], strict=True
        )
    ]
    assert sum(diagram["count"]) == 2000
    assert sum(gaps) / 2000 == pytest.approx(calibration_metrics(*noisy, 1.0, 15)["ece_15"], abs=1e-12)


def test_empty_bins_of_the_diagram_hold_zeros_and_no_nan() -> None:
    diagram = reliability(CAL_Z, CAL_Y, 1.0, 15)
    assert [len(diagram[name]) for name in ("confidence", "accuracy", "count", "edges")] == [15, 15, 15, 16]
    assert diagram["edges"][0] == 0.0
    assert diagram["edges"][-1] == 1.0
    # Three classes: no confidence can be below 1/3, the first five bins.
    assert diagram["count"][:5] == diagram["confidence"][:5] == diagram["accuracy"][:5] == [0.0] * 5
    assert all(math.isfinite(value) for values in diagram.values() for value in values)


def test_brier_keeps_its_digits_where_the_network_is_almost_certain() -> None:
    # p = (1 - q, q) with q = exp(-30): the score is 2 q^2, far below the rounding of (1 - p)^2.
    brier = calibration_metrics(np.array([[30.0, 0.0]]), np.array([0]), 1.0, 15)["brier"]
    assert brier == pytest.approx(2 * math.exp(-60), rel=1e-11)


@pytest.mark.parametrize("wanted", [0.005, 0.01, 0.04, 0.3, 1.0, 5.0, 20.0, 50.0])
def test_the_fitted_temperature_scales_exactly_with_the_logits(
    noisy: tuple[Array, Array], wanted: float
) -> None:
    logits, labels = noisy
    base = fit_temperature(logits, labels)
    assert base == pytest.approx(1.0, abs=0.1)
    assert fit_temperature(logits * (wanted / base), labels) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("wanted", [0.005, 0.05, 0.5, 1.0, 5.0, 50.0, 200.0])
def test_the_temperature_is_exact_where_the_labels_are_as_frequent_as_promised(wanted: float) -> None:
    # Each row is repeated 20 times, with each label as often as p says: the likelihood is highest at p.
    p = np.array([[10, 6, 4], [1, 18, 1], [3, 2, 15], [7, 7, 6]]) / 20
    logits = np.repeat(np.log(p) * wanted, 20, axis=0)
    labels = np.concatenate([np.repeat(np.arange(3), (row * 20).round().astype(int)) for row in p])
    # The slope is a mean of 80 rounded terms that cancel; near its zero it is as steep as in the example.
    assert fit_temperature(logits, labels) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("wanted", [0.005, 0.05, 0.5, 1.0, 5.0, 50.0])
def test_the_temperature_is_found_from_labels_drawn_of_the_true_probabilities(wanted: float) -> None:
    rng = np.random.default_rng(8)
    log_p = log_softmax(rng.normal(size=(100_000, 10)) * 2.0, axis=1)
    labels = (rng.random((100_000, 1)) > np.exp(log_p).cumsum(axis=1)).sum(axis=1).clip(0, 9)
    # Fisher information of log T: the variance of log p under p, summed over images; four deviations.
    mean = (np.exp(log_p) * log_p).sum(axis=1, keepdims=True)
    deviation = (np.exp(log_p) * (log_p - mean) ** 2).sum() ** -0.5
    assert deviation < 0.005
    assert abs(math.log(fit_temperature(log_p * wanted, labels) / wanted)) < 4 * deviation


@pytest.mark.parametrize("wanted", [0.005, 0.05, 0.5, 1.0, 5.0, 50.0])
def test_the_fitted_temperature_is_the_minimum_that_scipy_finds(
    noisy: tuple[Array, Array], wanted: float
) -> None:
    logits, labels = noisy[0] * wanted, noisy[1]

    def nll(log_temperature: float) -> float:
        scaled = log_softmax(logits / math.exp(log_temperature), axis=1)
        return float(-scaled[np.arange(len(labels)), labels].mean())

    low, high = math.log(LOWEST_TEMPERATURE), math.log(HIGHEST_TEMPERATURE)
    found = minimize_scalar(nll, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    fitted = fit_temperature(logits, labels)
    # A minimiser that sees only values is good to about the root of their rounding.
    assert fitted == pytest.approx(math.exp(found.x), rel=1e-6)
    assert nll(math.log(fitted)) <= found.fun + 1e-14


def test_the_fitted_temperature_never_makes_the_likelihood_worse() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(40, 3)) * 10.0 ** rng.uniform(-2, 3)
        labels = rng.integers(0, 3, 40)
        fitted = calibration_metrics(logits, labels, fit_temperature(logits, labels), 15)["nll"]
        grid = np.geomspace(LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE, 61)
        best = min(calibration_metrics(logits, labels, float(T), 15)["nll"] for T in grid)
        assert fitted <= best + 1e-12


def test_all_images_right_gives_the_lower_bound() -> None:
    logits = np.array([[2.0, 0.0, 1.0], [0.0, 0.5, 0.1]])
    assert fit_temperature(logits, np.array([0, 1])) == LOWEST_TEMPERATURE


def test_logits_that_say_less_than_chance_give_the_upper_bound() -> None:
    assert fit_temperature(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1, 0])) == HIGHEST_TEMPERATURE


def test_logits_that_say_nothing_leave_the_temperature_at_one() -> None:
    assert fit_temperature(np.full((4, 3), 7.0), np.array([0, 1, 2, 0])) == 1.0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64), r"got \[0, 3\]"),
        (np.zeros((2, 3)), np.array([0]), r"\[1\] for \[2, 3\]"),
        (np.array([[np.nan, 0.0]]), np.array([0]), "finite"),
        (np.zeros((1, 3)), np.array([3]), r"0\.\.2; got 3\.\.3"),
        (np.zeros((1, 3)), np.array([-1]), r"got -1"),
    ],
)
def test_input_that_does_not_fit_is_refused(logits: Array, labels: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit_temperature(logits, labels)
    with pytest.raises(ValueError, match=message):
        calibration_metrics(logits, labels, 1.0, 15)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        calibration_metrics(CAL_Z, CAL_Y, temperature, 15)
    with pytest.raises(ValueError, match="must be > 0"):
        confidence(CAL_Z, temperature)


def test_zero_bins_are_refused() -> None:
    for call in (
        lambda: reliability(CAL_Z, CAL_Y, 1.0, 0),
        lambda: adaptive_calibration_error(np.ones(2), np.ones(2), 0),
        lambda: calibration_notes(5, 0),
    ):
        with pytest.raises(ValueError, match="bins must be >= 1; got 0"):
            call()


def test_images_of_equal_confidence_are_parted_with_their_common_accuracy() -> None:
    # Two bins of two. Of the three at .6 one is right, so each counts 1/3; the .9 is right.
    p, k = np.array([0.6, 0.6, 0.6, 0.9]), np.array([1.0, 0.0, 0.0, 1.0])
    expected = (2 * (0.6 - 1 / 3) + abs(0.6 + 0.9 - 1 / 3 - 1)) / 4
    assert adaptive_calibration_error(p, k, 2) == pytest.approx(expected, abs=1e-15)


def test_ks_is_the_largest_gap_on_the_way_and_not_the_one_at_the_end() -> None:
    # Least sure first: + .5, then + .6 - 1: the sums are .5 and .1.
    assert kolmogorov_smirnov_error(np.array([0.6, 0.5]), np.array([1.0, 0.0])) == pytest.approx(0.25)
    # Tied, the two are one group, and the gap inside it is none.
    assert kolmogorov_smirnov_error(np.array([0.5, 0.5]), np.array([1.0, 0.0])) == 0.0


def test_the_class_wise_error_sees_what_the_top_label_hides() -> None:
    # Top label .5, right half of the time; but class 2 comes half as often as promised, and class 1 more.
    p = np.tile([0.5, 0.2, 0.3], (20, 1))
    labels = np.repeat([0, 1, 2], [10, 7, 3])
    assert expected_calibration_error(p.max(axis=1), (labels == 0).astype(float), 15) == 0.0
    assert classwise_calibration_error(p, labels, 15) == pytest.approx((0 + 0.15 + 0.15) / 3, abs=1e-15)


def test_a_probability_of_zero_is_in_the_first_bin() -> None:
    promised, kept, counts = bin_totals(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 4)
    assert (promised.tolist(), kept.tolist(), counts.tolist()) == (
        [0, 0, 0, 1],
        [1, 0, 0, 0],
        [1, 0, 0, 1],
    )


def test_fewer_images_than_bins_are_measured_and_said() -> None:
    # Each image is a bin of its own, so the error is the mean gap of single images.
    p = softmax(CAL_Z, axis=1)
    gaps = np.abs(p.max(axis=1) - (p.argmax(axis=1) == CAL_Y))
    metrics = calibration_metrics(CAL_Z, CAL_Y, 1.0, 600)
    assert metrics["ece_600"] == pytest.approx(gaps.mean(), abs=1e-15)
    assert metrics["ece_adaptive_600"] == pytest.approx(gaps.mean(), abs=1e-15)
    (note,) = calibration_notes(6, 15)
    assert note.startswith("6 images are fewer than 15 calibration bins")
    assert calibration_notes(15, 15) == []
    with pytest.raises(ValueError, match="images must be >= 1; got 0"):
        calibration_notes(0, 15)


@pytest.mark.parametrize("temperature", [0.01, 1.0, 30.0])
def test_confidence_is_the_mean_of_the_highest_probabilities(temperature: float) -> None:
    rows = [float(softmax(row / temperature).max()) for row in CAL_Z]
    assert confidence(CAL_Z, temperature) == pytest.approx(sum(rows) / len(rows), abs=1e-15)
    with pytest.raises(ValueError, match="finite"):
        confidence(np.array([[np.inf, 0.0]]), temperature)


def test_logits_are_taken_in_float64() -> None:
    # In float32 the softmax of 18 against 0 is 1, and its logarithm 0.
    logits = np.array([[18.0, 0.0]], dtype=np.float32)
    assert 0.0 < 1.0 - confidence(logits, 1.0) < 2e-8
    metrics = calibration_metrics(logits, np.array([0]), 1.0, 15)
    assert metrics["nll"] == pytest.approx(math.log1p(math.exp(-18)), rel=1e-6)
    assert 0.0 < metrics["ks"] < 2e-8


def test_a_temperature_that_the_images_do_not_bound_is_known_as_such() -> None:
    logits = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.5]])
    assert at_bound(fit_temperature(logits, np.array([0, 1, 0])))
    assert not at_bound(fit_temperature(logits, np.array([0, 1, 1])))
