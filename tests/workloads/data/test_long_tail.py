"""Long-tailed subsets: how many images each class keeps, and which."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal, getcontext
from typing import get_args

import numpy as np
import pytest

from workloads.data.images import Labels
from workloads.data.long_tail import Profile, ldam_counts, long_tail_counts, long_tail_index

PROFILES: tuple[Profile, ...] = get_args(Profile)


def _labels(counts: Sequence[int]) -> Labels:
    """Labels in a shuffled order."""
    labels: Labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return labels


@pytest.mark.parametrize(
    ("per_class", "num_classes", "factor", "total"),
    [(5000, 10, 100, 12406), (5000, 10, 10, 20431), (500, 100, 100, 10847), (500, 100, 10, 19573)],
)
def test_exponential_tails_have_the_published_number_of_images(
    per_class: int, num_classes: int, factor: float, total: int
) -> None:
    counts = ldam_counts(per_class, num_classes, "exp", factor)
    assert sum(counts) == total
    assert (len(counts), counts[0], counts[-1]) == (num_classes, per_class, per_class // factor)


def test_the_counts_of_long_tailed_cifar_10_are_cut_off_and_not_rounded() -> None:
    # By hand: 5000 * 0.01 ** (4 / 9) = 645.77, which rounding would make 646; likewise 232.08, 139.13.
    assert ldam_counts(5000, 10, "exp", 100) == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)


@pytest.mark.parametrize(
    ("per_class", "num_classes", "factor"), [(5000, 10, 100), (500, 100, 10), (1300, 7, 30)]
)
def test_exponential_counts_agree_with_decimals_of_fifty_digits(
    per_class: int, num_classes: int, factor: int
) -> None:
    getcontext().prec = 50
    # 1e-9 keeps whole results, which the last digit of a power may miss.
    exact = [
        int(Decimal(per_class) * (-Decimal(factor).ln() * i / (num_classes - 1)).exp() + Decimal("1e-9"))
        for i in range(num_classes)
    ]
    assert list(ldam_counts(per_class, num_classes, "exp", factor)) == exact


def test_the_first_half_of_a_step_is_full_and_the_second_small() -> None:
    assert ldam_counts(5000, 10, "step", 100) == (5000,) * 5 + (50,) * 5


def test_the_last_class_of_an_odd_step_is_small_and_not_dropped() -> None:
    assert ldam_counts(70, 5, "step", 10) == (70, 70, 7, 7, 7)


def test_a_mean_class_size_that_is_no_whole_number_is_cut_off_after_the_product() -> None:
    # 10.9, 10.9 / 2 = 5.45, and 10.9 / 4 = 2.725; cut off before, the second would still be 5 and the last 2.
    assert ldam_counts(10.9, 3, "exp", 4) == (10, 5, 2)
    # 7.9 / 1.3 = 6.08, while 7 / 1.3 = 5.38.
    assert ldam_counts(7.9, 2, "step", 1.3) == (7, 6)


@pytest.mark.parametrize("profile", PROFILES)
def test_factor_1_keeps_everything_of_equal_classes(profile: Profile) -> None:
    assert ldam_counts(37, 4, profile, 1) == (37,) * 4
    assert long_tail_counts([37] * 4, profile, 1) == (37,) * 4


@pytest.mark.parametrize("profile", PROFILES)
def test_equal_classes_get_exactly_the_counts_of_the_source(profile: Profile) -> None:
    sizes, classes, factors = (
        (5000, 4999, 1300, 500, 271),
        (2, 3, 7, 10, 100),
        (1, 1.5, 3, 7, 10, 49, 100, 271),
    )
    for size, count, factor in itertools.product(sizes, classes, factors):
        expected = ldam_counts(size, count, profile, factor)
        if min(expected) > 0:
            assert long_tail_counts([size] * count, profile, factor) == expected


def test_unequal_classes_are_limited_by_the_scarcest_one() -> None:
    # Shares 1, 1/2, 1/4: the limits are 100, 60 and 80, so n_max is 60.
    assert long_tail_counts([100, 30, 20], "exp", 4) == (60, 30, 15)
    # Shares 1, 1/10, 1/10: the limits are 90, 500 and 40.
    assert long_tail_counts([90, 50, 4], "step", 10) == (40, 4, 4)


def test_no_class_is_asked_for_more_than_it_has_and_the_scarcest_keeps_all() -> None:
    rng = np.random.default_rng(0)
    for profile, _ in itertools.product(PROFILES, range(1500)):
        available = rng.integers(200, 1000, size=int(rng.integers(2, 12))).tolist()
        kept = long_tail_counts(available, profile, float(rng.uniform(1, 50)))
        assert all(count <= have for count, have in zip(kept, available, strict=True))
        assert any(count == have for count, have in zip(kept, available, strict=True))
        assert list(kept) == sorted(kept, reverse=True)


def test_rounding_never_costs_a_class_its_only_image() -> None:
    # The limit of class 1 times its share falls short of its one image in floats.
    assert 1 / (1 / 93) * (1 / 93) < 1
    assert long_tail_counts([100, 1], "exp", 93) == (93, 1)


def test_a_class_left_without_images_is_named_with_the_largest_factor_that_works() -> None:
    with pytest.raises(ValueError, match=r"exp and factor 100 leaves class 3 .* allow is 20$"):
        long_tail_counts([20] * 5, "exp", 100)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("available", [(20, 20, 20), (300, 9, 40), (7, 50, 2, 90), (49, 49)])
def test_the_factor_advised_works_and_the_next_does_not(profile: Profile, available: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="leaves class") as refused:
        long_tail_counts(available, profile, 1234.5)
    advised = int(str(refused.value).rsplit(" ", 1)[1])
    assert min(long_tail_counts(available, profile, advised)) == 1
    with pytest.raises(ValueError, match=f"allow is {advised}$"):
        long_tail_counts(available, profile, advised + 1)


def test_a_class_that_never_had_an_image_is_named() -> None:
    with pytest.raises(ValueError, match="class 2 has 0"):
        long_tail_counts([5, 5, 0, 5], "exp", 2)


@pytest.mark.parametrize("factor", [0.99, 0.0, -2.0, float("nan"), float("inf")])
def test_a_factor_that_is_below_1_or_not_finite_is_refused(factor: float) -> None:
    for profile in PROFILES:
        with pytest.raises(ValueError, match="finite number >= 1; got"):
            ldam_counts(50, 3, profile, factor)
        with pytest.raises(ValueError, match="finite number >= 1; got"):
            long_tail_counts([50] * 3, profile, factor)


@pytest.mark.parametrize("num_classes", [0, 1])
def test_fewer_than_two_classes_have_no_tail(num_classes: int) -> None:
    with pytest.raises(ValueError, match=f"2 classes or more; got {num_classes}"):
        ldam_counts(50, num_classes, "exp", 2)
    with pytest.raises(ValueError, match=f"2 classes or more; got {num_classes}"):
        long_tail_counts([50] * num_classes, "step", 2)


def test_other_profiles_and_sizes_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="exp or step; got 'linear'"):
        ldam_counts(50, 3, "linear", 2)  # type: ignore[arg-type]
    for size in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite number > 0; got"):
            ldam_counts(size, 3, "exp", 2)


def test_as_many_images_of_every_class_are_kept_as_asked_in_their_order() -> None:
    labels = _labels([30, 20, 10, 5])
    index = long_tail_index(labels, (30, 7, 1, 0), 0)
    assert index.dtype == np.int64
    assert np.bincount(labels[index], minlength=4).tolist() == [30, 7, 1, 0]
    assert (np.diff(index) > 0).all()


def test_smaller_counts_keep_a_subset_of_what_larger_counts_keep() -> None:
    labels = _labels([40, 40, 40])
    steps = [
        set(long_tail_index(labels, counts, 3).tolist()) for counts in [(5, 1, 2), (9, 20, 2), (40, 21, 30)]
    ]
    assert steps[0] < steps[1] < steps[2]


def test_what_a_class_keeps_depends_on_no_other_count() -> None:
    labels = _labels([40, 40])
    few, many = (long_tail_index(labels, (count, 11), 0) for count in (1, 30))
    assert set(few[labels[few] == 1].tolist()) == set(many[labels[many] == 1].tolist())


def test_another_seed_or_class_draws_other_images() -> None:
    labels = np.repeat(np.arange(2), 60)
    drawn = [long_tail_index(labels, (30, 30), seed) for seed in (0, 1)]
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0][:30] != drawn[0][30:] - 60).any()


def test_every_image_of_a_class_is_as_likely_to_be_kept() -> None:
    labels = np.repeat(np.arange(2), 8)
    kept = np.zeros(16)
    for seed in range(1000):
        kept[long_tail_index(labels, (2, 6), seed)] += 1
    # Binomial with 1000 draws: five standard errors of a share of 1/4 or 3/4.
    tolerance = 5 * np.sqrt(0.25 * 0.75 / 1000)
    np.testing.assert_allclose(kept / 1000, np.repeat([0.25, 0.75], 8), atol=tolerance)


def test_the_images_kept_for_a_seed_are_those_of_earlier_versions() -> None:
    # Golden: studies of different dates compare the same images.
    assert long_tail_index(np.repeat(np.arange(2), 10), (4, 3), 0).tolist() == [0, 1, 5, 7, 10, 14, 17]


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(ValueError, match="class 1 has 3 images; it cannot keep 4"):
        long_tail_index(_labels([5, 3]), (5, 4), 0)


def test_a_negative_count_is_refused() -> None:
    with pytest.raises(ValueError, match="class 0 has 5 images; it cannot keep -1"):
        long_tail_index(_labels([5, 3]), (-1, 3), 0)


@pytest.mark.parametrize("stranger", [-1, 2])
def test_a_label_without_a_count_is_refused(stranger: int) -> None:
    with pytest.raises(ValueError, match=r"labels must be 0\.\.1"):
        long_tail_index(np.array([0, 1, stranger]), (1, 1), 0)
