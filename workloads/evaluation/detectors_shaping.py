"""Rejection scores that change the features and ask the last layer again: ReAct, ASH and SCALE.

The methods are pytorch-ood's, which compute in the precision of what they are given: float64 here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from workloads.evaluation.detectors_fit import checked_features, scaled_head, training_images
from workloads.evaluation.evidence import DoesNotFit, Evidence, Floats, Head

_LARGEST_EXPONENT = 600.0
"""ASH and SCALE: exp of it, times any logit, is within float64."""


class ReAct:
    """Energy of the logits after features above a threshold are cut down to it.

    Args:
        percentile: the threshold, among all features of all training images together, in percent.
    Raises: ValueError where it is not within 0..100.
    Source: Sun et al. 2021 (arXiv 2111.12797); computed by pytorch-ood.
    Differs from source: nothing.
    """

    def __init__(self, *, percentile: float = 90.0) -> None:
        self.percentile = _checked_percentile(percentile)
        self._detector: Any = None

    def fit(self, train: Evidence | None, head: Head) -> None:
        """The threshold.

        Raises: DoesNotFit without training images or without pytorch-ood; for a head whose XW' + b is not
            the logits.
        """
        train = training_images(train, "ReAct")
        layer = _layer(*scaled_head(train, head, "ReAct"))
        detector = _library("ReAct")(backbone=None, head=layer, percentile=self.percentile / 100)
        known = torch.zeros(len(train), dtype=torch.int64)
        detector.fit_feature_maps(_tensor(train.features), known)
        self._detector = detector

    def __call__(self, evidence: Evidence) -> Floats:
        """logsumexp(min(X, threshold) W' + b), float64 [images]."""
        assert self._detector is not None, "fit comes first"
        return _turned(self._detector.predict_feature_maps(_tensor(checked_features(evidence))))


class _Shaping:
    """Energy of the logits after each image's features are multiplied by exp(sum of all / sum of top k).

    k is features - round(features * percentile / 100). Features must not be negative.
    """

    def __init__(self, percentile: float) -> None:
        self.percentile = _checked_percentile(percentile)
        self._detector: Any = None

    def _fit(self, train: Evidence | None, head: Head, **options: Any) -> None:
        name = type(self).__name__
        train = training_images(train, name)
        W, b = scaled_head(train, head, name)
        D = W.shape[1]
        k = D - round(D * self.percentile / 100)
        # All features equal give the largest exponent, D / k.
        if k < 1 or D / k > _LARGEST_EXPONENT:
            raise DoesNotFit(
                f"{name} multiplies by up to exp({D} features / {k} kept), which must be within "
                f"exp({_LARGEST_EXPONENT:g}); a percentile of {self.percentile:g} is too high"
            )
        _refuse_negative(train, name)
        self._layer = _layer(W, b)
        self._detector = _library(name)(
            backbone=None, head=self._layer, percentile=self.percentile / 100, **options
        )

    def __call__(self, evidence: Evidence) -> Floats:
        """logsumexp(shaped X W' + b), float64 [images]; an image whose features are all zero stays so.

        Raises: DoesNotFit for a negative feature.
        """
        assert self._detector is not None, "fit comes first"
        _refuse_negative(evidence, type(self).__name__)
        X = _tensor(checked_features(evidence))
        # The factor of a row of zeros is 0/0, and whatever it were, the row would stay as it is.
        silent = ~X.any(dim=1)
        scores = self._detector.predict_feature_maps(X[:, :, None, None])
        scores[silent] = -torch.logsumexp(self._layer(X[silent]), dim=1)
        return _turned(scores)


class ASH(_Shaping):
    """Activation shaping, variant ASH-S: the lowest features set to zero, the others scaled up.

    Args:
        percentile: of an image's features, those set to zero, in percent. 65 is pytorch-ood's default; the
            authors' code has 90 for CIFAR-10 and CIFAR-100.
    Raises: ValueError where it is not within 0..100.
    Source: Djurisic et al. 2023 (arXiv 2209.09858), algorithm 3; computed by pytorch-ood.
    Differs from source: features that are all zero, which would give 0/0, are left as they are.
    """

    def __init__(self, *, percentile: float = 90.0) -> None:
        super().__init__(percentile)

    def fit(self, train: Evidence | None, head: Head) -> None:
        """The head, and a check of the features.

        Raises: DoesNotFit without training images or without pytorch-ood; for a head whose XW' + b is not
            the logits; for negative features; for a percentile that keeps too few features.
        """
        self._fit(train, head, variant="ash-s")


class SCALE(_Shaping):
    """Activation scaling: all features of an image scaled up, none set to zero.

    Args:
        percentile: of an image's features, those left out of the divisor, in percent. 85 is the value in the
            authors' code (there for ImageNet) and in OpenOOD, which chooses among 65..95 for CIFAR.
    Raises: ValueError where it is not within 0..100.
    Source: Xu et al. 2024 (arXiv 2310.00227); computed by pytorch-ood, whose own default is 65.
    Differs from source: features that are all zero, which would give 0/0, are left as they are.
    """

    def __init__(self, *, percentile: float = 85.0) -> None:
        super().__init__(percentile)

    def fit(self, train: Evidence | None, head: Head) -> None:
        """The head, and a check of the features. Raises: as :meth:`ASH.fit`."""
        self._fit(train, head)


def _checked_percentile(percentile: float) -> float:
    if not 0.0 <= percentile <= 100.0:
        raise ValueError(f"a percentile must be within 0..100; got {percentile!r}")
    return percentile


def _refuse_negative(evidence: Evidence, detector: str) -> None:
    smallest = float(checked_features(evidence).min(initial=0.0))
    if smallest < 0.0:
        raise DoesNotFit(f"{detector} needs features >= 0, as after a ReLU; got {smallest:.3g}")


def _tensor(features: Any) -> Tensor:
    # Always a copy: torch warns of arrays that must not be written to.
    return torch.from_numpy(np.array(features, dtype=np.float64))


def _layer(W: Floats, b: Floats) -> Callable[[Tensor], Tensor]:
    weight, bias = _tensor(W), _tensor(b)
    return lambda x: linear(x.flatten(1), weight, bias)


def _turned(outlier_scores: Tensor) -> Floats:
    """pytorch-ood's scores are higher for OOD."""
    scores: Floats = -outlier_scores.numpy()
    return scores


def _library(name: str) -> Any:
    """The class of pytorch-ood; found only when needed, for its import takes seconds and it is optional."""
    try:
        return getattr(import_module("pytorch_ood.detector"), name)
    except ImportError as error:
        raise DoesNotFit(
            f'{name} needs the package pytorch-ood: pip install "orchestrate-losses[detectors]"'
        ) from error
