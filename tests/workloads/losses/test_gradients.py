"""Gradients of every loss: against finite differences, at extreme inputs, where nothing is left to learn."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from tests.workloads.losses.batches import Batch
from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from workloads.head import HeadOutput
from workloads.losses.base import Loss

SMOOTH = [case for case in CASES if case.params.get("grad") != "straight_through"]
ON_LOGITS = [case for case in CASES if case.build((9, 8)).needs in ("logits", "godin")]
ON_COSINES = [case for case in CASES if case.build((9, 8)).head.kind == "cosine"]
REACH_ZERO = ("hem", "hem_plus", "multi_margin")


@pytest.mark.parametrize("case", SMOOTH, ids=str)
def test_gradients_agree_with_finite_differences(case: Case) -> None:
    batch = case.batch(N=5, C=4, D=4, seed=3)
    loss = case.build(batch.counts)
    ours = dict(loss.named_parameters())
    theirs = dict(batch.head.named_parameters())
    assert {name for name, p in ours.items() if p.requires_grad} == case.learned
    # Also of numbers that the loss holds but does not train by default.
    leaves = [batch.features, *theirs.values(), *ours.values()]
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]

    def value(X: Tensor, *parameters: Tensor) -> Tensor:
        of_head = dict(zip(theirs, parameters, strict=False))
        of_loss = dict(zip(ours, parameters[len(theirs) :], strict=True))
        output = functional_call(batch.head, of_head, (X,))
        result: Tensor = functional_call(loss, of_loss, (output, batch.labels))
        return result

    assert torch.autograd.gradcheck(value, leaves)


def at_zero_features(batch: Batch) -> None:
    batch.features.zero_()


def at_one_image_of_zero_features(batch: Batch) -> None:
    batch.features[0] = 0


def at_zero_logits(batch: Batch) -> None:
    batch.features.zero_()
    _zero_bias(batch)


def at_zero_weights(batch: Batch) -> None:
    batch.head.weight.zero_()
    _zero_bias(batch)


def at_equal_classes(batch: Batch) -> None:
    batch.head.weight.copy_(batch.head.weight[:1].expand_as(batch.head.weight).clone())
    _zero_bias(batch)


def at_equal_images(batch: Batch) -> None:
    batch.features.copy_(batch.features[:1].expand_as(batch.features).clone())


def at_huge_features(batch: Batch) -> None:
    batch.features.mul_(1e4)


def at_tiny_features(batch: Batch) -> None:
    batch.features.mul_(1e-4)
    _zero_bias(batch)


def at_huge_weights(batch: Batch) -> None:
    batch.head.weight.mul_(1e4)


def at_cosine_one(batch: Batch) -> None:
    batch.features.copy_(3 * batch.head.weight[batch.labels])


def at_cosine_minus_one(batch: Batch) -> None:
    batch.features.copy_(-3 * batch.head.weight[batch.labels])


EXTREMES = [
    at_zero_features,
    at_one_image_of_zero_features,
    at_zero_logits,
    at_zero_weights,
    at_equal_classes,
    at_equal_images,
    at_huge_features,
    at_tiny_features,
    at_huge_weights,
    at_cosine_one,
    at_cosine_minus_one,
]


@pytest.mark.parametrize("extreme", EXTREMES, ids=lambda extreme: extreme.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_finite(case: Case, extreme: Callable[[Batch], None]) -> None:
    for dtype in (torch.float32, torch.float64):
        batch = case.batch(N=8, C=4, dtype=dtype)
        with torch.no_grad():
            extreme(batch)
        batch.features.requires_grad_()
        loss = case.build(batch.counts).train()
        value = loss(batch.output, batch.labels)
        value.backward()
        assert value.dtype == dtype
        assert math.isfinite(value.item())
        _assert_finite_gradients(loss, [batch.features, *batch.head.parameters()])


@pytest.mark.parametrize("case", ON_LOGITS, ids=str)
def test_value_and_gradients_are_finite_for_logits_of_ten_thousand(case: Case) -> None:
    signs = torch.tensor(list(itertools.product((-1e4, 0.0, 1e4), repeat=3)))
    for label in range(3):
        batch = case.batch(N=len(signs), C=3, dtype=torch.float32)
        Z = signs.clone().requires_grad_()
        loss = case.build(batch.counts).train()
        value = loss(batch.output._replace(logits=Z), torch.full((len(Z),), label))
        value.backward()
        assert math.isfinite(value.item())
        _assert_finite_gradients(loss, [Z])


@pytest.mark.parametrize("case", ON_COSINES, ids=str)
def test_value_and_gradients_are_finite_for_cosines_of_exactly_one(case: Case) -> None:
    """And a rounding beyond it, which the product of two unit vectors may have."""
    for dtype in (torch.float32, torch.float64):
        beyond = 1 + torch.finfo(dtype).eps
        edges = torch.tensor(
            list(itertools.product((-beyond, -1.0, 0.0, 1.0, beyond), repeat=3)), dtype=dtype
        )
        for label in range(3):
            batch = case.batch(N=len(edges), C=3, dtype=dtype)
            c = edges.clone().requires_grad_()
            loss = case.build(batch.counts).train()
            value = loss(batch.output._replace(logits=c), torch.full((len(c),), label))
            value.backward()
            assert math.isfinite(value.item())
            _assert_finite_gradients(loss, [c])


@pytest.mark.parametrize("case", [case for case in CASES if case.loss in REACH_ZERO], ids=str)
def test_a_batch_without_a_violation_is_zero_with_a_graph_and_zero_gradients(case: Case) -> None:
    labels = torch.tensor([0, 1, 2, 0])
    Z = (100 * torch.eye(3)[labels]).requires_grad_()
    loss = case.build((500, 100, 20))
    value = loss(HeadOutput(Z), labels)
    value.backward()
    assert value.item() == 0.0
    assert Z.grad is not None
    assert torch.equal(Z.grad, torch.zeros_like(Z))


@pytest.mark.parametrize("case", [case for case in CASES if case.loss not in REACH_ZERO], ids=str)
def test_a_batch_that_is_all_right_has_a_gradient_nevertheless(case: Case) -> None:
    """What tells the other losses from those that are content with a margin."""
    batch = case.batch(N=6, C=3)
    with torch.no_grad():
        batch.head.weight.copy_(torch.eye(3, 5))
        if batch.head.bias is not None:
            batch.head.bias.zero_()
        batch.features.copy_(3 * torch.eye(3, 5)[batch.labels] + 0.1)
    batch.features.requires_grad_()
    case.build(batch.counts)(batch.output, batch.labels).backward()
    assert batch.features.grad is not None
    assert batch.features.grad.abs().sum().item() > 0


def _assert_finite_gradients(loss: Loss, tensors: list[Tensor]) -> None:
    for tensor in [*tensors, *loss.parameters()]:
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert tensors[0].grad is not None


def _zero_bias(batch: Batch) -> None:
    if batch.head.bias is not None:
        batch.head.bias.zero_()
