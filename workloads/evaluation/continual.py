"""What a network keeps of the tasks it has learned one after the other, and what it gains for the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]


def continual_metrics(
    R: npt.NDArray[Any], baseline: npt.NDArray[Any] | Sequence[float] | None = None
) -> dict[str, float]:
    """Summaries of the accuracies after each task. Tasks weigh the same, however many images they have.

    Three definitions of forgetting are in use and differ (.24, .2233 and .2567 of one matrix in the tests).
    Here i, j and l count from 0, and T is the number of tasks.

    Args:
        R: R[i, j] is the accuracy on the test images of task j after training on tasks 0..i, 0..1, [T, T];
            NaN where not measured (above the diagonal, where the classes of task j are not known yet). Of a
            joint run, which learns all tasks at once, the one row that there is, [1, T].
        baseline: b[j], accuracy on task j of the model before any training, 0..1 or NaN, [T].
    Returns: by name:
        ``accuracy``: mean over j of R[T-1, j], 0..1;
        ``average_incremental_accuracy``: mean over i of the mean over j <= i of R[i, j], 0..1;
        ``learning_accuracy``: mean over j of R[j, j], how well a task is learned at first, 0..1;
        ``bwt``, backward transfer: mean over j < T-1 of R[T-1, j] - R[j, j], -1..1;
        ``fwt``, forward transfer: mean over j >= 1 of R[j-1, j] - b[j], -1..1;
        ``forgetting``: mean over j < T-1 of (max over l < T-1 of R[l, j]) - R[T-1, j], -1..1, of the R[l, j]
            that were measured, above the diagonal too;
        ``forgetting_avalanche``: mean over j < T-1 of R[j, j] - R[T-1, j], -1..1; it is -``bwt``;
        ``forgetting_mammoth``: mean over j < T-1 of (max over all l of R[l, j], what was not measured
            counting 0) - R[T-1, j], 0..1, so that a task that got better counts 0.
        Undefined ones are absent: ``bwt`` and all forgetting of one task; all but ``accuracy`` of a joint run
        of several; ``average_incremental_accuracy`` where anything below the diagonal was not measured;
        ``fwt`` of one task, without a baseline, or where one of its R[j-1, j] and b[j] was not measured: a
        mean over fewer tasks would be another number.
    Raises: ValueError for other shapes, a NaN on the diagonal or in the last row, or values outside 0..1.
    Source: Lopez-Paz and Ranzato 2017 (arXiv 1706.08840) for accuracy, bwt and fwt; Rebuffi et
        al. 2017 (arXiv 1611.07725) for the average incremental accuracy; Riemer et al. 2019 (arXiv
        1810.11910) for the learning accuracy; Chaudhry et al. 2018 (arXiv 1801.10112) for forgetting;
        StreamForgetting of Avalanche (github.com/ContinualAI/avalanche, forgetting_bwt.py); forgetting of
        Mammoth (github.com/aimagelab/mammoth, utils/metrics.py).
    Differs from source: (1) Rebuffi et al. take the accuracy over all test images of the classes seen so far,
        which is the mean over tasks where these have equally many. (2) Avalanche keeps, of every experience,
        the accuracy when last evaluated while it was the one in training (the first value) and that of the
        latest evaluation (the last value, forgotten when an evaluation begins, and not set for the experience
        just trained). Its stream metric is the mean of first - last over the experiences that have both,
        which after the last task are all but the last; StreamBWT is the negative of it. Before a second task
        it says 0 where ours is absent. (3) Mammoth counts in percent and measures no further than one task
        ahead; accuracies from further ahead would enter its maximum here.
    """
    A = _checked(R)
    T = A.shape[1]
    b = _checked_baseline(baseline, T)
    last = A[-1]
    metrics = {"accuracy": float(last.mean())}
    if len(A) < T:
        return metrics
    first = A.diagonal()
    metrics["learning_accuracy"] = float(first.mean())
    seen = np.tril(np.ones((T, T), dtype=bool))
    if not np.isnan(A[seen]).any():
        metrics["average_incremental_accuracy"] = float(np.mean([A[i, : i + 1].mean() for i in range(T)]))
    if T == 1:
        return metrics
    metrics["bwt"] = float((last - first)[:-1].mean())
    # R[j-1, j], for j = 1 .. T-1.
    transfer = A.diagonal(offset=1) - b[1:]
    if not np.isnan(transfer).any():
        metrics["fwt"] = float(transfer.mean())
    earlier = np.nanmax(A[:-1, :-1], axis=0)
    metrics["forgetting"] = float((earlier - last[:-1]).mean())
    metrics["forgetting_avalanche"] = float((first - last)[:-1].mean())
    best = np.nan_to_num(A, nan=0.0).max(axis=0)
    metrics["forgetting_mammoth"] = float((best - last)[:-1].mean())
    return metrics


def _checked(R: npt.NDArray[Any]) -> _Floats:
    A = np.asarray(R, dtype=np.float64)
    if A.ndim != 2 or not A.size or len(A) not in (1, A.shape[1]):
        raise ValueError(
            "accuracies must have shape [tasks, tasks], or [1, tasks] of a joint run, one task or more; "
            f"got {list(A.shape)}"
        )
    if np.isnan(A[-1]).any():
        raise ValueError("every task must be measured after the last one; got NaN in the last row")
    if len(A) > 1 and np.isnan(A.diagonal()).any():
        raise ValueError("every task must be measured after it was trained; got NaN on the diagonal")
    _check_shares("accuracies", A)
    return A


def _checked_baseline(baseline: npt.NDArray[Any] | Sequence[float] | None, tasks: int) -> _Floats:
    """The baseline; NaN, not measured, for every task where there is none."""
    if baseline is None:
        return np.full(tasks, np.nan)
    b = np.asarray(baseline, dtype=np.float64)
    if b.shape != (tasks,):
        raise ValueError(f"the baseline must have shape [{tasks}], one accuracy a task; got {list(b.shape)}")
    _check_shares("the baseline's accuracies", b)
    return b


def _check_shares(what: str, values: _Floats) -> None:
    measured = values[~np.isnan(values)]
    outside = measured[(measured < 0.0) | (measured > 1.0)]
    if len(outside):
        raise ValueError(f"{what} must be in 0..1; got {outside[0]}")
