"""Conformance of every score of logits, and the values of each."""

from __future__ import annotations

import importlib
import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logsumexp, softmax

from workloads.evaluation import evidence as evidence_module
from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.evidence import Evidence, Head
from workloads.evaluation.scores import score
from workloads.evaluation.scores.logits import MLS, MSP, Energy, Entropy

NAMES = ["energy", "entropy", "mls", "msp"]
HEAD = Head("linear", np.zeros((7, 3), dtype=np.float32))


def evidence_of(logits: npt.NDArray[Any]) -> Evidence:
    return Evidence(logits, np.empty((len(logits), 0)))


@pytest.fixture
def logits() -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(200, 7)) * 4.0


@pytest.mark.parametrize("name", NAMES)
def test_the_quick_way_is_the_catalogues_detector_with_its_defaults(
    name: str, logits: npt.NDArray[np.float64]
) -> None:
    module, _, attribute = str(SCORES[name].path).partition(":")
    detector = getattr(importlib.import_module(module), attribute)()
    assert SCORES[name].facts["needs"] == "logits"
    detector.fit(None, HEAD)
    np.testing.assert_array_equal(score(name, logits), detector(evidence_of(logits)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("numbers", [1, 7 * 64, 7 * 100])
def test_no_score_depends_on_the_size_of_a_block(
    name: str, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = np.random.default_rng(1).normal(size=(500, 7)) * 4.0
    whole = score(name, logits)
    monkeypatch.setattr(evidence_module, "BLOCK_NUMBERS", numbers)
    np.testing.assert_array_equal(score(name, logits), whole)


@pytest.mark.parametrize("name", NAMES)
def test_every_score_is_float64_one_an_image_whatever_the_input_type(name: str) -> None:
    logits = np.array([[2.0, 0.5, 0.25], [-1.0, 3.0, 1.5]])
    for dtype in (np.float16, np.float32, np.float64):
        values = score(name, logits.astype(dtype))
        assert values.dtype == np.float64
        np.testing.assert_array_equal(values, score(name, logits))


@pytest.mark.parametrize("name", NAMES)
def test_every_score_rises_with_the_largest_logit(name: str) -> None:
    logits = np.zeros((50, 4))
    logits[:, 2] = np.linspace(0.1, 900.0, 50)
    assert (np.diff(score(name, logits)) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_score_depends_on_the_order_of_classes_or_of_images(
    name: str, logits: npt.NDArray[np.float64]
) -> None:
    values = score(name, logits)
    np.testing.assert_allclose(score(name, logits[:, ::-1]), values, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(score(name, logits[::-1]), values[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_no_score_changes_its_input(name: str, logits: npt.NDArray[np.float64]) -> None:
    before = logits.copy()
    score(name, logits)
    np.testing.assert_array_equal(logits, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-6, 1e4])
def test_every_score_stays_finite_and_distinct_at_extreme_scales(
    name: str, scale: float, logits: npt.NDArray[np.float64]
) -> None:
    values = score(name, logits * scale)
    assert np.isfinite(values).all()
    assert len(np.unique(values)) == len(values)


def test_msp_is_minus_log_of_one_minus_the_largest_probability(logits: npt.NDArray[np.float64]) -> None:
    expected = -np.log1p(-softmax(logits, axis=1).max(axis=1))
    # 1 - p_max has lost up to six digits here; that is the reference's error.
    np.testing.assert_allclose(score("msp", logits), expected, rtol=1e-8)


def test_msp_of_a_hand_computed_row() -> None:
    e2, e1, e0 = math.exp(2.0), math.exp(1.0), 1.0
    expected = -math.log((e1 + e0) / (e2 + e1 + e0))
    assert score("msp", np.array([[1.0, 2.0, 0.0]]))[0] == pytest.approx(expected, rel=1e-14)


def test_msp_of_two_equal_logits_is_log_two() -> None:
    assert score("msp", np.array([[3.0, 3.0]]))[0] == pytest.approx(math.log(2.0), rel=1e-14)


def test_msp_still_ranks_where_softmax_is_exactly_one_even_in_float64() -> None:
    logits = np.array([[50.0, 0.0, 0.0], [60.0, 0.0, 1.0], [400.0, 0.0, 0.0]])
    assert (softmax(logits, axis=1).max(axis=1) == 1.0).all()
    expected = [50.0 - math.log(2.0), 60.0 - math.log1p(math.e), 400.0 - math.log(2.0)]
    np.testing.assert_allclose(score("msp", logits), expected, rtol=1e-14)


def test_msp_ignores_a_constant_added_to_all_logits(logits: npt.NDArray[np.float64]) -> None:
    # Adding 1e4 rounds the logits themselves to about 1e-12.
    np.testing.assert_allclose(score("msp", logits + 1e4), score("msp", logits), rtol=0, atol=1e-10)


def test_mls_is_the_largest_logit() -> None:
    assert score("mls", np.array([[1.0, -2.0], [-3.0, -0.5]])).tolist() == [1.0, -0.5]


def test_energy_is_logsumexp_as_scipy_has_it(logits: npt.NDArray[np.float64]) -> None:
    np.testing.assert_allclose(score("energy", logits * 100), logsumexp(logits * 100, axis=1), rtol=1e-14)


@pytest.mark.parametrize("T", [1e-300, 1e-3, 0.3, 1.0, 7.0, 1e3])
def test_energy_at_a_temperature_is_scipys_logsumexp(T: float, logits: npt.NDArray[np.float64]) -> None:
    found = Energy(T=T)(evidence_of(logits))
    with np.errstate(over="ignore"):
        Z = logits / T
    if not np.isfinite(Z).all():
        # Nothing but the largest logit is left.
        np.testing.assert_array_equal(found, logits.max(axis=1))
        return
    # Both add the largest logit to a logarithm: a few roundings of numbers of the sum's size.
    np.testing.assert_allclose(found, T * logsumexp(Z, axis=1), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("T", [1e-3, 0.3, 7.0, 1e3])
def test_energy_at_a_temperature_is_exact_to_fifty_digits(T: float) -> None:
    logits = np.random.default_rng(3).normal(size=(20, 5))
    for row, found in zip(logits, Energy(T=T)(evidence_of(logits)), strict=True):
        with localcontext() as context:
            context.prec = 60
            t = Decimal(T)
            expected = t * sum(((Decimal(z) / t).exp() for z in row.tolist()), Decimal(0)).ln()
        # The largest logit plus a logarithm, each rounded; neither is much larger than the sum.
        assert abs(Decimal(float(found)) / expected - 1) < Decimal("2e-15")


@pytest.mark.parametrize("T", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(T: float) -> None:
    with pytest.raises(ValueError, match=r"T must be > 0 and finite; got"):
        Energy(T=T)


def test_entropy_is_the_sum_of_minus_p_log_p(logits: npt.NDArray[np.float64]) -> None:
    p = softmax(logits, axis=1)
    expected = -(p * np.log(p)).sum(axis=1)
    # The sum's terms are rounded relative to the largest, which 1 - p_max of 1e-9 shows most.
    np.testing.assert_allclose(np.exp(-score("entropy", logits)), expected, rtol=1e-7)


def test_entropy_of_equal_logits_is_the_log_of_their_number() -> None:
    assert score("entropy", np.full((1, 5), 3.0))[0] == pytest.approx(-math.log(math.log(5.0)), rel=1e-14)


def exact_entropy(row: npt.NDArray[np.float64], digits: int) -> Decimal:
    """Shannon's formula as printed, with so many digits that its cancellation does not matter."""
    with localcontext() as context:
        context.prec = digits
        powers = [Decimal(z).exp() for z in row.tolist()]
        total = sum(powers, Decimal(0))
        return -sum(((power / total) * (power / total).ln() for power in powers), Decimal(0))


@pytest.mark.parametrize("largest", [0.0, 1e-3, 1.0, 10.0, 36.0, 37.5, 100.0, 690.0, 740.0, 800.0])
def test_entropy_keeps_its_digits_and_order_where_the_softmax_is_one_hot(largest: float) -> None:
    logits = np.random.default_rng(2).normal(size=(12, 4)) * 0.5
    logits[:, 1] = largest + np.abs(logits).max(axis=1)
    found = score("entropy", logits)
    # 1 - p_max goes down to 1e-347, and is lost below the digits that are carried.
    exact = [exact_entropy(row, 420) for row in logits]
    for value, expected in zip(found, exact, strict=True):
        with localcontext() as context:
            context.prec = 60
            # Of exp(-score): the error of a number of up to 800, a few roundings of 1e-13.
            assert abs((-Decimal(float(value))).exp() / expected - 1) < Decimal("5e-13")
    assert np.argsort(found).tolist() == sorted(range(12), key=lambda i: -exact[i])


def test_msp_keeps_its_digits_where_one_minus_the_largest_probability_is_1e_300() -> None:
    row = np.array([[700.0, 1.0, 0.5]])
    with localcontext() as context:
        context.prec = 400
        powers = [Decimal(z).exp() for z in row[0].tolist()]
        expected = -((powers[1] + powers[2]) / sum(powers, Decimal(0))).ln()
    assert score("msp", row)[0] == pytest.approx(float(expected), rel=1e-15)


def test_the_logits_are_looked_at_once_for_all_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    inner = evidence_module._largest_and_rest

    def counted(part: npt.NDArray[Any]) -> Any:
        calls.append(len(part))
        return inner(part)

    monkeypatch.setattr(evidence_module, "_largest_and_rest", counted)
    known = evidence_of(np.random.default_rng(0).normal(size=(90, 7)))
    for detector in (MSP(), MLS(), Energy(), Entropy()):
        detector(known)
    assert calls == [90]


def test_a_score_can_be_changed_without_changing_the_next() -> None:
    known = evidence_of(np.array([[1.0, 2.0]]))
    for detector in (MSP(), MLS(), Energy(), Entropy()):
        found = detector(known)
        before = found.copy()
        found += 1.0
        np.testing.assert_array_equal(detector(known), before)


def test_no_images_have_no_scores() -> None:
    for name in NAMES:
        assert score(name, np.empty((0, 3))).shape == (0,)


def test_logits_whose_differences_overflow_are_refused() -> None:
    with pytest.raises(ValueError, match=r"differences of logits must be finite; got logits of -1e\+308 to"):
        score("msp", np.array([[1e308, -1e308]]))


def test_an_unknown_score_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of msp, mls, energy, entropy; got 'mps'"):
        score("mps", np.zeros((1, 2)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([[0.0, np.nan]]), "finite"),
        (np.array([[0.0, np.inf]]), "finite"),
        (np.array([[0.0, -np.inf]]), "finite"),
        (np.array([[0.0, 1.0, -np.inf]]), "finite"),
        (np.array([[0.0, 1.0, 2.0], [0.0, 1.0, np.nan]]), "finite"),
        (np.zeros(3), "shape"),
        (np.zeros((3, 1)), "two or more classes"),
    ],
)
def test_every_score_refuses_logits_that_it_cannot_rank(
    name: str, bad: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(name, bad)
