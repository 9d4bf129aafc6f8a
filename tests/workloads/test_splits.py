"""Stratified splits, chosen classes, and the sizes that a plan announces."""

from __future__ import annotations

import numpy as np
import pytest

from workloads.data.images import Images
from workloads.data.randomness import generator
from workloads.data.sizes import share
from workloads.data.splits import select_classes, stratified, without_classes


def _images(counts: list[int]) -> Images:
    """Images that hold their own index, labels shuffled."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    pixels = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return Images(pixels, labels)


def test_a_split_takes_the_same_share_of_every_class_and_loses_nothing() -> None:
    images = _images([100, 50, 31])
    rest, taken = stratified(images, 0.2, generator("test"))
    assert np.bincount(taken.labels).tolist() == [20, 10, 6]
    assert np.bincount(rest.labels).tolist() == [80, 40, 25]
    both = np.concatenate([rest.images, taken.images]).ravel()
    assert sorted(both.tolist()) == list(range(181))


def test_split_images_keep_their_labels() -> None:
    images = _images([30, 30])
    for part in stratified(images, 0.3, generator("test")):
        np.testing.assert_array_equal(part.labels, images.labels[part.images.ravel()])


def test_another_seed_takes_other_images() -> None:
    images = _images([50, 50])
    first, second = (stratified(images, 0.5, generator("test", seed))[1].images for seed in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \(0, 1\)"):
        stratified(_images([5, 5]), fraction, generator("test"))


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="class 1 has 1"):
        stratified(_images([5, 1]), 0.5, generator("test"))


@pytest.mark.parametrize(
    ("count", "fraction", "expected"),
    [(10, 0.25, 3), (10, 0.24, 2), (100, 0.001, 1), (10, 0.999, 9), (2, 0.5, 1)],
)
def test_a_share_is_rounded_and_leaves_at_least_one_on_each_side(
    count: int, fraction: float, expected: int
) -> None:
    assert share(count, fraction) == expected


def test_chosen_classes_are_relabelled_in_the_order_given() -> None:
    images = _images([4, 3, 2])
    chosen = select_classes(images, (2, 0))
    original = images.labels[chosen.images.ravel()]
    assert np.bincount(chosen.labels).tolist() == [2, 4]
    np.testing.assert_array_equal(original, np.array([2, 0])[chosen.labels])


def test_the_other_classes_are_all_that_is_left() -> None:
    others = without_classes(_images([4, 3, 2]), (2, 0))
    assert others.labels.tolist() == [1, 1, 1]
