from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.ranking import (
    cliques,
    critical_difference,
    friedman_p,
    friedman_statistic,
    studentised_range,
)

RANKS = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [1.0, 2.0, 3.0]])


@pytest.mark.parametrize(
    ("arms", "five", "ten"),
    # Demsar 2006, table 5 (a), two-tailed Nemenyi test.
    [(2, 1.960, 1.645), (3, 2.343, 2.052), (5, 2.728, 2.459), (7, 2.949, 2.693), (10, 3.164, 2.920)],
)
def test_quantiles_are_those_of_the_published_table(arms: int, five: float, ten: float) -> None:
    # The table was rounded from values with few digits.
    assert studentised_range(arms, 0.95) / 2**0.5 == pytest.approx(five, abs=0.0015)
    assert studentised_range(arms, 0.90) / 2**0.5 == pytest.approx(ten, abs=0.0015)


def test_the_critical_difference_is_that_of_demsars_example() -> None:
    # Four classifiers on 14 data sets at 90 %: 2.291 sqrt(4 * 5 / (6 * 14)) = 1.12 (his section 3.2.4).
    assert critical_difference(4, 14, 0.90) == pytest.approx(1.12, abs=0.005)


def test_the_statistic_is_friedmans() -> None:
    expected = stats.friedmanchisquare(*RANKS.T).statistic
    assert friedman_statistic(RANKS) == pytest.approx(expected, rel=1e-12)
    # By hand: mean ranks 1, 7/3 and 8/3 around 2.
    assert friedman_statistic(RANKS) == pytest.approx(36 / 12 * (1 + 1 / 9 + 4 / 9), rel=1e-12)


def test_the_p_value_is_the_share_of_all_orders() -> None:
    orders = [np.array(order) for order in permutations([1.0, 2.0, 3.0])]
    found = [friedman_statistic(np.stack(each)) for each in product(orders, repeat=3)]
    exact = np.mean(np.array(found) >= friedman_statistic(RANKS) - 1e-9)
    # Three standard errors of a share over 20,000 draws.
    assert friedman_p(RANKS) == pytest.approx(exact, abs=0.011)


def test_arms_that_always_stand_alike_are_never_distinguished() -> None:
    assert friedman_p(np.full((4, 3), 2.0)) == 1.0


def test_groups_are_the_longest_runs_of_neighbours_within_the_difference() -> None:
    ranks = np.array([1.0, 1.5, 2.4, 4.0, 4.5])
    assert cliques(ranks, 1.0) == [(0, 1), (1, 2), (3, 4)]
    assert cliques(ranks, 1.5) == [(0, 2), (3, 4)]
    assert cliques(ranks, 10.0) == [(0, 4)]
    assert cliques(ranks, 0.4) == []


def test_a_difference_as_large_as_the_critical_one_is_distinguished() -> None:
    assert cliques(np.array([1.0, 2.0]), 1.0) == []
