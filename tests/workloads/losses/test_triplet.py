"""The triplet loss beside a classification loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.workloads.losses import reference as ref
from tests.workloads.losses.batches import context_of, make_batch, rare_to_frequent
from workloads.head import HeadSpec
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES
from workloads.losses.triplet import Triplet

MINING = ["batch_hard", "batch_all", "semi_hard"]


@pytest.mark.parametrize("name", LOSSES)
def test_a_triplet_may_stand_beside_every_loss(name: str) -> None:
    context = context_of(rare_to_frequent(4))
    plain = build_loss(name, {}, context).eval()
    loss = build_loss(name, {"triplet": 0.5, "triplet_margin": 0.3}, context).eval()
    assert loss.head == plain.head
    assert loss.lr_scale == plain.lr_scale
    batch = make_batch(plain.head, N=12)
    term = ref.triplet(batch.features.numpy(), batch.labels.numpy(), margin=0.3)
    expected = plain(batch.output, batch.labels).item() + 0.5 * term
    # Losses that learn a temperature hold it in float32 in both.
    assert loss(batch.output, batch.labels).item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(loss.eval_logits(batch.output), plain.eval_logits(batch.output))


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.5])
def test_a_triplet_loss_equals_its_reference(mining: Any, normalise: bool, margin: float) -> None:
    batch = make_batch(HeadSpec(), N=24, C=5)
    value = Triplet(margin, mining, normalise)(batch.features, batch.labels).item()
    expected = ref.triplet(
        batch.features.numpy(), batch.labels.numpy(), margin=margin, mining=mining, normalise=normalise
    )
    assert value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("mining", MINING)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [2, 2, 2, 2], [1]])
def test_a_batch_without_a_triplet_is_zero_with_a_graph(mining: Any, labels: list[int]) -> None:
    x = make_batch(HeadSpec(), N=len(labels)).features.requires_grad_()
    value = Triplet(mining=mining)(x, torch.tensor(labels))
    value.backward()
    assert value.item() == 0.0
    assert x.grad is not None
    assert x.grad.abs().max().item() == 0.0


@pytest.mark.parametrize("mining", MINING)
def test_classes_that_are_far_apart_cost_nothing(mining: Any) -> None:
    labels = torch.arange(12) % 3
    x = torch.eye(3, dtype=torch.float64)[labels] + 0.001 * make_batch(HeadSpec(), N=12, D=3).features
    assert Triplet(0.2, mining)(x, labels).item() == 0.0
    assert Triplet(2.0, mining)(x, labels).item() > 0.5


@pytest.mark.parametrize("mining", MINING)
def test_features_that_are_all_alike_cost_the_margin(mining: Any) -> None:
    x = torch.ones(6, 4, requires_grad=True)
    value = Triplet(0.2, mining)(x, torch.arange(6) % 2)
    value.backward()
    assert value.item() == pytest.approx(0.2, abs=1e-6)
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_the_triplet_of_the_features_reaches_the_trunk_but_not_the_head() -> None:
    batch = make_batch(HeadSpec(), N=12)
    batch.features.requires_grad_()
    term = Triplet()(batch.output.features, batch.labels)
    weight, features = torch.autograd.grad(term, [batch.head.weight, batch.features], allow_unused=True)
    assert weight is None
    assert features.abs().sum().item() > 0
