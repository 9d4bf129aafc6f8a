"""Calibration against plain loops and against scipy's minimiser."""

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
    fit_temperature,
    reliability,
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


def _naive(logits: Array, labels: Array, temperature: float, bins: int) -> dict[str, float]:
    """The same metrics, image after image, as the definitions read."""
    p = softmax(logits / temperature, axis=1)
    ece = 0.0
    for i in range(bins):
        inside = [k for k, row in enumerate(p) if i / bins < row.max() <= (i + 1) / bins]
        if inside:
            confidence = math.fsum(p[k].max() for k in inside) / len(inside)
            accuracy = sum(p[k].argmax() == labels[k] for k in inside) / len(inside)
            ece += len(inside) / len(p) * abs(confidence - accuracy)
    one_hot = np.eye(p.shape[1])[labels]
    log_p = log_softmax(logits / temperature, axis=1)
    return {
        "ece": ece,
        "nll": -math.fsum(log_p[np.arange(len(p)), labels]) / len(p),
        "brier": math.fsum(((p - one_hot) ** 2).sum(axis=1)) / len(p),
    }


@pytest.mark.parametrize("temperature", [0.05, 1.0, 7.0])
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_metrics_agree_with_a_plain_loop(
    noisy: tuple[Array, Array], temperature: float, bins: int
) -> None:
    metrics = calibration_metrics(*noisy, temperature, bins)
    assert metrics == pytest.approx(_naive(*noisy, temperature, bins), abs=1e-12)


def test_the_metrics_of_a_hand_computed_pair() -> None:
    # Softmax of (log 3, 0) is (.75, .25): right once, wrong once, both in one bin.
    logits = np.array([[math.log(3.0), 0.0], [math.log(3.0), 0.0]])
    metrics = calibration_metrics(logits, np.array([0, 1]), 1.0, 15)
    assert metrics == {
        "ece": pytest.approx(0.25, abs=1e-15),
        "nll": pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-15),
        "brier": pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2, abs=1e-15),
    }


def test_a_confidence_of_exactly_one_is_in_the_last_bin() -> None:
    diagram = reliability(np.array([[1000.0, 0.0]]), np.array([0]), 1.0, 15)
    assert diagram["count"] == [0.0] * 14 + [1.0]
    assert diagram["confidence"][-1] == 1.0
    assert calibration_metrics(np.array([[1000.0, 0.0]]), np.array([1]), 1.0, 15)["ece"] == 1.0


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
    assert sum(gaps) / 2000 == pytest.approx(calibration_metrics(*noisy, 1.0, 15)["ece"], abs=1e-12)


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


@pytest.mark.parametrize("wanted", [0.005, 1.0, 50.0])
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
        (np.zeros((0, 3)), np.zeros(0, dtype=np.int64), "one or more"),
        (np.zeros((2, 3)), np.array([0]), r"\[2, 3\] and \[1\]"),
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


def test_zero_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="bins must be >= 1; got 0"):
        reliability(CAL_Z, CAL_Y, 1.0, 0)


def test_a_temperature_that_the_images_do_not_bound_is_known_as_such() -> None:
    logits = np.array([[3.0, 0.0], [0.0, 2.0], [1.0, 0.5]])
    assert at_bound(fit_temperature(logits, np.array([0, 1, 0])))
    assert not at_bound(fit_temperature(logits, np.array([0, 1, 1])))
