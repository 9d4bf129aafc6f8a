"""The power of the paired comparison, against scipy's distributions and against simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from orchestrator.study.power import detectable_effect, smallest_p

# At two seeds and a smaller alpha scipy's own non-central t is wrong from the eighth to the third digit.
CASES = [(2, 0.05), *((n, a) for n in (3, 4, 5, 6, 8, 10, 15, 20, 30) for a in (0.05, 0.05 / 2, 0.05 / 4))]


@pytest.mark.parametrize(("seeds", "alpha"), CASES)
def test_the_detectable_effect_has_the_power_that_scipys_non_central_t_gives(
    seeds: int, alpha: float
) -> None:
    shift = detectable_effect(seeds, alpha, power=0.8) * math.sqrt(seeds)
    critical = stats.t.isf(alpha / 2, seeds - 1)
    power = stats.nct.sf(critical, seeds - 1, shift) + stats.nct.cdf(-critical, seeds - 1, shift)
    # Both sides are numerical integrals, good to about 1e-10.
    assert power == pytest.approx(0.8, abs=1e-8)


def test_the_detectable_effect_is_found_that_often_in_simulated_studies() -> None:
    effect = detectable_effect(5)
    differences = np.random.default_rng(0).normal(effect, 1.0, size=(40_000, 5))
    found = stats.ttest_1samp(differences, 0.0, axis=1).pvalue < 0.05
    # Four standard errors of a share of 0.8 over 40,000 studies.
    assert found.mean() == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 40_000))


@pytest.mark.parametrize("seeds", [3, 5, 6, 8])
def test_the_smallest_p_is_what_the_exact_wilcoxon_test_gives_when_all_pairs_agree(seeds: int) -> None:
    agreeing = np.arange(1, seeds + 1, dtype=float)
    assert smallest_p(seeds) == pytest.approx(stats.wilcoxon(agreeing, method="exact").pvalue, rel=1e-12)


def test_one_seed_can_show_nothing() -> None:
    assert smallest_p(1) == 1.0
    with pytest.raises(ValueError, match="at least two seeds; got 1"):
        detectable_effect(1)
