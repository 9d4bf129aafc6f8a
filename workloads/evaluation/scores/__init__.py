"""Rejection scores: one number an image, higher where the image looks more in-distribution.

``logits`` holds the functions of a row of logits, ``features`` those that also look at the head's input, and
``neighbours`` the distance to training images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.evaluation.evidence import Detector, Evidence, Floats
from workloads.evaluation.scores.logits import MLS, MSP, Energy, Entropy


def score(name: str, logits: npt.NDArray[Any]) -> Floats:
    """A score of logits alone, with its default parameters: the short way, for every epoch.

    Args:
        name: ``msp``, ``mls``, ``energy`` or ``entropy``.
        logits: unnormalised scores of the classes, [images, classes], any float type.
    Returns: float64 [images], higher = more in-distribution, comparable only within one model.
    Raises: ValueError for an unknown name, for logits that are not finite, or for fewer than two classes.
    """
    if name not in _DETECTORS:
        raise ValueError(f"a score of logits must be one of {', '.join(_DETECTORS)}; got {name!r}")
    return _DETECTORS[name](Evidence(logits, np.empty((len(logits), 0))))


_DETECTORS: dict[str, Detector] = {"msp": MSP(), "mls": MLS(), "energy": Energy(), "entropy": Entropy()}
