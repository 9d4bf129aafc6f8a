"""Losses of features X [N, D] with the class weights W [C, D] and bias b [C], float64."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from tests.workloads.losses.reference_arrays import (
    Array,
    Labels,
    mean,
    mean_cross_entropy,
    neg_log_softmax,
    norm,
)
from tests.workloads.losses.reference_cosine import cos_of

GODIN_EPSILON = 1e-4
"""What Generalized ODIN's code adds to each norm of the cosine."""


def modified_softmax(X: Array, W: Array, y: Labels) -> float:
    """Cross-entropy of `||x|| cos(theta_j)`. Source: Liu et al. 2017 (SphereFace), eq. 4."""
    c = cos_of(X, W)
    return mean_cross_entropy([norm(x) * row for x, row in zip(X, c, strict=True)], y)


def psi(theta: float, m: int) -> float:
    """`(-1)^k cos(m theta) - 2k`, k the number of the interval [k pi/m, (k + 1) pi/m], at most m - 1.

    Source: Liu et al. 2016 (L-Softmax), eqs. 5 and 6.
    """
    k = min(int(m * theta / math.pi), m - 1)
    return (1 if k % 2 == 0 else -1) * math.cos(m * theta) - 2 * k


def l_softmax(X: Array, W: Array, y: Labels, *, m: int, lam: float) -> float:
    """Cross-entropy of `X W^T` with `||w_y|| ||x|| (lam cos(theta_y) + psi(theta_y)) / (1 + lam)` at y.

    Source: Liu et al. 2016 (L-Softmax), eq. 4; lam anneals the margin in its code.
    """
    return _of_multiplied_angle(X, W, y, m=m, lam=lam)


def a_softmax(X: Array, W: Array, y: Labels, *, m: int, lam: float) -> float:
    """L-Softmax with `||w_j|| = 1`. Source: Liu et al. 2017 (SphereFace) and its code (lam)."""
    return _of_multiplied_angle(X, np.array([w / norm(w) for w in W]), y, m=m, lam=lam)


def elogitnorm(
    X: Array, W: Array, b: Array, y: Labels, *, divisor: Literal["classes", "others"] = "classes"
) -> float:
    """Cross-entropy of `Z_n / D_n`, Z = X W^T + b, D_n the mean distance of x_n to the decision boundaries.

    `D_n = sum_{j != top} |Z_nj - Z_n,top| / ||w_top - w_j||` over C (the authors' code) or C - 1 (`others`).
    Without an epsilon; logits that are all equal cost log C, the limit.
    Source: ELogitNorm (github.com/limchaos/ELogitNormOOD).
    """
    C = len(W)
    values = []
    for z, k in zip(_linear(X, W, b), y, strict=True):
        top = int(np.argmax(z))
        distances = [abs(z[j] - z[top]) / norm(W[top] - W[j]) for j in range(C) if j != top]
        D = math.fsum(distances) / {"classes": C, "others": C - 1}[divisor]
        values.append(neg_log_softmax(z / D, int(k)) if D > 0 else math.log(C))
    return mean(values)


def t2fnorm(X: Array, W: Array, b: Array, y: Labels, *, tau: float) -> float:
    """Cross-entropy of `W (x / ||x|| / tau) + b`. Source: Regmi et al. 2024 (T2FNorm)."""
    return mean_cross_entropy(list(_linear(np.array([x / norm(x) / tau for x in X]), W, b)), y)


def godin_logits(
    X: Array, W: Array, *, similarity: Literal["cosine", "inner", "euclid"] = "cosine", g: Array
) -> Array:
    """`h_j(x) / g(x)` [N, C], for g [N] already computed.

    h is `<x, w> / ((||x|| + 1e-4) (||w|| + 1e-4))`, `<x, w>`, or `-(1/D) sum_d (x_d - w_d)^2`.
    Source: Hsu et al. 2020 (Generalized ODIN) and its code (1e-4, mean over D).
    """

    def h(x: Array, w: Array) -> float:
        match similarity:
            case "cosine":
                return math.fsum(x * w) / ((norm(x) + GODIN_EPSILON) * (norm(w) + GODIN_EPSILON))
            case "inner":
                return math.fsum(x * w)
            case "euclid":
                return -math.fsum((x - w) ** 2) / len(x)

    return np.array([[h(x, w) / g_n for w in W] for x, g_n in zip(X, g, strict=True)])


def triplet(
    X: Array,
    y: Labels,
    *,
    margin: float,
    mining: Literal["batch_hard", "batch_all", "semi_hard"] = "batch_hard",
    normalise: bool = True,
) -> float:
    """Hinges `max(0, d(a, p) - d(a, n) + margin)` of Euclidean distances; 0 where there is none to average.

    * `batch_hard`: an anchor's farthest positive and nearest negative; mean over anchors that have both.
    * `batch_all`: mean over the triplets with a hinge above 0.
    * `semi_hard`: for each (anchor, positive) the nearest negative farther than the positive, or the farthest
      negative where none is; mean over the pairs whose anchor has a negative.

    Source: Hermans et al. 2017; Schroff et al. 2015 (FaceNet, there with squared distances).
    """
    points = np.array([x / norm(x) for x in X]) if normalise else X
    hinges: list[float] = []
    for a in range(len(X)):
        positive = [norm(points[a] - points[i]) for i in range(len(X)) if y[i] == y[a] and i != a]
        negative = [norm(points[a] - points[i]) for i in range(len(X)) if y[i] != y[a]]
        if not positive or not negative:
            continue
        match mining:
            case "batch_hard":
                chosen = [(max(positive), min(negative))]
            case "batch_all":
                chosen = [(p, n) for p in positive for n in negative if p - n + margin > 0]
            case "semi_hard":
                chosen = [(p, min((n for n in negative if n > p), default=max(negative))) for p in positive]
        hinges.extend(max(0.0, p - n + margin) for p, n in chosen)
    return mean(hinges) if hinges else 0.0


def _linear(X: Array, W: Array, b: Array) -> Array:
    return np.array([[math.fsum(x * w) + b_j for w, b_j in zip(W, b, strict=True)] for x in X])


def _of_multiplied_angle(X: Array, W: Array, y: Labels, *, m: int, lam: float) -> float:
    c = cos_of(X, W)
    rows = []
    for n, k in enumerate(y):
        lengths = np.array([norm(X[n]) * norm(w) for w in W])
        row = lengths * c[n]
        theta = math.acos(min(1.0, max(-1.0, c[n, k])))
        row[k] = (lam * row[k] + lengths[k] * psi(theta, m)) / (1 + lam)
        rows.append(row)
    return mean_cross_entropy(rows, y)
