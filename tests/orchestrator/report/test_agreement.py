"""Kendall's tau-b, its interval and shares, against hand computation, brute force and simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest

from orchestrator.report.agreement import Agreement, agreement, share_interval


def brute_force(x: Sequence[float], y: Sequence[float]) -> float:
    """Tau-b, pair by pair: concordant less discordant over the geometric mean of the untied pairs."""
    concordant = discordant = untied_x = untied_y = 0
    for (a, b), (c, d) in itertools.combinations(zip(x, y, strict=True), 2):
        untied_x += a != c
        untied_y += b != d
        if a != c and b != d:
            concordant += (a < c) == (b < d)
            discordant += (a < c) != (b < d)
    return (concordant - discordant) / math.sqrt(untied_x * untied_y)


def test_tau_is_as_by_hand() -> None:
    # Of six pairs one is in disorder (2 before 3).
    assert agreement([1, 2, 3, 4], [10, 30, 20, 40], 0.95).tau == pytest.approx((5 - 1) / 6)
    assert agreement([1, 2, 3], [3, 2, 1], 0.95).tau == pytest.approx(-1.0)
    # Two zeros are tied in x: two pairs in order, one in disorder ... of 5 untied in x and 6 in y.
    assert agreement([0, 0, 1, 2], [1, 2, 3, 4], 0.95).tau == pytest.approx(5 / math.sqrt(5 * 6))


def test_tau_is_that_of_brute_force_and_of_scipy_with_and_without_ties() -> None:
    from scipy.stats import kendalltau

    dice = np.random.default_rng(5)
    for n in (5, 9, 30):
        for levels in (2, 4, 1000):
            x, y = dice.integers(0, levels, (2, n)).astype(float)
            x[0], y[1] = -1.0, -1.0
            found = agreement(x.tolist(), y.tolist(), 0.95).tau
            assert found == pytest.approx(brute_force(x.tolist(), y.tolist()), abs=1e-12)
            assert found == pytest.approx(kendalltau(x, y).statistic, abs=1e-12)


def test_what_is_the_same_for_all_orders_nothing() -> None:
    assert agreement([0.0] * 6, [1, 2, 3, 4, 5, 6], 0.95) == Agreement(6, 6, None)
    assert agreement([1, 2, 3, 4, 5, 6], [0.5] * 6, 0.95) == Agreement(6, 6, None)
    assert agreement([1.0], [1.0], 0.95).tau is None
    assert agreement([], [], 0.95) == Agreement(0, 0, None)


def test_a_perfect_order_of_five_is_shown_and_one_of_four_is_not() -> None:
    four = agreement([1, 2, 3, 4], [1, 2, 3, 4], 0.95)
    assert four.tau == pytest.approx(1.0)
    assert four.low is None
    assert not four.same
    five = agreement([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], 0.95)
    # One stands for 1 - 2/20: arctanh(.9) = 1.4722, less 1.95996 * sqrt(.437) = 1.2957.
    assert five.low == pytest.approx(math.tanh(1.4722194896 - 1.959963985 * math.sqrt(0.437)), abs=1e-9)
    assert five.high == 1.0
    assert five.same
    worst = agreement([1, 2, 3, 4, 5], [5, 4, 3, 2, 1], 0.95)
    assert worst.low == -1.0
    assert worst.high == pytest.approx(-(five.low or 0.0))
    assert worst.opposite
    assert not worst.same
    assert not agreement([1, 2, 3, 4, 5], [1, 2, 3, 5, 4], 0.95).same


@pytest.mark.parametrize("uneven", [False, True])
def test_the_larger_of_fieller_s_error_and_the_jackknife_s_is_taken(uneven: bool) -> None:
    dice = np.random.default_rng(8)
    z, noise = dice.normal(size=(2, 20))
    # Where the scatter grows with z, pairs are less alike than Fieller's error supposes.
    x, y = z.tolist(), (0.4 * z + noise * (0.1 + 3 * z**2 if uneven else 1)).tolist()
    found = agreement(x, y, 0.9)
    taus = [brute_force([*x[:i], *x[i + 1 :]], [*y[:i], *y[i + 1 :]]) for i in range(20)]
    assert found.tau is not None
    jackknife = math.sqrt(19 / 20 * sum((t - sum(taus) / 20) ** 2 for t in taus)) / (1 - found.tau**2)
    fieller = math.sqrt(0.437 / 16)
    assert (jackknife > fieller) == uneven
    half = 1.6448536269514722 * max(jackknife, fieller)
    assert found.low == pytest.approx(math.tanh(math.atanh(found.tau) - half), abs=1e-9)
    assert found.high == pytest.approx(math.tanh(math.atanh(found.tau) + half), abs=1e-9)


def test_trials_of_one_configuration_are_left_out_together() -> None:
    dice = np.random.default_rng(3)
    first, noise = dice.normal(size=(2, 30))
    centres = np.stack([first, 0.4 * first + noise * (0.1 + 3 * first**2)], axis=1)
    points = np.repeat(centres, 3, axis=0) + 0.1 * dice.normal(size=(90, 2))
    x, y = points.T.tolist()
    groups = [number // 3 for number in range(90)]
    found = agreement(x, y, 0.95, groups)
    assert (found.n, found.groups) == (90, 30)
    keep = [[i for i in range(90) if groups[i] != g] for g in range(30)]
    taus = [brute_force([x[i] for i in kept], [y[i] for i in kept]) for kept in keep]
    assert found.tau is not None
    jackknife = math.sqrt(29 / 30 * sum((t - sum(taus) / 30) ** 2 for t in taus)) / (1 - found.tau**2)
    assert jackknife > math.sqrt(0.437 / 26)
    assert found.high == pytest.approx(math.tanh(math.atanh(found.tau) + 1.959963985 * jackknife), abs=1e-9)
    apart = agreement(x, y, 0.95)
    assert apart.low is not None
    assert found.low is not None
    assert found.low < apart.low, "as if trials of one configuration were independent"


@pytest.mark.parametrize(
    ("n", "saturated", "correlation"), [(8, False, 0.0), (12, False, 0.8), (25, False, 0.5), (12, True, 0.8)]
)
def test_the_interval_holds_the_truth_about_as_often_as_it_says(
    n: int, saturated: bool, correlation: float
) -> None:
    # For normal pairs (Kendall); half of x cut off has no such formula.
    truth = None if saturated else 2 / math.pi * math.asin(correlation)
    dice = np.random.default_rng(n)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        x, noise = dice.normal(size=(2, count))
        y = correlation * x + math.sqrt(1 - correlation**2) * noise
        return (np.maximum(x, 0.0) if saturated else x), y

    if truth is None:
        (a, b), (c, d) = draw(400_000), draw(400_000)
        left, right = np.sign(a - c), np.sign(b - d)
        truth = float((left * right).mean() / math.sqrt(abs(left).mean() * abs(right).mean()))
    drawn = [draw(n) for _ in range(400)]
    found = [agreement(x.tolist(), y.tolist(), 0.95) for x, y in drawn]
    held = [
        each.low <= truth <= each.high for each in found if each.low is not None and each.high is not None
    ]
    # Four standard errors of a share of .95 among 400 are .044.
    assert len(held) > 390
    assert sum(held) / len(held) >= 0.95 - 0.044


@pytest.mark.parametrize(("count", "of"), [(0, 5), (1, 5), (5, 5), (3, 40)])
def test_the_interval_of_a_share_leaves_just_a_fortieth_on_either_side(count: int, of: int) -> None:
    def at_most(k: int, p: float) -> float:
        return sum(math.comb(of, i) * p**i * (1 - p) ** (of - i) for i in range(k + 1))

    low, high = share_interval(count, of, 0.95)
    if count > 0:
        assert 1 - at_most(count - 1, low) == pytest.approx(0.025, abs=1e-9)
    else:
        assert low == 0.0
    if count < of:
        assert at_most(count, high) == pytest.approx(0.025, abs=1e-9)
    else:
        assert high == 1.0
