"""Losses of raw logits Z [N, C], float64, one sample after the other.

Where a loss takes a `target`, that is either class indices [N] or target shares [N, C].
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from tests.workloads.losses.reference_arrays import (
    Array,
    ClassReduction,
    Labels,
    On,
    Target,
    mean,
    mean_cross_entropy,
    neg_log_softmax,
    norm,
    softmax,
    target_matrix,
)

EPSILON = 1e-7
"""What LogitNorm's authors add to the norm, and MELN after them."""


def cross_entropy(Z: Array, target: Target, *, weights: Array | None = None) -> float:
    """`sum_n w_{y_n} (-log p_{n,y_n}) / sum_n w_{y_n}`, w = 1 without `weights` [C].

    With target shares `(1/N) sum_n sum_j w_j t_nj (-log p_nj)`: there torch divides by N.
    Source: torch.nn.CrossEntropyLoss.
    """
    N, C = Z.shape
    w = np.ones(C) if weights is None else weights
    t = target_matrix(target, C)
    total = math.fsum(w[j] * t[n, j] * neg_log_softmax(Z[n], j) for n in range(N) for j in range(C))
    return total / (N if target.ndim == 2 else math.fsum(w[k] for k in target))


def label_smoothing(Z: Array, y: Labels, *, epsilon: float = 0.1) -> float:
    """Cross-entropy with the target `(1 - epsilon) 1_y + epsilon / C`. Source: torch; Szegedy et al. 2016."""
    C = Z.shape[1]
    return cross_entropy(Z, (1 - epsilon) * target_matrix(y, C) + epsilon / C)


def bce(Z: Array, target: Target, *, class_reduction: ClassReduction = "sum") -> float:
    """One sigmoid a class: `sum_j t_j log(1 + e^{-Z_j}) + (1 - t_j) log(1 + e^{Z_j})`, mean over samples.

    `mean` divides the sum over the classes by C. Source: the Bernoulli likelihood; equals softplus(Z) - t Z.
    """
    t = target_matrix(target, Z.shape[1])

    def softplus(z: float) -> float:
        return max(z, 0.0) + math.log1p(math.exp(-abs(z)))

    def sample(n: int) -> Array:
        return np.array([s * softplus(-z) + (1 - s) * softplus(z) for z, s in zip(Z[n], t[n], strict=True)])

    return _over_classes([sample(n) for n in range(len(Z))], class_reduction)


def mse(
    Z: Array,
    target: Target,
    *,
    on: On = "logits",
    class_reduction: ClassReduction = "mean",
    half: bool = False,
    k: float = 1.0,
    M: float = 1.0,
) -> float:
    """`k (a_y - M)^2 + sum_{j != y} a_j^2` of a = logits or probabilities, mean over samples.

    Target shares: `sum_j (1 + (k - 1) t_j) (a_j - M t_j)^2`. `half` puts 1/2 before it.
    Source: Hui and Belkin 2021 (k and M); least squares for k = M = 1.
    """
    a, t = _on(Z, on), target_matrix(target, Z.shape[1])
    rows = [(1 + (k - 1) * t[n]) * (a[n] - M * t[n]) ** 2 for n in range(len(Z))]
    return _over_classes(rows, class_reduction) * (0.5 if half else 1.0)


def l1(Z: Array, target: Target, *, on: On = "logits", class_reduction: ClassReduction = "mean") -> float:
    """`sum_j |a_j - t_j|` of a = logits or probabilities, mean over samples."""
    a, t = _on(Z, on), target_matrix(target, Z.shape[1])
    return _over_classes([np.abs(a[n] - t[n]) for n in range(len(Z))], class_reduction)


def huber(
    Z: Array,
    target: Target,
    *,
    delta: float = 1.0,
    on: On = "logits",
    class_reduction: ClassReduction = "mean",
) -> float:
    """With r = a_j - t_j: `r^2 / 2` where |r| <= delta, else `delta (|r| - delta / 2)`. Source: Huber."""
    a, t = _on(Z, on), target_matrix(target, Z.shape[1])

    def cost(r: float) -> float:
        return 0.5 * r * r if abs(r) <= delta else delta * (abs(r) - 0.5 * delta)

    rows = [np.array([cost(r) for r in a[n] - t[n]]) for n in range(len(Z))]
    return _over_classes(rows, class_reduction)


def focal(
    Z: Array,
    y: Labels,
    *,
    gamma: float = 2.0,
    alpha: Array | None = None,
    weighting: Literal["outside", "inside"] = "outside",
) -> float:
    """`alpha_y (1 - p_y)^gamma (-log p_y)`, mean over N (not over the weights' sum).

    `inside`: with ce = -alpha_y log p_y, `(1 - e^{-ce})^gamma ce`.
    Source: Lin et al. 2017, eq. 5; `inside` is what the code of LDAM-DRW (Cao et al. 2019) computes.
    """
    values = []
    for n, k in enumerate(y):
        w = 1.0 if alpha is None else float(alpha[k])
        nll = neg_log_softmax(Z[n], int(k))
        w_within, w_before = {"outside": (1.0, w), "inside": (w, 1.0)}[weighting]
        ce = w_within * nll
        values.append(w_before * (-math.expm1(-ce)) ** gamma * ce)
    return mean(values)


def logitnorm(Z: Array, target: Target, *, tau: float) -> float:
    """Cross-entropy of `Z / (tau (||Z|| + 1e-7))`. Source: Wei et al. 2022, eq. 4, and its code."""
    return cross_entropy(np.array([z / (tau * (norm(z) + EPSILON)) for z in Z]), target)


def logitnorm_floor(C: int, tau: float) -> float:
    """The infimum of LogitNorm: `log(1 + (C - 1) exp(-sqrt(C / (C - 1)) / tau))`, at Z along e_y - 1/C."""
    return math.log1p((C - 1) * math.exp(-math.sqrt(C / (C - 1)) / tau))


def logitnorm_bound_of_the_paper(C: int, tau: float) -> float:
    """Wei et al. 2022, proposition 3.3: `log(1 + (C - 1) e^{-2 / tau})`; never attained."""
    return math.log1p((C - 1) * math.exp(-2 / tau))


def logit_penalty(Z: Array, target: Target, *, lam: float) -> float:
    """Cross-entropy + `lam` times the mean of ||Z|| (the norm, not its square). Source: Wei et al. 2022."""
    return cross_entropy(Z, target) + lam * mean([norm(z) for z in Z])


def meln(
    Z: Array,
    y: Labels,
    *,
    T: float,
    m: float | Array,
    mode: Literal["source", "target", "shifted_norm", "per_class"] = "source",
    temperature: Literal["divide", "multiply"] = "divide",
) -> float:
    """Margin-enhanced LogitNorm in four readings of where the margin acts, then divided (or multiplied) by T.

    * `source`: `(Z - m) / (||Z|| + 1e-7)`, as the source's code has it; m has no effect.
    * `target`: `Z / (||Z|| + 1e-7) - m 1_y`.
    * `shifted_norm`: `(Z - m) / (||Z - m|| + 1e-7)`.
    * `per_class`: as `source`, with a vector m [C].
    """
    rows = []
    for n, k in enumerate(y):
        match mode:
            case "source" | "per_class":
                row = (Z[n] - m) / (norm(Z[n]) + EPSILON)
            case "target":
                row = Z[n] / (norm(Z[n]) + EPSILON)
                row[k] -= m
            case "shifted_norm":
                row = (Z[n] - m) / (norm(Z[n] - m) + EPSILON)
        rows.append(row * {"divide": 1 / T, "multiply": T}[temperature])
    return mean_cross_entropy(rows, y)


def logit_adjustment(Z: Array, target: Target, counts: Array | Labels, *, tau: float = 1.0) -> float:
    """Cross-entropy of `Z + tau log pi`, pi_j = n_j / sum n, counts below 1 taken as 1.

    Source: Menon et al. 2021, eq. 10.
    """
    n = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    return cross_entropy(np.array([z + tau * np.log(n / n.sum()) for z in Z]), target)


def balanced_softmax(Z: Array, y: Labels, counts: Array | Labels) -> float:
    """`-log(n_y e^{Z_y} / sum_j n_j e^{Z_j})`, counts below 1 taken as 1. Source: Ren et al. 2020."""
    n = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    values = []
    for z, k in zip(Z, y, strict=True):
        share = n * np.exp(z - z.max())
        values.append(-math.log(share[k] / math.fsum(share)))
    return mean(values)


def _on(Z: Array, on: On) -> Array:
    return {"logits": Z, "probs": np.array([softmax(z) for z in Z])}[on]


def _over_classes(rows: list[Array], class_reduction: ClassReduction) -> float:
    divisor = {"sum": 1, "mean": len(rows[0])}[class_reduction]
    return mean([math.fsum(row) / divisor for row in rows])
