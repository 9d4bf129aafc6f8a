"""Rejection scores: one number an image, higher where the image looks more in-distribution.

All are computed in float64. In float32 a confident network's softmax is exactly 1.0 for a large part of the
images, and the ranking among them, which every rejection metric rests on, is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]


def score(name: str, logits: npt.NDArray[Any]) -> Scores:
    """The score that the catalogue calls ``name``.

    Args:
        name: ``msp``, ``mls`` or ``energy``.
        logits: unnormalised scores of the classes, [images, classes], any float type.
    Returns: float64 [images], higher = more in-distribution, comparable only within one model.
    Raises: ValueError for an unknown name, for logits that are not finite, or for fewer than two classes.
    """
    if name not in _FUNCTIONS:
        raise ValueError(f"a score must be one of {', '.join(_FUNCTIONS)}; got {name!r}")
    return _FUNCTIONS[name](logits)


def msp(logits: npt.NDArray[Any]) -> Scores:
    """Maximum softmax probability, as -log(1 - p_max).

    The same ranking as p_max, in a form that does not saturate:
    -log(1 - p_max) = logsumexp(all logits) - logsumexp(logits other than the largest).

    Source: Hendrycks and Gimpel 2017.
    Differs from source: a strictly increasing function of it, so that every rejection metric is the same.
    """
    Z = _checked(logits)
    rest = Z.copy()
    rest[np.arange(len(Z)), Z.argmax(axis=1)] = -np.inf
    margin = Z.max(axis=1) - _logsumexp(rest)
    # logsumexp(all) - logsumexp(rest), without the cancellation of two large numbers.
    ranked: Scores = np.logaddexp(0.0, margin)
    return ranked


def mls(logits: npt.NDArray[Any]) -> Scores:
    """Maximum logit.

    Source: Hendrycks et al. 2022.
    """
    largest: Scores = _checked(logits).max(axis=1)
    return largest


def energy(logits: npt.NDArray[Any]) -> Scores:
    """Negative free energy at temperature 1: logsumexp of the logits.

    Source: Liu et al. 2020, eq. 4, with the sign turned so that higher means more in-distribution.
    """
    return _logsumexp(_checked(logits))


def _checked(logits: npt.NDArray[Any]) -> Scores:
    Z = np.asarray(logits, dtype=np.float64)
    if Z.ndim != 2 or Z.shape[1] < 2:
        raise ValueError(f"logits must have shape [images, two or more classes]; got {list(Z.shape)}")
    if not np.isfinite(Z).all():
        raise ValueError("logits must be finite; got NaN or infinity")
    return Z


def _logsumexp(Z: Scores) -> Scores:
    peak = Z.max(axis=1)
    total: Scores = peak + np.log(np.exp(Z - peak[:, None]).sum(axis=1))
    return total


_FUNCTIONS: dict[str, Callable[[npt.NDArray[Any]], Scores]] = {"msp": msp, "mls": mls, "energy": energy}
