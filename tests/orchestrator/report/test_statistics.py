from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from orchestrator.report.statistics import (
    EXACT_PERMUTATION_LIMIT,
    holm,
    paired_test,
    seeds_needed,
    sign_flip_p,
    smallest_sign_flip_p,
    summarise,
)

ARM = {100: 0.31, 101: 0.28, 102: 0.35, 103: 0.30, 104: 0.27}
BASELINE = {100: 0.40, 101: 0.43, 102: 0.41, 103: 0.38, 104: 0.42}


def test_the_summary_agrees_with_a_hand_computation() -> None:
    summary = summarise([1.0, 2.0, 4.0, math.nan])
    assert summary.n == 3
    assert summary.mean == pytest.approx(7 / 3, rel=1e-14)
    # Squared deviations from 7/3: 16/9, 1/9, 25/9; their sum over n - 1 = 2 is 7/3.
    assert summary.std == pytest.approx(math.sqrt(7 / 3), rel=1e-14)


def test_one_value_has_no_standard_deviation_and_none_has_no_mean() -> None:
    assert summarise([0.5]).std is None
    assert summarise([math.nan]).mean is None


def test_the_paired_test_agrees_with_scipy() -> None:
    ours = paired_test(ARM, BASELINE, 0.9)
    theirs = stats.ttest_rel(list(ARM.values()), list(BASELINE.values()))
    low, high = theirs.confidence_interval(0.9)
    # Both compute in float64; the t distribution's inverse is iterative.
    assert ours.p_t == pytest.approx(theirs.pvalue, rel=1e-10)
    assert (ours.low, ours.high) == pytest.approx((low, high), rel=1e-9)


def test_the_effect_size_agrees_with_a_hand_computation() -> None:
    ours = paired_test({0: 1.0, 1: 2.0, 2: 6.0}, {0: 0.0, 1: 0.0, 2: 3.0}, 0.95)
    # Differences 1, 2, 3: mean 2, standard deviation 1.
    assert (ours.difference, ours.std, ours.dz) == pytest.approx((2.0, 1.0, 2.0), rel=1e-14)


def test_only_seeds_with_a_finite_value_in_both_arms_are_paired() -> None:
    ours = paired_test({**ARM, 105: 0.2, 104: math.nan}, {**BASELINE, 106: 0.9}, 0.95)
    assert ours.seeds == (100, 101, 102, 103)


def test_seeds_are_paired_by_number_and_not_by_position() -> None:
    backwards = dict(reversed(BASELINE.items()))
    assert paired_test(ARM, backwards, 0.95) == paired_test(ARM, BASELINE, 0.95)


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_pairs_are_not_tested(n: int) -> None:
    seeds = list(ARM)[:n]
    ours = paired_test({s: ARM[s] for s in seeds}, BASELINE, 0.95)
    assert (ours.n, ours.p, ours.low, ours.dz) == (n, None, None, None)


def test_equal_values_on_every_seed_give_p_one() -> None:
    ours = paired_test(ARM, ARM, 0.95)
    assert ours.degenerate
    assert (ours.difference, ours.p, ours.low, ours.dz) == (0.0, 1.0, None, None)


def test_a_constant_difference_is_judged_by_sign_flips() -> None:
    # 0.1 is not a binary fraction: the five differences are equal only up to rounding.
    ours = paired_test({s: v + 0.1 for s, v in ARM.items()}, ARM, 0.95)
    assert ours.degenerate
    assert ours.p == 2 / 2**5
    assert ours.p_t is None


@pytest.mark.parametrize("seed", range(5))
def test_the_permutation_p_agrees_with_brute_force(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.4, 1.0, 7)
    observed = abs(values.sum())
    sums = [
        abs(sum(s * v for s, v in zip(signs, values, strict=True)))
        for signs in itertools.product((-1, 1), repeat=len(values))
    ]
    expected = sum(total >= observed - 1e-12 for total in sums) / len(sums)
    assert sign_flip_p(values) == expected


def test_the_permutation_p_reaches_its_smallest_value_when_all_signs_agree() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    assert sign_flip_p(values) == smallest_sign_flip_p(5) == 0.0625


def test_many_pairs_are_sampled_close_to_the_normal_approximation() -> None:
    values = np.random.default_rng(1).normal(0.25, 1.0, EXACT_PERMUTATION_LIMIT + 24)
    approximate = 2 * stats.norm.sf(abs(values.sum()) / math.sqrt(float((values**2).sum())))
    # The standard error of 100,000 draws is below .0016; the approximation itself is off by about as much.
    assert sign_flip_p(values) == pytest.approx(approximate, abs=0.006)
    assert sign_flip_p(values) == sign_flip_p(values)


def test_holm_agrees_with_a_hand_computation() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, made monotone: .04 .06 .06 .06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06], rel=1e-14)


def test_holm_never_exceeds_one() -> None:
    assert holm([0.6, 0.7]) == [1.0, 1.0]


def test_an_untested_comparison_still_counts_in_its_family() -> None:
    corrected = holm([0.01, None, 0.04])
    assert corrected[1] is None
    assert [corrected[0], corrected[2]] == pytest.approx([0.03, 0.08], rel=1e-14)


@pytest.mark.parametrize(("dz", "alpha"), [(0.3, 0.05), (0.5, 0.05), (1.0, 0.0125), (3.0, 0.05)])
def test_the_seeds_needed_are_the_fewest_with_eighty_percent_power(dz: float, alpha: float) -> None:
    def power(n: int) -> float:
        critical = stats.t.ppf(1 - alpha / 2, n - 1)
        return float(stats.nct.sf(critical, n - 1, dz * math.sqrt(n)))

    n = seeds_needed(dz, alpha)
    assert n is not None
    assert power(n) >= 0.8 > power(n - 1)
    assert seeds_needed(-dz, alpha) == n


def test_the_seeds_needed_match_the_textbook_value() -> None:
    # A medium effect (.5) at alpha .05 needs 34 pairs (Cohen's tables; G*Power gives the same).
    assert seeds_needed(0.5, 0.05) == 34


def test_no_number_of_seeds_is_promised_for_a_vanishing_effect() -> None:
    assert seeds_needed(0.001, 0.05) is None
    assert seeds_needed(0.0, 0.05) is None
