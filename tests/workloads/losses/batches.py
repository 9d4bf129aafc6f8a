"""Random batches for the losses: through the real heads as tensors, and the same numbers as numpy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from tests.workloads.losses import reference as ref
from tests.workloads.losses.reference_arrays import Array, Labels
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import LossContext
from workloads.models.heads import GodinHead, Head, build_head


@dataclass(frozen=True)
class Given:
    """What a reference loss is a function of."""

    X: Array
    """Features [N, D]."""
    W: Array
    """Class weights [C, D]."""
    b: Array
    """Biases [C]; zero where the head has none."""
    g: Array
    """GODIN's divisor [N]; one where the head has none."""
    y: Labels
    counts: Labels
    """Training images of each class [C]."""

    @property
    def C(self) -> int:  # noqa: N802
        return len(self.W)

    @property
    def train_size(self) -> int:
        return int(self.counts.sum())

    @cached_property
    def Z(self) -> Array:  # noqa: N802
        return self.X @ self.W.T + self.b

    @cached_property
    def c(self) -> Array:
        return ref.cos_of(self.X, self.W)


@dataclass(frozen=True)
class Batch:
    """A head, what enters it, and the labels."""

    head: Head
    features: Tensor
    labels: Tensor
    counts: tuple[int, ...]

    @property
    def output(self) -> HeadOutput:
        output: HeadOutput = self.head(self.features)
        return output

    def given(self) -> Given:
        W = _array(self.head.weight)
        b = np.zeros(len(W)) if self.head.bias is None else _array(self.head.bias)
        g = np.ones(len(self.features))
        if isinstance(self.head, GodinHead):
            g = _divisor_in_evaluation(self.head, _array(self.features))
        return Given(_array(self.features), W, b, g, self.labels.numpy(), np.array(self.counts))


def context_of(counts: tuple[int, ...], active: tuple[int, ...] | None = None) -> LossContext:
    return LossContext(sum(counts), len(counts), counts, active)


def rare_to_frequent(C: int) -> tuple[int, ...]:
    """Class counts that all differ, so that a mix-up of classes shows."""
    return tuple(round(500 * 0.6 ** (C - 1 - j)) + j for j in range(C))


def make_batch(
    spec: HeadSpec, N: int = 7, C: int = 4, D: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64
) -> Batch:
    """A batch of normal features and labels, and a head of ``spec`` with normal weights, in eval mode."""
    source = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=source, dtype=torch.float64)

    head = build_head(spec, D, C).double().eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(normal(*parameter.shape))
        if isinstance(head, GodinHead):
            # So that forgetting any part of the batch norm changes g.
            statistics = head.divisor[1]
            assert isinstance(statistics, nn.BatchNorm1d)
            assert statistics.running_mean is not None
            assert statistics.running_var is not None
            statistics.running_mean.fill_(0.3)
            statistics.running_var.fill_(25.0)
    features = normal(N, D)
    labels = torch.randint(C, (N,), generator=source)
    return Batch(head.to(dtype), features.to(dtype), labels, rare_to_frequent(C))


def _divisor_in_evaluation(head: GodinHead, X: Array) -> Array:
    linear, statistics = head.divisor[0], head.divisor[1]
    assert isinstance(linear, nn.Linear)
    assert isinstance(statistics, nn.BatchNorm1d)
    assert statistics.running_mean is not None
    assert statistics.running_var is not None
    u = X @ _array(linear.weight)[0] + _array(linear.bias)
    u = (u - _array(statistics.running_mean)) / np.sqrt(_array(statistics.running_var) + statistics.eps)
    u = u * _array(statistics.weight) + _array(statistics.bias)
    return np.asarray(1 / (1 + np.exp(-u)) if head.activation == "sigmoid" else np.exp(u))


def _array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()
