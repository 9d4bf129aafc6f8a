"""DAR*: of all decisions to name a class or to reject, how many are right, on known and unknown images alike.

A reconstruction: the measure is described as a single number that extends the evaluation of rejection to
clean, corrupt, adversarial, novel and unrecognisable images (Spratling, arXiv 2308.04137), but its definition
below was put together from public summaries and was not checked against the paper's text or the author's
code. The star stands for that, and belongs beside every number that is printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]


def acceptance_threshold(scores: npt.NDArray[Any], correct: npt.NDArray[np.bool_]) -> float:
    """The first threshold, coming from the highest score, that accepts 95 % of the correctly named images.

    Args:
        scores: of clean test images of known classes, [n], higher = more in-distribution.
        correct: whether the network names their class, bool [n].
    Returns: t; an image is accepted where its score is >= t. Images that share a score are accepted
        together, so that more than 95 % may be.
    Raises: ValueError for mismatched input, a NaN, or where no image is named correctly.
    """
    values, flags = _checked("clean", scores, correct)
    named = np.sort(values[flags])[::-1]
    if not len(named):
        raise ValueError(f"DAR* needs a correctly classified clean image; got none of {len(values)}")
    # The smallest k with 20 * k >= 19 * n is "k / n >= .95" without rounding.
    return float(named[(19 * len(named) + 19) // 20 - 1])


def dar(
    clean_scores: npt.NDArray[Any],
    clean_correct: npt.NDArray[np.bool_],
    others: Mapping[str, tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]],
) -> dict[str, float]:
    """DAR*, the share of right decisions (detection accuracy rate), as reconstructed.

    A decision is right where the class is known, is named correctly and the image is accepted, and where
    the class is named wrongly or is unknown and the image is rejected. The threshold is that of
    :func:`acceptance_threshold` on the clean images, the same for every set.

    Args:
        clean_scores: of clean test images of known classes, [n], higher = more in-distribution.
        clean_correct: whether the network names their class, bool [n].
        others: by name, the scores of another set of images and whether the network names their class, or
            None where the classes are unknown (novel or unrecognisable images). May be empty.
    Returns: shares in 0..1: ``clean``, one of each other set under its name, and ``mean``, over all of
        these, each set weighing the same.
    Raises: ValueError as :func:`acceptance_threshold`, for an empty set, or for a set called ``clean`` or
        ``mean``.
    Source: after Spratling, arXiv 2308.04137; a reconstruction, not checked against the author's code.
    Differs from source: unknown, as it was not read.
    """
    taken = sorted({"clean", "mean"} & set(others))
    if taken:
        raise ValueError(f"a set may not be called clean or mean; got {taken[0]!r}")
    threshold = acceptance_threshold(clean_scores, clean_correct)
    shares = {}
    for name, (scores, correct) in {"clean": (clean_scores, clean_correct), **others}.items():
        values, flags = _checked(name, scores, correct)
        shares[name] = float(((values >= threshold) == flags).mean())
    return {**shares, "mean": float(np.mean(list(shares.values())))}


def _checked(
    name: str, scores: npt.NDArray[Any], correct: npt.NDArray[np.bool_] | None
) -> tuple[_Floats, _Flags]:
    """Scores in float64, and whether accepting is right."""
    values = np.asarray(scores, dtype=np.float64)
    # Of an unknown class no name can be correct.
    flags = np.zeros(len(values), dtype=np.bool_) if correct is None else np.asarray(correct)
    if values.ndim != 1 or not len(values) or flags.shape != values.shape:
        raise ValueError(
            f"{name}: scores and correct must both have shape [images], one or more; "
            f"got {list(values.shape)} and {list(flags.shape)}"
        )
    if flags.dtype != np.bool_:
        raise ValueError(f"{name}: correct must be bool, true where the class is named; got {flags.dtype}")
    if np.isnan(values).any():
        raise ValueError(f"{name}: scores must be numbers; got NaN")
    return values, flags
