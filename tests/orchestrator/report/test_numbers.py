from __future__ import annotations

import math

import pytest

from orchestrator.report import numbers


@pytest.mark.parametrize(
    ("value", "decimals", "signed", "shown"),
    [
        (12.345, 1, False, "12.3"),
        (-0.04, 1, False, "0.0"),
        (-0.04, 1, True, "0.0"),
        (0.26, 1, True, "+0.3"),
        (-12.0, 2, True, "-12.00"),
        (None, 1, False, "n/a"),
        (math.nan, 1, False, "n/a"),
        (math.inf, 1, True, "n/a"),
    ],
)
def test_fixed_rounds_and_never_shows_minus_zero_or_nan(
    value: float | None, decimals: int, signed: bool, shown: str
) -> None:
    assert numbers.fixed(value, decimals, signed=signed) == shown


def test_a_single_value_has_no_standard_deviation() -> None:
    assert numbers.mean_std(12.34, 0.5, 1) == "12.3 ± 0.5"
    assert numbers.mean_std(12.34, None, 1) == "12.3"
    assert numbers.mean_std(None, None, 1) == "n/a"


@pytest.mark.parametrize(
    ("p", "shown"),
    [
        (0.00001, "<.001"),
        (0.0031, ".003"),
        (0.0504, ".050"),
        (0.0999, ".10"),
        (0.314, ".31"),
        (0.996, "1"),
        (1.0, "1"),
        (math.nan, "n/a"),
        (None, "n/a"),
    ],
)
def test_p_values_lose_their_leading_zero(p: float | None, shown: str) -> None:
    assert numbers.p_value(p) == shown


def test_p_in_a_sentence_has_its_relation() -> None:
    assert numbers.p_equals(0.0001) == "< .001"
    assert numbers.p_equals(0.02) == "= .020"


def test_durations_use_the_unit_that_reads_best() -> None:
    shown = [numbers.seconds(value) for value in (8.44, 59.97, 185.2, 7800.0, None)]
    assert shown == ["8.4 s", "1 min 00 s", "3 min 05 s", "2 h 10 min", "n/a"]


def test_parameters_keep_four_significant_digits_and_their_kind() -> None:
    shown = [numbers.parameter(value) for value in (0.0316227766, 2000.0, 3, True, "cosine")]
    assert shown == ["0.03162", "2000", "3", "True", "cosine"]


def test_percentages_drop_decimals_that_say_nothing() -> None:
    assert numbers.percent(0.95) == "95 %"
    assert numbers.percent(0.995) == "99.5 %"


def test_exact_gives_back_the_very_same_number() -> None:
    assert float(numbers.exact(0.1 + 0.2)) == 0.1 + 0.2
    assert numbers.exact(math.nan) == ""
