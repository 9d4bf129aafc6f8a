"""What the detectors learn of the training images and of the head.

Sums over the training images go class by class or block by block, so that float32 features are summed in
float64 without a float64 copy of them all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.evaluation.evidence import DoesNotFit, Evidence, Floats, Head, Labels

HEAD_TOLERANCE = 1e-3
"""How far the head's logits may be from the model's, as a share of the largest: above the rounding of a
16-bit or TF32 product, below what any loss does to its logits on purpose."""
HEAD_SAMPLE = 1000
BLOCK = 8192


def checked_features(evidence: Evidence) -> npt.NDArray[Any]:
    """The features as they are.

    Raises: ValueError where they are not [images, features], one row a row of logits, or not finite.
    """
    X = np.asarray(evidence.features)
    if X.ndim != 2 or len(X) != len(evidence):
        raise ValueError(f"features must have shape [{len(evidence)} images, features]; got {list(X.shape)}")
    if not np.isfinite(X).all():
        raise ValueError("features must be finite; got NaN or infinity")
    return X


def training_images(train: Evidence | None, detector: str) -> Evidence:
    """``train``, which has at least one image and good features.

    Raises: DoesNotFit without training images; ValueError as :func:`checked_features`.
    """
    if train is None or not len(train):
        raise DoesNotFit(f"{detector} is fitted to training images; got none")
    checked_features(train)
    return train


def training_labels(train: Evidence, detector: str) -> Labels:
    """The labels of the training images.

    Raises: DoesNotFit where they are missing; ValueError where they are not one class index an image.
    """
    if train.labels is None:
        raise DoesNotFit(f"{detector} needs the labels of the training images; got none")
    labels = np.asarray(train.labels)
    if labels.shape != (len(train),):
        raise ValueError(f"labels must have shape [{len(train)}]; got {list(labels.shape)}")
    if labels.min() < 0 or labels.max() >= train.Z.shape[1]:
        raise ValueError(f"labels must be in 0..{train.Z.shape[1] - 1}; got {labels.min()}..{labels.max()}")
    return labels.astype(np.int64)


def blocks(features: npt.NDArray[Any]) -> Iterator[Floats]:
    """The rows in float64, at most 8192 at a time."""
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK].astype(np.float64)


def scaled_head(train: Evidence, head: Head, detector: str) -> tuple[Floats, Floats]:
    """W, [classes, features], and b, [classes], with XW' + b = the logits that all other scores rank.

    A loss may hand out its logits times one positive factor; W and b are then multiplied by it.

    Raises: DoesNotFit for a cosine or GODIN head, and where XW' + b differs from the logits of (up to 1000)
        training images by more than 0.001 of the largest logit, whatever the factor.
    """
    if head.kind != "linear":
        raise DoesNotFit(
            f"{detector} goes through a linear head, XW' + b; the logits of a {head.kind} head are no linear "
            "function of the features"
        )
    W = np.asarray(head.weight, dtype=np.float64)
    b = np.zeros(len(W)) if head.bias is None else np.asarray(head.bias, dtype=np.float64)
    rows = np.unique(np.linspace(0, len(train) - 1, HEAD_SAMPLE).astype(np.int64))
    Z = train.Z[rows]
    linear = np.asarray(train.features)[rows].astype(np.float64) @ W.T + b
    largest = np.abs(Z).max()
    if np.abs(Z - linear).max() <= HEAD_TOLERANCE * largest:
        return W, b
    factor = float((linear * Z).sum() / (linear**2).sum()) if linear.any() else 0.0
    away = np.abs(Z - factor * linear).max() / largest if largest else np.inf
    if not (factor > 0.0 and away <= HEAD_TOLERANCE):
        raise DoesNotFit(
            f"{detector} goes through the head, so XW' + b must be the model's logits up to one positive "
            f"factor; after the best one ({factor:.3g}) they differ by {away:.2g} of the largest logit"
        )
    return factor * W, factor * b


@dataclass(frozen=True)
class ClassMoments:
    """First and second moments of the training features."""

    mean: Floats
    """Of all images, [features]."""
    means: Floats
    """Of the classes that occur, [classes that occur, features]."""
    within: Floats
    """Covariance about the class means, over all N images, divided by N, [features, features]."""
    between: Floats
    """Covariance of the class means about the mean, each weighing as its images; within + between is the
    covariance of all."""


def class_moments(train: Evidence, detector: str) -> ClassMoments:
    """Moments of the training features, summed in float64 about their own means.

    Raises: as :func:`training_images` and :func:`training_labels`.
    """
    labels = training_labels(train, detector)
    X = np.asarray(train.features)
    present, counts = np.unique(labels, return_counts=True)
    means = np.empty((len(present), X.shape[1]))
    within = np.zeros((X.shape[1], X.shape[1]))
    for i, label in enumerate(present):
        rows = X[labels == label].astype(np.float64)
        means[i] = rows.mean(axis=0)
        rows -= means[i]
        within += rows.T @ rows
    mean: Floats = counts @ means / len(X)
    offsets = means - mean
    between: Floats = (offsets.T * counts) @ offsets / len(X)
    return ClassMoments(mean, means, within / len(X), between)


@dataclass(frozen=True)
class Whitening:
    """Coordinates in which a Gaussian is the unit one: squared lengths are Mahalanobis distances."""

    origin: Floats
    axes: Floats
    """[features, rank of the covariance]."""

    def __call__(self, features: Floats) -> Floats:
        """[rows, features] to [rows, rank]."""
        coordinates: Floats = (features - self.origin) @ self.axes
        return coordinates


def whitening(origin: Floats, covariance: Floats, detector: str) -> Whitening:
    """Whitening by the pseudo-inverse of a covariance.

    Directions whose variance is not above D machine epsilons of the largest (D features) are rounding, and
    are left out: a deviation along them counts nothing.

    Raises: DoesNotFit where no direction is left.
    Source: the rule of ``scipy.linalg.pinvh``, which scikit-learn's ``EmpiricalCovariance`` uses.
    """
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > len(covariance) * np.finfo(np.float64).eps * max(float(variances[-1]), 0.0)
    if not kept.any():
        raise DoesNotFit(f"{detector} needs features that vary; those of the training images do not")
    return Whitening(origin, directions[:, kept] / np.sqrt(variances[kept]))
