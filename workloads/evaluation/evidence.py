"""What a measured model says of images, as arrays: all that a score or a metric may look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from workloads.head import HeadKind

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]

BLOCK_NUMBERS = 2**16
"""Logits worked on at a time: half a megabyte, which stays in a core's cache."""


class DoesNotFit(ValueError):
    """A score that this head or these data do not allow; the others are not concerned."""


@dataclass(frozen=True)
class Head:
    """The last layer of the measured model, in numbers."""

    kind: HeadKind
    weight: npt.NDArray[np.float32]
    """W, [classes, features], not normalised."""
    bias: npt.NDArray[np.float32] | None = None
    """b, [classes]."""


@dataclass(frozen=True)
class LogitStatistics:
    """Numbers of each row of logits that the logit scores share, each [images].

    With p = softmax(Z), the largest p_max, and the *rest*: all classes but the one of the largest logit.
    """

    peak: Floats
    """The largest logit."""
    margin: Floats
    """log(p_max / (1 - p_max)): the largest logit minus logsumexp of the rest."""
    excess: Floats
    """-log(p_max), which is logsumexp of all logits minus the largest."""
    depth: Floats
    """Mean distance of the rest's logits below the largest, each weighed by its p."""


@dataclass(frozen=True)
class Evidence:
    """What the model says of one set of images."""

    logits: npt.NDArray[Any]
    """The loss's ``eval_logits``, [images, classes]: no margin, scale restored."""
    features: npt.NDArray[Any]
    """The head's input, [images, features]."""
    labels: Labels | None = None
    """Class indices, [images], where the set has them."""
    divisor: npt.NDArray[Any] | None = None
    """g of a GODIN head, [images]."""

    def __len__(self) -> int:
        return len(self.logits)

    @cached_property
    def Z(self) -> Floats:  # noqa: N802
        """The logits in float64.

        Raises: ValueError where they are not [images, two or more classes], or not finite.
        """
        Z = np.asarray(self.logits, dtype=np.float64)
        if Z.ndim != 2 or Z.shape[1] < 2:
            raise ValueError(f"logits must have shape [images, two or more classes]; got {list(Z.shape)}")
        if not np.isfinite(Z).all():
            raise ValueError("logits must be finite; got NaN or infinity")
        return Z

    @cached_property
    def statistics(self) -> LogitStatistics:
        """What the logit scores share, from one pass over the logits.

        Nothing here cancels or underflows: the rest is summed relative to its own largest logit, so that a
        row with 1 - p_max = 1e-1000 keeps all its digits.

        Raises: ValueError as :attr:`Z`, or where the difference of two logits is not a float64.
        """
        logits = np.asarray(self.logits)
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise ValueError(
                f"logits must have shape [images, two or more classes]; got {list(logits.shape)}"
            )
        peak, gap, rest, fall = (np.empty(len(logits)) for _ in range(4))
        images = max(64, BLOCK_NUMBERS // logits.shape[1])
        with np.errstate(invalid="ignore", over="ignore"):
            for start in range(0, len(logits), images):
                part = slice(start, start + images)
                peak[part], gap[part], rest[part], fall[part] = _largest_and_rest(logits[part])
        # One sum over an array with NaN or infinity is not finite: no second pass over the logits is needed.
        if not all(np.isfinite(each).all() for each in (peak, gap, rest, fall)):
            low, high = self.Z.min(), self.Z.max()
            raise ValueError(f"differences of logits must be finite; got logits of {low:g} to {high:g}")
        margin = gap - np.log(rest)
        return LogitStatistics(peak, margin, np.log1p(np.exp(-margin)), gap + fall / rest)

    def feature_rows(self, rows: slice = slice(None)) -> Floats:
        """Some rows of the features in float64; not cached, since the features are the largest array.

        Raises: ValueError where they are not [images, one or more features], or not finite.
        """
        X = np.asarray(self.features[rows], dtype=np.float64)
        if X.ndim != 2 or X.shape[1] < 1:
            raise ValueError(f"features must have shape [images, one or more]; got {list(X.shape)}")
        if not np.isfinite(X).all():
            raise ValueError("features must be finite; got NaN or infinity")
        return X


class Detector(Protocol):
    """A rejection score with its parameters."""

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Learn what the score needs of the training images and of the head.

        Args:
            train: of the training images, not augmented; None where the score said that it needs none.
        Raises: DoesNotFit where the score is not defined for them.
        """

    def __call__(self, evidence: Evidence) -> Floats:
        """One number an image, [images], float64, higher = more in-distribution.

        Raises: DoesNotFit where these images show that the score is not defined for the model.
        """


def _largest_and_rest(logits: npt.NDArray[Any]) -> tuple[Floats, Floats, Floats, Floats]:
    """Of each row: the largest logit; its lead over the second; and of all but the largest, relative to the
    second, the sum of exponentials and the sum of exponentials times distances below the second."""
    # [classes, images]: sums over classes then add whole rows, however few the classes are.
    D = np.array(logits.T, dtype=np.float64, order="C")
    largest, images = logits.argmax(axis=1), np.arange(len(logits))
    peak = D[largest, images]
    D[largest, images] = -np.inf
    second = D.max(axis=0)
    D -= second
    # Its exponential is exactly 1 and its distance 0: taken off below without rounding.
    D[largest, images] = 0.0
    E = np.exp(D)
    rest = E.sum(axis=0) - 1.0
    E *= D
    return peak, peak - second, rest, -E.sum(axis=0)
