"""Is a confidence of 0.8 right eight times in ten? Calibration error, and the one temperature that helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.evaluation.calibration_errors import (
    adaptive_calibration_error,
    bin_totals,
    classwise_calibration_error,
    expected_calibration_error,
    kolmogorov_smirnov_error,
)

LOWEST_TEMPERATURE = 1e-3
HIGHEST_TEMPERATURE = 1e3

_Floats = npt.NDArray[np.float64]
_Labels = npt.NDArray[np.int64]


def fit_temperature(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> float:
    """The temperature T that minimises the negative log-likelihood of softmax(logits / T).

    The likelihood is convex in 1/T, so its slope crosses zero once. The crossing is found in log(1/T) by
    Newton steps inside a bracket that shrinks at every step: it always ends, and at the minimum.

    Args:
        logits: [images, classes], of images that the network was not trained on and that are not test
            images (the validation split).
        labels: class indices, [images].
    Returns: T, dimensionless, within 0.001..1000. Where there is no minimum inside, the bound: 0.001 where
        every image is classified correctly, 1000 where the logits say less than chance. 1.0 where every row
        of the logits is constant, so that T changes nothing.
    Raises: ValueError for empty or mismatched input, or logits that are not finite.
    Source: Guo et al. 2017 (arXiv 1706.04599), sec. 4.2.
    Differs from source: exact search in place of a fixed number of gradient steps, which stop far from the
        minimum for losses whose logits are small or large.
    """
    Z, y = _checked(logits, labels)
    shifted = Z - Z.max(axis=1, keepdims=True)
    if not shifted.any():
        return 1.0
    target = shifted[np.arange(len(y)), y]
    low, high = -np.log(HIGHEST_TEMPERATURE), -np.log(LOWEST_TEMPERATURE)
    if _slope(shifted, target, high)[0] <= 0.0:
        return LOWEST_TEMPERATURE
    if _slope(shifted, target, low)[0] >= 0.0:
        return HIGHEST_TEMPERATURE
    u, last_width = 0.0, high - low
    # Each round halves the bracket or takes a Newton step of less than half the last one.
    for _ in range(200):
        slope, curvature = _slope(shifted, target, u)
        if slope > 0.0:
            high = u
        else:
            low = u
        step = slope / curvature if curvature > 0.0 else np.inf
        if not low < u - step < high or abs(step) > 0.5 * last_width:
            step = u - 0.5 * (low + high)
        last_width = abs(step)
        u -= step
        if abs(step) < 1e-14 or slope == 0.0:
            break
    return float(np.exp(-u))


def at_bound(temperature: float) -> bool:
    """Whether a fitted temperature is the end of its range: the images it was fitted on say no more."""
    return temperature in (LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE)


def calibration_metrics(
    logits: npt.NDArray[Any], labels: npt.NDArray[Any], temperature: float, bins: int
) -> dict[str, float]:
    """Calibration of softmax(logits / temperature).

    Args:
        logits: [images, classes].
        labels: class indices, [images].
        temperature: T > 0; 1 leaves the network as it is.
        bins: number M of bins of the binned errors; it is part of their names.
    Returns: by name, the confidence of an image being its highest probability:
        ``ece_<M>``: :func:`expected_calibration_error` of the confidence, equal-width bins, 0..1;
        ``ece_adaptive_<M>``: :func:`adaptive_calibration_error` of the confidence, equal-mass bins, 0..1;
        ``ece_classwise_<M>``: :func:`classwise_calibration_error` of all probabilities, 0..1;
        ``ks``: :func:`kolmogorov_smirnov_error` of the confidence, no bins, 0..1;
        ``nll``: mean negative log-likelihood, nats;
        ``brier``: mean over images of the squared distance between probabilities and one-hot label, 0..2.
    Raises: ValueError for T <= 0, M < 1, or input as :func:`fit_temperature`.
    Source: at each error; Brier 1950.
    """
    Z, y = _checked(logits, labels)
    log_p, p = _softmax(Z, temperature)
    rows = np.arange(len(y))
    surest, correct = _top_label(p, y)
    others = p.copy()
    others[rows, y] = 0.0
    # 1 - p_y is taken from the other classes' share, which does not cancel.
    missed = others.sum(axis=1)
    return {
        f"ece_{bins}": expected_calibration_error(surest, correct, bins),
        f"ece_adaptive_{bins}": adaptive_calibration_error(surest, correct, bins),
        f"ece_classwise_{bins}": classwise_calibration_error(p, y, bins),
        "ks": kolmogorov_smirnov_error(surest, correct),
        "nll": float(-log_p[rows, y].mean()),
        "brier": float(((others**2).sum(axis=1) + missed**2).mean()),
    }


def calibration_notes(n: int, bins: int) -> list[str]:
    """What to know of the calibration of n images in M bins, in sentences; empty where there is nothing.

    Raises: ValueError for n or M below 1.
    """
    if n < 1:
        raise ValueError(f"the number of images must be >= 1; got {n!r}")
    if bins < 1:
        raise ValueError(f"the number of bins must be >= 1; got {bins!r}")
    if n >= bins:
        return []
    return [
        f"{n} images are fewer than {bins} calibration bins: the binned calibration errors compare hardly "
        "more than single images with right or wrong and come out too high; ks, nll and brier have no bins"
    ]


def confidence(logits: npt.NDArray[Any], temperature: float) -> float:
    """How sure softmax(logits / temperature) is on average; of OOD images, how wrongly so.

    Args:
        logits: [images, classes], with or without known labels.
        temperature: T > 0; 1 leaves the network as it is.
    Returns: mean over images of the highest probability, 1 / classes .. 1.
    Raises: ValueError for T <= 0, or logits that are empty, of another shape, or not finite.
    """
    return float(_softmax(_checked_logits(logits), temperature)[1].max(axis=1).mean())


def reliability(
    logits: npt.NDArray[Any], labels: npt.NDArray[Any], temperature: float, bins: int
) -> dict[str, list[float]]:
    """The reliability diagram's data: what each confidence bin promised and what it kept.

    Arguments and errors as :func:`calibration_metrics`.

    Returns: ``confidence`` and ``accuracy`` (means in the bin), ``count`` (images in the bin), each of
        length M, and ``edges`` of length M + 1. An empty bin has count 0, and 0.0 for both means.
    """
    Z, y = _checked(logits, labels)
    promised, kept, counts = bin_totals(*_top_label(_softmax(Z, temperature)[1], y), bins)
    present = np.maximum(counts, 1.0)
    return {
        "confidence": (promised / present).tolist(),
        "accuracy": (kept / present).tolist(),
        "count": counts.tolist(),
        "edges": (np.arange(bins + 1) / bins).tolist(),
    }


def _slope(shifted: _Floats, target: _Floats, u: float) -> tuple[float, float]:
    """Slope of the mean NLL in beta = exp(u) = 1/T, and that slope's own derivative in u."""
    beta = np.exp(u)
    p = np.exp(beta * shifted)
    p /= p.sum(axis=1, keepdims=True)
    mean = (p * shifted).sum(axis=1)
    variance = (p * (shifted - mean[:, None]) ** 2).sum(axis=1)
    return float((mean - target).mean()), float(beta * variance.mean())


def _softmax(Z: _Floats, temperature: float) -> tuple[_Floats, _Floats]:
    """Logarithms of the probabilities, and the probabilities."""
    if not temperature > 0.0:
        raise ValueError(f"a temperature must be > 0; got {temperature!r}")
    scaled = (Z - Z.max(axis=1, keepdims=True)) / temperature
    p = np.exp(scaled)
    total = p.sum(axis=1, keepdims=True)
    # Divided, not exp(log p): a confidence of exactly 1/3 must not stray over the edge of its bin.
    return scaled - np.log(total), p / total


def _top_label(p: _Floats, y: _Labels) -> tuple[_Floats, _Floats]:
    """Each image's highest probability, and 1.0 or 0.0 as the class that has it is right or wrong."""
    return p.max(axis=1), (p.argmax(axis=1) == y).astype(np.float64)


def _checked_logits(logits: npt.NDArray[Any]) -> _Floats:
    Z = np.asarray(logits, dtype=np.float64)
    if Z.ndim != 2 or not Z.size:
        raise ValueError(f"logits must have shape [images, classes], one or more; got {list(Z.shape)}")
    if not np.isfinite(Z).all():
        raise ValueError("logits must be finite; got NaN or infinity")
    return Z


def _checked(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[_Floats, _Labels]:
    Z = _checked_logits(logits)
    y = np.asarray(labels, dtype=np.int64)
    if y.shape != Z.shape[:1]:
        raise ValueError(f"there must be one label an image; got {list(y.shape)} for {list(Z.shape)} logits")
    if y.min() < 0 or y.max() >= Z.shape[1]:
        raise ValueError(f"labels must be in 0..{Z.shape[1] - 1}; got {y.min()}..{y.max()}")
    return Z, y
