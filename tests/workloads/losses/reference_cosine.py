"""Losses of cosines c [N, C] between features and class weights, float64, and their scales."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from tests.workloads.losses.reference_arrays import Array, Labels, mean, mean_cross_entropy, norm
from tests.workloads.losses.reference_logits import cross_entropy


def cos_of(X: Array, W: Array) -> Array:
    """`<x_n, w_j> / (||x_n|| ||w_j||)`, [N, C]."""
    return np.array([[math.fsum(x * w) / (norm(x) * norm(w)) for w in W] for x in X])


def normface(c: Array, y: Labels, *, s: float) -> float:
    """Cross-entropy of `s c`. Source: Wang et al. 2017 (NormFace)."""
    return mean_cross_entropy([s * row for row in c], y)


def cosface(c: Array, y: Labels, *, s: float, m: float) -> float:
    """Cross-entropy of `s (c - m 1_y)`. Source: Wang et al. 2018 (CosFace), eq. 4; AM-softmax."""
    return _of_target_logit(c, y, s, lambda cos: cos - m)


def arcface(
    c: Array, y: Labels, *, s: float, m: float, fallback: Literal["linear", "none", "easy"] = "linear"
) -> float:
    """Cross-entropy of `s c` with `s cos(theta_y + m)` at the true class, m in radians.

    Past theta + m = pi, where the cosine rises again: `linear` takes `cos(theta) - m sin(m)`, `none` goes on.
    `easy` adds the margin only where cos(theta) > 0. Source: Deng et al. 2019, eq. 3, and its code.
    """

    def phi(cos: float) -> float:
        theta = math.acos(min(1.0, max(-1.0, cos)))
        match fallback:
            case "linear":
                return math.cos(theta + m) if theta + m <= math.pi else cos - m * math.sin(m)
            case "none":
                return math.cos(theta + m)
            case "easy":
                return math.cos(theta + m) if cos > 0 else cos

    return _of_target_logit(c, y, s, phi)


def arcgrad(c: Array, y: Labels, *, s: float) -> float:
    """Cross-entropy of `-s theta`. Source: Wu and Wang 2020 (ArcGrad)."""
    return mean_cross_entropy([-s * np.arccos(np.clip(row, -1.0, 1.0)) for row in c], y)


def lambert_w(x: float) -> float:
    """The w > 0 with `w e^w = x` for x > 0, by Newton's method."""
    w = math.log1p(x)
    for _ in range(100):
        step = (w * math.exp(w) - x) / (math.exp(w) * (w + 1))
        w -= step
        if abs(step) <= 1e-16 * (1 + w):
            break
    return w


def arcgrad_scale(C: int, gap: float, *, expression: Literal["corrected", "source"] = "corrected") -> float:
    """The s with the steepest loss at an angular gap theta_j - theta_y = `gap`.

    `corrected` maximises `s (C - 1) / (e^{s gap} + C - 1)`: `s gap = 1 + W((C - 1) / e)`;
    `source` is the printed `s gap = 1 + W(C - 1)`. W is Lambert's function.
    """
    argument = {"corrected": (C - 1) / math.e, "source": float(C - 1)}[expression]
    return (1 + lambert_w(argument)) / gap


def adacos_scale(C: int) -> float:
    """`sqrt(2) log(C - 1)`, at least 1. Source: Zhang et al. 2019 (AdaCos); the floor is ours."""
    return max(1.0, math.sqrt(2) * math.log(C - 1))


def adacos_dynamic_scale(c: Array, y: Labels, *, s_previous: float) -> float:
    """`log B / cos(min(pi/4, median theta_y))`, `B = (1/N) sum_n sum_{j != y_n} e^{s_previous c_nj}`.

    The median is the lower one (torch.median). No guard: not positive where B <= 1.
    Source: Zhang et al. 2019 (AdaCos).
    """
    N, C = c.shape
    B = mean([math.fsum(math.exp(s_previous * c[n, j]) for j in range(C) if j != y[n]) for n in range(N)])
    thetas = sorted(math.acos(min(1.0, max(-1.0, c[n, y[n]]))) for n in range(N))
    return math.log(B) / math.cos(min(math.pi / 4, thetas[(N - 1) // 2]))


def ldam_margins(counts: Array | Labels, *, max_m: float = 0.5) -> Array:
    """`m_j` proportional to `n_j^{-1/4}`, the largest being `max_m`; counts below 1 taken as 1."""
    raw = np.array([max(float(n), 1.0) ** -0.25 for n in counts])
    return np.asarray(max_m * raw / raw.max())


def ldam(
    c: Array,
    y: Labels,
    counts: Array | Labels,
    *,
    s: float = 30.0,
    max_m: float = 0.5,
    weights: Array | None = None,
) -> float:
    """(Weighted) cross-entropy of `s (c - m_y 1_y)` with `ldam_margins`. Source: Cao et al. 2019."""
    m = ldam_margins(counts, max_m=max_m)
    Z = np.array([s * (row - m[k] * np.eye(len(row))[k]) for row, k in zip(c, y, strict=True)])
    return cross_entropy(Z, y, weights=weights)


def drw_weights(counts: Array | Labels, *, beta: float = 0.9999) -> Array:
    """`(1 - beta) / (1 - beta^{n_j})` scaled to sum to C; counts below 1 taken as 1.

    Source: Cui et al. 2019 (class-balanced loss); Cao et al. 2019 defer it.
    """
    raw = np.array([(1 - beta) / (1 - beta ** max(float(n), 1.0)) for n in counts])
    return np.asarray(len(raw) * raw / raw.sum())


def _of_target_logit(c: Array, y: Labels, s: float, phi: Callable[[float], float]) -> float:
    rows = []
    for row, k in zip(c, y, strict=True):
        changed = row.copy()
        changed[k] = phi(float(row[k]))
        rows.append(s * changed)
    return mean_cross_entropy(rows, y)
