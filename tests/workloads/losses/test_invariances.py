"""What does not change a loss, and what does: shifts, scales, the order of images and of classes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from tests.workloads.losses.batches import Batch
from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from workloads.losses.base import Loss

PER_CLASS = ("weights", "alpha", "margins", "log_prior", "m")
"""Buffers and parameters that hold one value a class."""


def per_class(case: Case) -> list[str]:
    """Names of what it holds for each class and reads in training."""
    if case.params.get("apply") == "evaluation":
        return []
    loss = case.build((70, 40, 20, 10))
    return [name for name in PER_CLASS if _named(loss, name).shape == (4,)]


def _named(loss: Loss, name: str) -> Tensor:
    found = getattr(loss, name, None)
    return found if isinstance(found, Tensor) else torch.zeros(())


@pytest.mark.parametrize("case", [case for case in CASES if case.shift is not None], ids=str)
def test_a_shift_of_all_logits_changes_a_loss_or_does_not_as_its_table_says(case: Case) -> None:
    batch = case.batch()
    loss, output = case.build(batch.counts), batch.output
    shift = torch.linspace(-5, 7, len(batch.labels), dtype=torch.float64).unsqueeze(1)
    # A loss that reads the weights instead of the logits sees the bias.
    bias = None if output.bias is None else output.bias + 3
    shifted = output._replace(logits=output.logits + shift, bias=bias)
    before, after = loss(output, batch.labels).item(), loss(shifted, batch.labels).item()
    assert (after == pytest.approx(before, rel=1e-9)) is case.shift
    assert abs(after - before) < 1e-9 * before or abs(after - before) > 1e-3 * before


@pytest.mark.parametrize("case", CASES, ids=str)
def test_longer_features_change_a_loss_or_do_not_as_its_table_says(case: Case) -> None:
    batch = case.batch()
    if batch.head.bias is not None:
        torch.nn.init.zeros_(batch.head.bias)
    factors = torch.linspace(2, 9, len(batch.labels), dtype=torch.float64).unsqueeze(1)
    longer = Batch(batch.head, factors * batch.features, batch.labels, batch.counts)
    loss = case.build(batch.counts)
    before, after = loss(batch.output, batch.labels).item(), loss(longer.output, batch.labels).item()
    # LogitNorm and its relatives add 1e-7 to norms of about 1 and divide by temperatures down to 0.04.
    assert (after == pytest.approx(before, rel=1e-5)) is case.scale
    assert abs(after - before) < 1e-5 * before or abs(after - before) > 1e-4 * before


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_order_of_the_images_does_not_matter(case: Case) -> None:
    batch = case.batch(N=16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    moved = Batch(batch.head, batch.features[order], batch.labels[order], batch.counts)
    loss = case.build(batch.counts)
    expected = loss(batch.output, batch.labels).item()
    assert loss(moved.output, moved.labels).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_order_of_the_classes_does_not_matter(case: Case) -> None:
    batch = case.batch(C=4)
    order = torch.tensor([2, 0, 3, 1])  # new class j is old class order[j]
    head = copy.deepcopy(batch.head)
    with torch.no_grad():
        head.weight.copy_(batch.head.weight[order])
        if head.bias is not None and batch.head.bias is not None:
            head.bias.copy_(batch.head.bias[order])
    counts = tuple(batch.counts[j] for j in order.tolist())
    loss, moved = case.build(batch.counts), case.build(counts)
    _order_learned_margins(moved, order)
    expected = loss(batch.output, batch.labels).item()
    got = moved(head(batch.features), order.argsort()[batch.labels]).item()
    assert got == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", [c for c in CASES if per_class(c)], ids=str)
def test_values_of_a_class_follow_the_class(case: Case) -> None:
    """So that the test before can fail: the values differ, and so does the loss where they are mixed up."""
    batch = case.batch(N=16, C=4)
    loss = case.build(batch.counts)
    for name in per_class(case):
        assert len(set(_named(loss, name).tolist())) == 4
    mixed = case.build(batch.counts[::-1])
    _order_learned_margins(mixed, torch.tensor([3, 2, 1, 0]))
    expected = loss(batch.output, batch.labels).item()
    assert abs(mixed(batch.output, batch.labels).item() - expected) > 1e-3 * expected


def _order_learned_margins(loss: Loss, order: Tensor) -> None:
    margins = dict(loss.named_parameters()).get("m", torch.zeros(()))
    if margins.ndim == 1:
        with torch.no_grad():
            margins.copy_(margins[order].clone())
