"""What a loss makes of the number of training images of each class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from workloads.losses.base import LossContext
from workloads.losses.rules import above_zero, one_of

ClassWeights = str | Sequence[float]
WEIGHTS = ("none", "inverse", "effective")
BETA = 0.9999
"""Of the effective number of samples, as in the public code of LDAM-DRW."""


def class_counts(loss: str, context: LossContext | None) -> Tensor:
    """Training images of each class, float64 [classes]; NaN for classes outside ``context.active``.

    Raises: ValueError where there is no context, or a class that occurs has no image.
    """
    if context is None:
        raise ValueError(f"{loss} needs a context that knows the number of training images of each class")
    counts = [float("nan")] * len(context.class_counts)
    for label, count in enumerate(context.class_counts):
        if context.active is not None and label not in context.active:
            continue
        if count < 1:
            raise ValueError(
                f"{loss}: every class must have a training image; got class_counts[{label}] = {count}"
            )
        counts[label] = float(count)
    return torch.tensor(counts, dtype=torch.float64)


def present(values: Tensor) -> Tensor:
    """Those of the classes that occur, of one value a class, which is NaN for the others."""
    return values[~values.isnan()]


def log_prior(counts: Tensor) -> Tensor:
    """log pi, with pi the share of each class in the training images, [classes]."""
    return (counts / present(counts).sum()).log()


def class_weights(loss: str, name: str, weights: ClassWeights, context: LossContext | None) -> Tensor | None:
    """One weight a class, float64 [classes], or None for ``none``.

    ``inverse``: 1 / n_c; ``effective``: (1 - beta) / (1 - beta^n_c) with beta = 0.9999 (Cui et al. 2019);
    both scaled to a sum of C, the number of classes that occur. A sequence gives the weights themselves.
    ``name`` is the parameter's.

    Raises: ValueError for another word, a weight that is not above 0, or a sequence of the wrong length.
    """
    if not isinstance(weights, str):
        values = [above_zero(loss, f"{name}[{i}]", w) for i, w in enumerate(weights)]
        if context is not None and len(values) != context.num_classes:
            raise ValueError(
                f"{loss}: {name} must hold one weight for each of {context.num_classes} classes; "
                f"got {len(values)}"
            )
        return torch.tensor(values, dtype=torch.float64)
    one_of(loss, name, weights, WEIGHTS)
    if weights == "none":
        return None
    counts = class_counts(loss, context)
    return inverse_weights(counts) if weights == "inverse" else effective_weights(counts, BETA)


def inverse_weights(counts: Tensor) -> Tensor:
    """1 / n_c, scaled to a sum of the classes that occur."""
    return _to_sum_of_classes(1 / counts)


def effective_weights(counts: Tensor, beta: float) -> Tensor:
    """(1 - beta) / (1 - beta^n_c), scaled to a sum of the classes that occur.

    Source: Cui et al. 2019, "Class-balanced loss based on effective number of samples", eq. 4.
    """
    return _to_sum_of_classes((1 - beta) / (1 - torch.pow(beta, counts)))


def mean_by_class_weights(
    losses: Tensor, class_weights: Tensor, targets: Tensor, weights: Tensor | None
) -> Tensor:
    """The mean of weighted losses, divided by the weights of their labels instead of the batch size.

    Args:
        losses: of each image, with its class weight in it, [batch].
        class_weights: of the columns, [columns].
        targets: positions among the columns, int64 [batch], or probabilities [batch, columns].
        weights: what each image counts besides, [batch]; None: all the same.
    Returns: scalar, (sum_n w_n l_n) / (sum_n w_n sum_j t_nj c_j).
    """
    shares = (targets * class_weights).sum(dim=1) if targets.is_floating_point() else class_weights[targets]
    if weights is not None:
        losses, shares = weights * losses, weights * shares
    # The active classes may hold nothing of soft targets.
    return losses.sum() / shares.sum().clamp_min(torch.finfo(shares.dtype).tiny)


def _to_sum_of_classes(weights: Tensor) -> Tensor:
    occurring = present(weights)
    return weights / occurring.sum() * len(occurring)
