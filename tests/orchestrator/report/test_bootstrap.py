from __future__ import annotations

import random
import statistics

import numpy as np
import pytest

from orchestrator.report.bootstrap import DRAWS, bootstrap_interval


def test_two_values_give_their_own_range_or_their_middle() -> None:
    # Resampled means are the lower one, the middle and the upper one: 1/4, 1/2 and 1/4 of them.
    values = np.array([1.0, 5.0])
    assert bootstrap_interval(values, 0.95) == (1.0, 5.0)
    assert bootstrap_interval(values, 0.4) == (3.0, 3.0)


def test_the_interval_is_that_of_plain_resampling() -> None:
    values = [0.3, -1.2, 2.2, 0.8, 1.9, -0.4, 0.1]
    drawn = random.Random(5)
    means = sorted(statistics.fmean(drawn.choices(values, k=7)) for _ in range(DRAWS))
    expected = (means[round(0.05 * DRAWS)], means[round(0.95 * DRAWS)])
    # The standard error of a 5 % quantile of 10,000 draws is about 0.008 here.
    assert bootstrap_interval(np.array(values), 0.9) == pytest.approx(expected, abs=0.03)


def test_equal_values_and_a_repeated_call_give_the_same_interval() -> None:
    values = np.array([0.1, 0.7, 0.4])
    assert bootstrap_interval(values, 0.95) == bootstrap_interval(values.copy(), 0.95)
    assert bootstrap_interval(np.array([2.0, 2.0, 2.0]), 0.95) == pytest.approx((2.0, 2.0), rel=1e-12)


@pytest.mark.parametrize(("n", "share"), [(5, 0.84), (10, 0.90)])
def test_the_interval_holds_the_mean_as_often_as_its_docstring_says(n: int, share: float) -> None:
    generator = np.random.default_rng(1)
    times = 800
    ends = [bootstrap_interval(generator.normal(size=n), 0.95) for _ in range(times)]
    held = sum(low <= 0 <= high for low, high in ends) / times
    # Three standard errors of a share of about 0.85 over 800 times.
    assert held == pytest.approx(share, abs=0.04)
