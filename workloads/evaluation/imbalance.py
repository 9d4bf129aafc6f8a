"""What a network that learned from unequally many images a class does for the frequent and the rare ones.

Every number but the calibration errors is a function of the recalls and the predictions of the classes, each
class weighing the same however many test images it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from workloads.evaluation.calibration_errors import expected_calibration_error

GROUPS = ("many", "medium", "few")
MANY_ABOVE = 100
"""Training images; a class of more has many."""
FEW_BELOW = 20
"""Training images; a class of fewer has few."""

_Floats = npt.NDArray[np.float64]
_Integers = npt.NDArray[np.int64]


def grouping(train_counts: Sequence[int]) -> Literal["published", "thirds"]:
    """Which rule :func:`class_groups` follows for these classes.

    Returns: ``published`` where each of its three groups has a class, else ``thirds``.
    Raises: ValueError for no classes, or a number of images below 0.
    """
    return "published" if all(_published(_checked_counts(train_counts)).values()) else "thirds"


def class_groups(train_counts: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """The classes of many, of medium and of few training images.

    Args:
        train_counts: training images of each class, [classes].
    Returns: class indices in rising order, each class in one of ``many`` (more than 100 images), ``medium``
        (20 to 100) and ``few`` (fewer than 20). Where one of them would be empty, the classes are sorted by
        their images instead, most first and the lower index first among equals, and cut into thirds; of 3 k
        + 1 or 3 k + 2 classes the first thirds are larger by one. Of two classes ``few`` is empty, of one
        ``medium`` too. Of equal classes the thirds are no more than an order of their indices.
    Raises: ValueError as :func:`grouping`.
    Source: Liu et al. 2019 (arXiv 1904.05160) for the three groups.
    Differs from source: the thirds, which it has no need of: the rarest class of the usual long-tailed
        CIFAR-10 has 50 images. The authors' code has a class of 100 images among many and one of 20 among
        few; here the text is followed.
    """
    counts = _checked_counts(train_counts)
    groups = _published(counts)
    if all(groups.values()):
        return groups
    thirds = np.array_split(np.argsort(-counts, kind="stable"), len(GROUPS))
    return {name: tuple(sorted(third.tolist())) for name, third in zip(GROUPS, thirds, strict=True)}


def imbalance_metrics(
    logits: npt.NDArray[Any], labels: npt.NDArray[Any], train_counts: Sequence[int], bins: int
) -> dict[str, float]:
    """Accuracy and calibration by class and by group of classes.

    The class of an image is predicted to be that of its highest logit, the lowest index of equal ones.

    Args:
        logits: [images, classes], of test images.
        labels: class indices, [images].
        train_counts: training images of each class, [classes].
        bins: number M of equal-width bins of the calibration errors; it is part of their names.
    Returns: by name, the recall of a class being the share of its test images that are predicted to be of it
        and <group> one of :func:`class_groups`:
        ``imbalance/balanced_accuracy``: mean of the recalls, 0..1; the accuracy on equally many test images
            a class;
        ``imbalance/accuracy/<group>``: mean of the recalls of the group's classes, 0..1; likewise the
            accuracy on their images, taken together, of equally many test images a class;
        ``imbalance/worst_class``: lowest recall, 0..1;
        ``imbalance/macro_f1``: mean over the classes of 2 hits / (test images + predictions), 0..1: the
            harmonic mean of precision and recall, 0 for a class that is never predicted;
        ``imbalance/g_mean``: geometric mean of the recalls, 0..1; 0 where one of them is;
        ``imbalance/ece_<M>/<group>``: :func:`expected_calibration_error` of the highest softmax probability,
            of the test images of the group's classes, 0..1;
        ``imbalance/recall/<class>``: by class index, 0..1;
        ``imbalance/train_images/<class>``: training images, of every class.
        A class without a test image has no recall: it is absent and left out of every mean, macro F1 too
        (what is wrongly predicted to be of it is missing in the recall of its own class). A group without
        test images is absent.
    Raises: ValueError for input that is empty, of other shapes or not finite, labels outside 0..classes - 1,
        a number of training images below 0, or M < 1.
    Source: Liu et al. 2019 (arXiv 1904.05160) for the groups; their code, too, averages recalls. Kubat and
        Matwin 1997 for the geometric mean, here of all classes; Naeini et al. 2015 for ECE.
    """
    Z, y, counts = _checked(logits, labels, train_counts)
    predicted = Z.argmax(axis=1)
    classes = Z.shape[1]
    images = np.bincount(y, minlength=classes)
    hits = np.bincount(y[predicted == y], minlength=classes)
    predictions = np.bincount(predicted, minlength=classes)
    present = np.flatnonzero(images)
    recalls: _Floats = hits[present] / images[present]
    f1: _Floats = 2.0 * hits[present] / (images + predictions)[present]
    metrics = {
        "imbalance/balanced_accuracy": float(recalls.mean()),
        "imbalance/worst_class": float(recalls.min()),
        "imbalance/macro_f1": float(f1.mean()),
        "imbalance/g_mean": _geometric_mean(recalls),
    }
    # The probability of the highest logit is 1 / (sum of exp(logit - highest)).
    surest: _Floats = 1.0 / np.exp(Z - Z.max(axis=1, keepdims=True)).sum(axis=1)
    correct = (predicted == y).astype(np.float64)
    for name, members in class_groups(train_counts).items():
        mine = np.isin(y, members)
        if mine.any():
            metrics[f"imbalance/accuracy/{name}"] = float(recalls[np.isin(present, members)].mean())
            error = expected_calibration_error(surest[mine], correct[mine], bins)
            metrics[f"imbalance/ece_{bins}/{name}"] = error
    metrics |= {f"imbalance/recall/{c}": float(r) for c, r in zip(present, recalls, strict=True)}
    metrics |= {f"imbalance/train_images/{c}": float(count) for c, count in enumerate(counts)}
    return metrics


def imbalance_notes(labels: npt.NDArray[Any], train_counts: Sequence[int]) -> list[str]:
    """What to know of the metrics of these test images, in sentences; empty where there is nothing.

    Args:
        labels: class indices of the test images, [images].
        train_counts: training images of each class, [classes].
    Raises: ValueError for labels that are none, not a row or outside 0..classes - 1, or as :func:`grouping`.
    """
    counts = _checked_counts(train_counts)
    y = _checked_labels(labels, len(counts))
    notes = []
    if counts.min() == counts.max():
        notes.append(
            "all classes have equally many training images: many, medium and few are groups by class index"
        )
    elif grouping(train_counts) == "thirds":
        notes.append(
            f"no class would be in one of many (> {MANY_ABOVE} training images), medium ({FEW_BELOW} to "
            f"{MANY_ABOVE}) and few (< {FEW_BELOW}): they are thirds of the classes instead"
        )
    absent = np.setdiff1d(np.arange(len(counts)), y)
    if len(absent):
        more = f" and {len(absent) - 10} more" if len(absent) > 10 else ""
        named = ", ".join(map(str, absent[:10]))
        notes.append(f"class {named}{more}: without a test image, left out of the imbalance metrics")
    return notes


def _published(counts: _Integers) -> dict[str, tuple[int, ...]]:
    many, few = counts > MANY_ABOVE, counts < FEW_BELOW
    members = (many, ~many & ~few, few)
    return {name: tuple(np.flatnonzero(of).tolist()) for name, of in zip(GROUPS, members, strict=True)}


def _geometric_mean(recalls: _Floats) -> float:
    if recalls.min() == 0.0:
        return 0.0
    # Logarithms: the product over a thousand classes would be too small for a float.
    return float(np.exp(np.log(recalls).mean()))


def _checked_counts(train_counts: Sequence[int]) -> _Integers:
    counts = np.asarray(train_counts, dtype=np.int64)
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"there must be one number of training images a class; got {list(counts.shape)}")
    if counts.min() < 0:
        raise ValueError(f"numbers of training images must be >= 0; got {counts.min()}")
    return counts


def _checked_labels(labels: npt.NDArray[Any], classes: int) -> _Integers:
    y = np.asarray(labels, dtype=np.int64)
    if y.ndim != 1 or not y.size:
        raise ValueError(f"labels must have shape [images], one or more; got {list(y.shape)}")
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"labels must be in 0..{classes - 1}; got {y.min()}..{y.max()}")
    return y


def _checked(
    logits: npt.NDArray[Any], labels: npt.NDArray[Any], train_counts: Sequence[int]
) -> tuple[_Floats, _Integers, _Integers]:
    Z = np.asarray(logits, dtype=np.float64)
    if Z.ndim != 2 or not Z.size:
        raise ValueError(f"logits must have shape [images, classes], one or more; got {list(Z.shape)}")
    if not np.isfinite(Z).all():
        raise ValueError("logits must be finite; got NaN or infinity")
    y, counts = _checked_labels(labels, Z.shape[1]), _checked_counts(train_counts)
    if len(y) != len(Z):
        raise ValueError(f"there must be one label an image; got {len(y)} for {list(Z.shape)} logits")
    if len(counts) != Z.shape[1]:
        raise ValueError(
            f"there must be one number of training images a class; got {len(counts)} for {Z.shape[1]} classes"
        )
    return Z, y, counts
