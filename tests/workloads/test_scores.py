"""Conformance of every rejection score, and the values of each."""

from __future__ import annotations

import importlib
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logsumexp, softmax

from workloads.evaluation import scores
from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.scores import score

NAMES = sorted(SCORES)


@pytest.fixture
def logits() -> npt.NDArray[np.float64]:
    return np.random.default_rng(0).normal(size=(200, 7)) * 4.0


@pytest.mark.parametrize("name", NAMES)
def test_every_catalogue_entry_names_the_function_that_score_calls(
    name: str, logits: npt.NDArray[np.float64]
) -> None:
    module, _, function = str(SCORES[name].path).partition(":")
    named = getattr(importlib.import_module(module), function)
    assert SCORES[name].name == name
    np.testing.assert_array_equal(score(name, logits), named(logits))


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
    np.testing.assert_allclose(scores.energy(logits * 100), logsumexp(logits * 100, axis=1), rtol=1e-14)


def test_an_unknown_score_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of msp, mls, energy; got 'mps'"):
        score("mps", np.zeros((1, 2)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([[0.0, np.nan]]), "finite"),
        (np.array([[0.0, np.inf]]), "finite"),
        (np.zeros(3), "shape"),
        (np.zeros((3, 1)), "two or more classes"),
    ],
)
def test_every_score_refuses_logits_that_it_cannot_rank(
    name: str, bad: npt.NDArray[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        score(name, bad)
