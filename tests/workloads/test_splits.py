"""Stratified splits, chosen classes, and the sizes that a plan announces."""

from __future__ import annotations

import numpy as np
import pytest

from workloads.data.images import Labels
from workloads.data.randomness import generator
from workloads.data.sizes import share
from workloads.data.splits import select_classes, stratified, without_classes


def _labels(counts: list[int]) -> Labels:
    """Labels in a shuffled order."""
    labels: Labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    return labels


def test_a_split_takes_the_same_share_of_every_class_and_loses_nothing() -> None:
    labels = _labels([100, 50, 31])
    rest, taken = stratified(labels, 0.2, generator("test"))
    assert np.bincount(labels[taken]).tolist() == [20, 10, 6]
    assert np.bincount(labels[rest]).tolist() == [80, 40, 25]
    assert sorted(np.concatenate([rest, taken]).tolist()) == list(range(181))


def test_both_sides_of_a_split_are_in_the_order_of_the_images() -> None:
    for side in stratified(_labels([30, 30]), 0.3, generator("test")):
        assert (np.diff(side) > 0).all()


def test_another_seed_takes_other_images() -> None:
    labels = _labels([50, 50])
    first, second = (stratified(labels, 0.5, generator("test", seed))[1] for seed in (0, 1))
    assert (first != second).any()


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    labels = _labels([50, 50])
    small, large = (set(stratified(labels, f, generator("test"))[1].tolist()) for f in (0.1, 0.4))
    assert small < large


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \(0, 1\)"):
        stratified(_labels([5, 5]), fraction, generator("test"))


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="class 1 has 1"):
        stratified(_labels([5, 1]), 0.5, generator("test"))


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(10, 0.25, 3), (10, 0.24, 2), (100, 0.001, 1), (10, 0.999, 9), (2, 0.5, 1)],
)
def test_a_share_is_rounded_and_leaves_at_least_one_on_each_side(
    count: int, fraction: float, expected: int
) -> None:
    assert share(count, fraction) == expected


def test_chosen_classes_are_relabelled_in_the_order_given() -> None:
    labels = _labels([4, 3, 2])
    index, chosen = select_classes(labels, (2, 0))
    assert np.bincount(chosen).tolist() == [2, 4]
    np.testing.assert_array_equal(labels[index], np.array([2, 0])[chosen])


def test_the_other_classes_are_all_that_is_left() -> None:
    labels = _labels([4, 3, 2])
    assert labels[without_classes(labels, (2, 0))].tolist() == [1, 1, 1]
