"""Arrays, targets and the softmax that every reference loss is written with."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Target = npt.NDArray[Any]
"""Either class indices, int [N], or a matrix of target shares, float [N, C]."""

ClassReduction = Literal["sum", "mean"]
On = Literal["logits", "probs"]


def neg_log_softmax(z: Array, k: int) -> float:
    """`-log softmax(z)_k` of one sample, exact to rounding also where it is 1e-30."""
    z = np.asarray(z, dtype=np.float64)
    top = int(np.argmax(z))
    rest = math.fsum(math.exp(z[j] - z[top]) for j in range(len(z)) if j != top)
    return float(z[top] - z[k]) + math.log1p(rest)


def softmax(z: Array) -> Array:
    """`exp(z_j) / sum_i exp(z_i)` of one sample."""
    return np.array([math.exp(-neg_log_softmax(z, j)) for j in range(len(z))])


def target_matrix(target: Target, C: int) -> Array:
    """Targets as shares [N, C]: one-hot rows for class indices, unchanged where they are shares already."""
    if target.ndim == 2:
        return np.asarray(target, dtype=np.float64)
    return np.array([[1.0 if j == y else 0.0 for j in range(C)] for y in target])


def mean(values: list[float]) -> float:
    """The arithmetic mean; an empty list is an error, as no loss of zero samples is defined."""
    return math.fsum(values) / len(values)


def norm(v: Array) -> float:
    """`sqrt(sum_j v_j^2)`."""
    return math.sqrt(math.fsum(float(a) * float(a) for a in v))


def mean_cross_entropy(rows: list[Array], y: Labels) -> float:
    """Mean over samples of `-log softmax(rows[n])_{y_n}`."""
    return mean([neg_log_softmax(row, int(k)) for row, k in zip(rows, y, strict=True)])
