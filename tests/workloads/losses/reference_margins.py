"""Margin losses of raw logits Z [N, C] that reach exactly zero, float64."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from tests.workloads.losses.reference_arrays import Array, Labels, mean

Threshold = Literal["sample", "batch"]
MeanOver = Literal["active", "all"]


def multi_margin(Z: Array, y: Labels, *, mu: float, p: int = 1) -> float:
    """`(1/C) sum_{j != y} max(0, mu - Z_y + Z_j)^p`, mean over samples (by C, not C - 1).

    Source: torch.nn.MultiMarginLoss; Crammer and Singer 2001.
    """
    C = Z.shape[1]
    return mean(
        [
            math.fsum(max(0.0, mu - z[k] + z[j]) ** p for j in range(C) if j != k) / C
            for z, k in zip(Z, y, strict=True)
        ]
    )


def hem(
    Z: Array,
    y: Labels,
    *,
    mu: float | Array,
    threshold: Threshold = "sample",
    mean_over: MeanOver = "active",
) -> float:
    """High error margin: the mean of each sample's errors that are at least the average error.

    `e_nj = max(0, Z_nj - (Z_ny - mu_n))`, `e_ny = 0`; `t_n` is the mean of the sample's C errors
    (`threshold="batch"`: of all N C errors); a sample's loss is the mean of its `e_nj > 0` with
    `e_nj >= t_n`, 0 where there are none; the batch's is the mean over samples with a loss above 0
    (`mean_over="all"`: over all N), 0 where there are none. `mu` is one margin or one a sample [N].

    Source: arXiv 2501.12191, with the threshold of the authors' code (`sample`) or of the text (`batch`).
    """
    N, C = Z.shape
    margins = np.broadcast_to(np.asarray(mu, dtype=np.float64), (N,))
    errors = [
        [0.0 if j == y[n] else max(0.0, Z[n, j] - (Z[n, y[n]] - margins[n])) for j in range(C)]
        for n in range(N)
    ]
    of_batch = mean([e for row in errors for e in row])
    losses: list[float] = []
    for row in errors:
        t = {"sample": mean(row), "batch": of_batch}[threshold]
        kept = [e for e in row if e > 0 and e >= t]
        losses.append(mean(kept) if kept else 0.0)
    active = sum(loss > 0 for loss in losses)
    divisor: int = {"active": active, "all": N}[mean_over]
    return math.fsum(losses) / max(divisor, 1)


def hem_margin(N: int, *, scale: float = 2000.0) -> float:
    """`mu = sqrt(scale / N)` for N training images. Source: the same."""
    return math.sqrt(scale / N)


def hem_plus_margins(
    counts: Array | Labels,
    *,
    scale: float = 2000.0,
    cap: float = 10.0,
    p: float = 0.5,
    budget: Literal["mean", "squares"] = "mean",
) -> Array:
    """`mu_i = a n_i^-p` [C], at most `cap` times HEM's `sqrt(scale / sum n)`.

    `a` is such that `sum n_i mu_i` (`squares`: `sum mu_i^2`) is that of the published margins,
    `sqrt(scale / (C n_i))`.
    """
    C, highest = len(counts), cap * hem_margin(int(sum(counts)), scale=scale)
    n = [float(count) for count in counts if count > 0]
    if budget == "mean":
        a = math.sqrt(scale / C) * math.fsum(map(math.sqrt, n)) / math.fsum(count ** (1 - p) for count in n)
    else:
        squares = math.fsum(scale / C / count for count in n)
        a = math.sqrt(squares / math.fsum(count ** (-2 * p) for count in n))
    return np.array([min(a / count**p, highest) if count > 0 else highest for count in counts])


def hem_plus(
    Z: Array,
    y: Labels,
    counts: Array | Labels,
    *,
    scale: float = 2000.0,
    cap: float = 10.0,
    p: float = 0.5,
    budget: Literal["mean", "squares"] = "mean",
    threshold: Threshold = "sample",
    mean_over: MeanOver = "active",
) -> float:
    """HEM with the margin of each sample's true class, see `hem_plus_margins`. Source: the same."""
    margins = hem_plus_margins(counts, scale=scale, cap=cap, p=p, budget=budget)
    return hem(Z, y, mu=margins[y], threshold=threshold, mean_over=mean_over)
