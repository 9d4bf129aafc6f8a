"""Metrics of unequally frequent classes: by hand, and against scikit-learn and the calibration metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from workloads.evaluation.calibration import calibration_metrics
from workloads.evaluation.imbalance import class_groups, grouping, imbalance_metrics, imbalance_notes

Array = npt.NDArray[Any]

CIFAR10_LT = [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]
"""CIFAR-10 with a ratio of 100 between the most and the least frequent class."""
LEFT_OUT = 4
"""The class of the fixture that has no test image."""


def _sure_of(predicted: list[int], classes: int, height: float = 3.0) -> Array:
    return height * np.eye(classes)[predicted]


@pytest.fixture
def noisy() -> tuple[Array, Array, list[int]]:
    """300 images of 7 classes, unequally many, none of class 4, and half of them misread."""
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 1, 2, 3, 5, 6], size=300, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.05])
    logits = rng.normal(size=(300, 7)) * 1.5
    logits[np.arange(300), labels] += 1.5
    return logits, labels, [500, 300, 19, 100, 90, 20, 5]


def test_exactly_100_images_are_medium_and_exactly_20_are_not_few() -> None:
    assert class_groups([101, 19, 100, 20, 5000, 0]) == {"many": (0, 4), "medium": (2, 3), "few": (1, 5)}
    assert grouping([101, 19, 100, 20, 5000, 0]) == "published"


@pytest.mark.parametrize("counts", [[101, 100, 20], [101, 102, 19], [100, 20, 19]])
def test_a_group_without_a_class_makes_thirds(counts: list[int]) -> None:
    assert grouping(counts) == "thirds"
    assert all(len(members) == 1 for members in class_groups(counts).values())


def test_long_tailed_cifar_10_is_cut_into_four_three_and_three_classes() -> None:
    assert class_groups(CIFAR10_LT) == {"many": (0, 1, 2, 3), "medium": (4, 5, 6), "few": (7, 8, 9)}
    assert class_groups(CIFAR10_LT[::-1]) == {"many": (6, 7, 8, 9), "medium": (3, 4, 5), "few": (0, 1, 2)}


def test_of_equally_many_images_the_lower_index_comes_first() -> None:
    assert class_groups([7, 9, 9, 9, 7]) == {"many": (1, 2), "medium": (0, 3), "few": (4,)}
    assert class_groups([50] * 6) == {"many": (0, 1), "medium": (2, 3), "few": (4, 5)}
    assert class_groups([8, 9]) == {"many": (1,), "medium": (0,), "few": ()}


def test_every_class_is_in_one_group_and_none_of_a_later_one_has_more_images() -> None:
    rng = np.random.default_rng(0)
    rules = set()
    for _ in range(200):
        counts = rng.integers(0, rng.choice([15, 150, 1500]), size=rng.integers(3, 12)).tolist()
        rules.add(grouping(counts))
        groups = class_groups(counts)
        assert sorted(sum(groups.values(), ())) == list(range(len(counts)))
        many, medium, few = ([counts[c] for c in groups[name]] for name in ("many", "medium", "few"))
        assert min(many) >= max(medium)
        assert min(medium) >= max(few)
    assert rules == {"published", "thirds"}


def test_a_hand_computed_example() -> None:
    # Class 0: 3 of 4 right, 1: 1 of 2, 2: 0 of 1. Predictions: 4, 2 and 1, which is wrong.
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    logits = _sure_of([0, 0, 0, 2, 1, 0, 1], 3)
    sure = np.exp(3.0) / (np.exp(3.0) + 2.0)
    metrics = imbalance_metrics(logits, labels, [200, 50, 4], 15)
    assert metrics == {
        "imbalance/balanced_accuracy": pytest.approx((0.75 + 0.5 + 0.0) / 3, abs=1e-15),
        "imbalance/accuracy/many": 0.75,
        "imbalance/accuracy/medium": 0.5,
        "imbalance/accuracy/few": 0.0,
        "imbalance/worst_class": 0.0,
        "imbalance/macro_f1": pytest.approx((2 * 3 / 8 + 2 * 1 / 4 + 0.0) / 3, abs=1e-15),
        "imbalance/g_mean": 0.0,
        "imbalance/ece_15/many": pytest.approx(sure - 0.75, abs=1e-15),
        "imbalance/ece_15/medium": pytest.approx(sure - 0.5, abs=1e-15),
        "imbalance/ece_15/few": pytest.approx(sure, abs=1e-15),
        "imbalance/recall/0": 0.75,
        "imbalance/recall/1": 0.5,
        "imbalance/recall/2": 0.0,
        "imbalance/train_images/0": 200.0,
        "imbalance/train_images/1": 50.0,
        "imbalance/train_images/2": 4.0,
    }


def test_the_geometric_mean_is_the_root_of_the_product_and_does_not_underflow() -> None:
    # Recalls 1, 1/2 and 1/4: the cube root of 1/8.
    labels = np.array([0, 1, 1, 2, 2, 2, 2])
    logits = _sure_of([0, 1, 0, 2, 0, 0, 0], 3)
    assert imbalance_metrics(logits, labels, [3, 2, 1], 15)["imbalance/g_mean"] == pytest.approx(
        0.5, abs=1e-15
    )
    # Of 1200 classes each but class 0 is right once in two: .5 to the power of 1199 is 0 as a float.
    labels = np.repeat(np.arange(1200), 2)
    predicted = np.where(np.arange(2400) % 2, 0, labels)
    g_mean = imbalance_metrics(np.eye(1200)[predicted], labels, [1] * 1200, 15)["imbalance/g_mean"]
    # The rounding of a mean of 1200 logarithms.
    assert g_mean == pytest.approx(0.5 ** (1199 / 1200), abs=1e-12)


def test_recall_balanced_accuracy_and_f1_agree_with_scikit_learn(
    noisy: tuple[Array, Array, list[int]],
) -> None:
    logits, labels, counts = noisy
    predicted, present = logits.argmax(axis=1), np.unique(labels)
    assert LEFT_OUT in predicted
    metrics = imbalance_metrics(logits, labels, counts, 15)
    recalls = recall_score(labels, predicted, labels=present, average=None)
    # Sums of a few quotients of whole numbers.
    for c, recall in zip(present, recalls, strict=True):
        assert metrics[f"imbalance/recall/{c}"] == pytest.approx(recall, abs=1e-14)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = balanced_accuracy_score(labels, predicted)
    assert metrics["imbalance/balanced_accuracy"] == pytest.approx(balanced, abs=1e-14)
    assert metrics["imbalance/worst_class"] == pytest.approx(recalls.min(), abs=1e-14)
    assert metrics["imbalance/g_mean"] == pytest.approx(recalls.prod() ** (1 / 6), abs=1e-14)
    f1 = f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert metrics["imbalance/macro_f1"] == pytest.approx(f1, abs=1e-14)


def test_the_f1_of_a_class_that_is_never_predicted_is_0_as_in_scikit_learn() -> None:
    labels, predicted = np.array([0, 0, 1, 2, 2]), [0, 1, 1, 0, 1]
    f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    found = imbalance_metrics(_sure_of(predicted, 3), labels, [3, 2, 1], 15)["imbalance/macro_f1"]
    assert found == pytest.approx(f1, abs=1e-15)
    assert found == pytest.approx((2 * 1 / 4 + 2 * 1 / 4) / 3, abs=1e-15)


@pytest.mark.parametrize("bins", [5, 15])
def test_a_group_is_measured_as_if_it_had_the_only_test_images(
    noisy: tuple[Array, Array, list[int]], bins: int
) -> None:
    logits, labels, counts = noisy
    metrics = imbalance_metrics(logits, labels, counts, bins)
    for name, members in {"many": [0, 1], "medium": [3, 4, 5], "few": [2, 6]}.items():
        mine = np.array([label in members for label in labels])
        error = calibration_metrics(logits[mine], labels[mine], 1.0, bins)[f"ece_{bins}"]
        # The same softmax and the same bins; sums in the same order.
        assert metrics[f"imbalance/ece_{bins}/{name}"] == pytest.approx(error, abs=1e-14)
        balanced = recall_score(
            labels[mine], logits[mine].argmax(axis=1), labels=np.unique(labels[mine]), average="macro"
        )
        assert metrics[f"imbalance/accuracy/{name}"] == pytest.approx(balanced, abs=1e-14)


def test_on_equally_many_test_images_a_class_recalls_average_to_accuracies() -> None:
    rng = np.random.default_rng(1)
    labels = np.tile(np.arange(10), 40)
    logits = rng.normal(size=(400, 10)) + 2.0 * np.eye(10)[labels]
    right = logits.argmax(axis=1) == labels
    metrics = imbalance_metrics(logits, labels, CIFAR10_LT, 15)
    assert metrics["imbalance/balanced_accuracy"] == pytest.approx(right.mean(), abs=1e-14)
    assert metrics["imbalance/accuracy/many"] == pytest.approx(right[labels < 4].mean(), abs=1e-14)
    assert metrics["imbalance/accuracy/few"] == pytest.approx(right[labels > 6].mean(), abs=1e-14)


def test_a_class_without_a_test_image_has_no_recall_and_is_in_no_mean() -> None:
    # All seen classes are right, but for one image that goes to the unseen class 1.
    labels = np.array([0, 0, 2, 2])
    metrics = imbalance_metrics(_sure_of([0, 1, 2, 2], 3), labels, [200, 50, 4], 15)
    assert "imbalance/recall/1" not in metrics
    assert metrics["imbalance/train_images/1"] == 50.0
    assert metrics["imbalance/balanced_accuracy"] == 0.75
    assert metrics["imbalance/worst_class"] == 0.5
    assert metrics["imbalance/g_mean"] == pytest.approx(0.5**0.5, abs=1e-15)
    assert metrics["imbalance/macro_f1"] == pytest.approx((2 / 3 + 1) / 2, abs=1e-15)
    assert {name for name in metrics if name.endswith("/medium")} == set()
    assert metrics["imbalance/accuracy/few"] == 1.0


def test_the_order_of_images_and_the_offset_and_height_of_logits_change_nothing() -> None:
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, size=50)
    counts = [300, 60, 60, 2]
    metrics = imbalance_metrics(logits, labels, counts, 15)
    order = rng.permutation(50)
    # An offset as large as 1e6 costs ten digits of the logits.
    assert imbalance_metrics(logits[order] + 1e6, labels[order], counts, 15) == pytest.approx(
        metrics, abs=1e-8
    )
    huge = imbalance_metrics(1e6 * logits, labels, counts, 15)
    assert {n: v for n, v in huge.items() if "ece" not in n} == {
        n: v for n, v in metrics.items() if "ece" not in n
    }
    # Every confidence is 1 then, and the error the error rate.
    wrong = (logits.argmax(axis=1) != labels)[labels == 0].mean()
    assert huge["imbalance/ece_15/many"] == pytest.approx(wrong, abs=1e-14)


def test_notes_say_what_the_groups_are_and_which_classes_were_not_measured() -> None:
    every = np.arange(10)
    assert imbalance_notes(every[:4], [500, 50, 100, 5]) == []
    (thirds,) = imbalance_notes(every, CIFAR10_LT)
    assert "thirds of the classes" in thirds
    (equal,) = imbalance_notes(every, [500] * 10)
    assert "groups by class index" in equal
    (absent,) = imbalance_notes(np.array([0, 2, 2]), [500, 50, 100, 5])
    assert absent.startswith("class 1, 3: without a test image")
    (many,) = imbalance_notes(np.array([0]), [500, 50, *range(12)])
    assert many.startswith("class 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 3 more: ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda Z, y, n: imbalance_metrics(Z, y + 1, n, 15), r"labels must be in 0\.\.2; got 1\.\.3"),
        (lambda Z, y, n: imbalance_metrics(Z, y - 1, n, 15), r"labels must be in 0\.\.2; got -1\.\.1"),
        (lambda Z, y, n: imbalance_metrics(Z, y[1:], n, 15), "one label an image; got 3"),
        (lambda Z, y, n: imbalance_metrics(Z, y[:, None], n, 15), r"shape \[images\]"),
        (lambda Z, y, n: imbalance_metrics(Z, y, n[1:], 15), "got 2 for 3 classes"),
        (lambda Z, y, n: imbalance_metrics(Z[:0], y[:0], n, 15), "one or more"),
        (lambda Z, y, n: imbalance_metrics(Z[0], y, n, 15), r"shape \[images, classes\]"),
        (lambda Z, y, n: imbalance_metrics(Z * np.nan, y, n, 15), "finite"),
        (lambda Z, y, n: imbalance_metrics(Z, y, n, 0), "number of bins"),
        (lambda Z, y, n: imbalance_metrics(Z, y, [9, -1, 2], 15), "must be >= 0; got -1"),
        (lambda Z, y, n: class_groups([]), r"one number of training images a class; got \[0\]"),
        (lambda Z, y, n: grouping([3, -2]), "must be >= 0; got -2"),
        (lambda Z, y, n: imbalance_notes(y + 1, n), r"labels must be in 0\.\.2; got 1\.\.3"),
        (lambda Z, y, n: imbalance_notes(y[:0], n), "one or more"),
    ],
)
def test_input_that_makes_no_sense_is_refused(
    call: Callable[[Array, Array, list[int]], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        call(_sure_of([0, 1, 2, 2], 3), np.array([0, 1, 2, 2]), [200, 50, 4])
