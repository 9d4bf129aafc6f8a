"""Terms: sizes, values and words, against hand counts."""

from __future__ import annotations

import pytest

from orchestrator.study import terms
from orchestrator.study.ranges import ARM_SETTINGS, RANGES, Range
from orchestrator.study.reader import hints
from workloads.catalogue import Term, Value
from workloads.losses.catalogue import AUXILIARY, LOSSES

GRID = Term("grid", (0.1, 0.2, 0.3))
WHOLE = Term("int_uniform", (2, 5))
FIXED = Term("fixed", (7,))
UNIFORM = Term("uniform", (0.0, 1.0))


def test_the_size_of_a_space_is_the_product_of_its_finite_terms() -> None:
    assert terms.space_size({"a": GRID, "b": WHOLE, "c": FIXED}) == 12
    assert terms.space_size({}) == 1
    assert terms.space_size({"a": GRID, "b": UNIFORM}) is None


def test_a_search_tries_no_more_configurations_than_the_space_has() -> None:
    assert terms.configurations({"a": GRID, "b": WHOLE}, trials=20) == 12
    assert terms.configurations({"a": GRID, "b": WHOLE}, trials=5) == 5
    assert terms.configurations({"a": UNIFORM}, trials=20) == 20
    assert terms.configurations({"a": FIXED}, trials=20) == 1


def test_the_values_of_a_finite_term_are_listed_and_a_continuous_one_has_none() -> None:
    assert terms.values(WHOLE) == (2, 3, 4, 5)
    assert terms.values(GRID) == (0.1, 0.2, 0.3)
    with pytest.raises(ValueError, match="uniform term has no list of values"):
        terms.values(UNIFORM)


@pytest.mark.parametrize(
    ("term", "value", "inside"),
    [
        (GRID, 0.2, True),
        (GRID, 0.25, False),
        (UNIFORM, 0.0, True),
        (UNIFORM, 1.0, True),
        (UNIFORM, 1.01, False),
        (UNIFORM, "0.5", False),
        (WHOLE, 3, True),
        (WHOLE, 3.5, False),
        (WHOLE, 6, False),
        (Term("choice", (1, 2)), True, False),
        (Term("log_uniform", (0.01, 0.4)), 0.4, True),
    ],
)
def test_a_term_holds_its_values_and_its_bounds_and_nothing_else(
    term: Term, value: Value, inside: bool
) -> None:
    assert terms.contains(term, value) is inside


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (FIXED, "7"),
        (GRID, "grid of 0.1, 0.2, 0.3"),
        (Term("log_uniform", (1e-05, 1.0)), "log-uniform 1e-05 .. 1"),
        (WHOLE, "whole numbers 2 .. 5"),
        (Term("choice", (True, "batch")), "choice of true, batch"),
    ],
)
def test_a_term_is_described_in_words(term: Term, words: str) -> None:
    assert terms.describe(term) == words


def test_a_range_excludes_its_open_bounds_only() -> None:
    half_open = Range(0, 1, low_open=True)
    assert [half_open.holds(v) for v in (0, 1e-9, 1, 1.0000001)] == [False, True, True, False]
    assert [Range(0, 1, high_open=True).holds(v) for v in (0, 1)] == [True, False]
    assert str(half_open) == "above 0 and at most 1"


def test_every_range_is_of_a_field_that_exists() -> None:
    assert [(cls, name) for cls, ranges in RANGES.items() for name in ranges if name not in hints(cls)] == []


def test_every_number_of_a_study_has_a_range() -> None:
    numbers = {
        (cls, name)
        for cls in RANGES
        for name, hint in hints(cls).items()
        if ("int" in str(hint) or "float" in str(hint)) and "Literal" not in str(hint)
        if name != "params"
    }
    assert numbers == {(cls, name) for cls, ranges in RANGES.items() for name in ranges}


def test_no_loss_has_a_parameter_that_an_arms_training_setting_would_hide() -> None:
    hidden = {*ARM_SETTINGS, *AUXILIARY}
    assert [name for name, entry in LOSSES.items() if set(entry.parameters) & hidden] == []
    assert set(AUXILIARY) & set(ARM_SETTINGS) == set()


def test_the_recommended_searches_of_the_catalogue_are_themselves_valid() -> None:
    for entry in LOSSES.values():
        for parameter in entry.parameters.values():
            for each in (parameter, *parameter.expressions.values()):
                assert each.search is None or terms.problems(each.search, each) == []
