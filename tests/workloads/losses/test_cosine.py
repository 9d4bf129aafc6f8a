"""NormFace, CosFace and AdaCos: floors, margins and scales."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.workloads.losses import reference as ref
from tests.workloads.losses.batches import make_batch
from workloads.head import HeadSpec
from workloads.losses.adacos import SMALLEST, AdaCos
from workloads.losses.base import LossContext
from workloads.losses.cosine import CosFace, NormFace


def context(C: int) -> LossContext:
    return LossContext(100 * C, C, (100,) * C)


def cosines(N: int = 32, C: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    batch = make_batch(HeadSpec("cosine"), N, C, D=8, seed=seed)
    return batch.output.logits.detach(), batch.labels


@pytest.mark.parametrize("C", [2, 3, 10])
@pytest.mark.parametrize("s", [1.0, 4.0, 16.0])
def test_normface_cannot_fall_below_its_floor_and_reaches_it_at_the_simplex(C: int, s: float) -> None:
    floor = math.log1p((C - 1) * math.exp(-s * C / (C - 1)))
    # Cosines of -1 / (C - 1) between all pairs: the furthest apart that C directions can be.
    corners = torch.eye(C, dtype=torch.float64) * C / (C - 1) - 1 / (C - 1)
    loss = NormFace(s)
    assert loss(corners, torch.arange(C)).item() == pytest.approx(floor, rel=1e-9, abs=1e-15)
    # No head does better: directions that are trained end there.
    source = torch.Generator().manual_seed(0)
    W = torch.randn(C, C, generator=source, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([W], lr=2.0)
    for _ in range(300):
        optimizer.zero_grad()
        unit = F.normalize(W)
        value = loss(unit @ unit.T, torch.arange(C))
        torch.autograd.backward(value)
        optimizer.step()
    assert value.item() >= floor - 1e-12


@pytest.mark.parametrize(("C", "expected"), [(2, 1.0), (3, 0.980258), (10, 3.107345), (100, 6.498481)])
def test_the_fixed_scale_of_adacos_follows_the_number_of_classes(C: int, expected: float) -> None:
    assert AdaCos("fixed", context(C)).s.item() == pytest.approx(expected, abs=5e-7)
    by_expression = NormFace({"log_classes": math.sqrt(2)}, context=context(C))
    assert by_expression.scale == pytest.approx(expected, abs=5e-7)


def test_a_learned_scale_is_trained_as_its_logarithm() -> None:
    c, labels = cosines()
    loss = NormFace(8.0, learn_s=True).double()
    torch.autograd.backward(loss(c, labels))
    assert loss.log_s is not None
    assert loss.log_s.grad is not None
    step = 1e-4
    with torch.no_grad():
        difference = NormFace(8.0 * math.exp(step))(c, labels) - NormFace(8.0 * math.exp(-step))(c, labels)
    # Central differences: an error of step^2.
    assert loss.log_s.grad.item() == pytest.approx(difference.item() / (2 * step), rel=1e-5)


def test_the_margin_of_cosface_is_added_to_the_loss_where_all_classes_are_alike() -> None:
    c = torch.full((4, 10), 0.3, dtype=torch.float64)
    value = CosFace(s=30.0, m=0.35)(c, torch.arange(4)).item()
    assert value == pytest.approx(math.log(1 + 9 * math.exp(30 * 0.35)), rel=1e-12)


def test_cosface_without_a_margin_is_normface() -> None:
    c, labels = cosines()
    assert CosFace(s=30.0, m=0.0)(c, labels).item() == NormFace(30.0)(c, labels).item()


def test_a_wider_margin_costs_more() -> None:
    c, labels = cosines()
    values = [CosFace(m=m)(c, labels).item() for m in (0.0, 0.1, 0.2, 0.35, 0.5)]
    assert values == sorted(set(values))


@pytest.mark.parametrize("N", [1, 2, 7, 32])
@pytest.mark.parametrize("C", [3, 10])
def test_the_scale_of_adacos_follows_the_batches_in_training(N: int, C: int) -> None:
    loss = AdaCos("dynamic", context(C)).train()
    s = math.sqrt(2) * math.log(C - 1)
    # Even batches have two middles: the lower one is taken.
    for seed in range(4):
        c, labels = cosines(N, C, seed)
        s = max(ref.adacos_dynamic_scale(c.numpy(), labels.numpy(), s_previous=s), SMALLEST)
        value = loss(c, labels).item()
        assert loss.s.item() == pytest.approx(s, rel=1e-9)
        assert value == pytest.approx(ref.normface(c.numpy(), labels.numpy(), s=s), rel=1e-9)
        assert loss.stats()["s"] == pytest.approx(s, rel=1e-9)
    torch.testing.assert_close(loss.eval_logits(c), c * s, rtol=1e-9, atol=0)


def test_the_median_of_adacos_is_the_lower_one() -> None:
    thetas = torch.tensor([0.2, 0.3, 0.6, 0.7], dtype=torch.float64)
    c = torch.zeros(4, 10, dtype=torch.float64)
    c[:, 0] = thetas.cos()
    loss = AdaCos("dynamic", context(10)).train()
    loss(c, torch.zeros(4, dtype=torch.int64))
    # The nine others at cosine 0: B = 9.
    assert loss.s.item() == pytest.approx(math.log(9) / math.cos(0.3), rel=1e-9)


def test_the_angle_of_adacos_counts_up_to_a_quarter_of_pi() -> None:
    c = torch.zeros(4, 10, dtype=torch.float64)
    c[:, 0] = math.cos(2.0)
    loss = AdaCos("dynamic", context(10)).train()
    loss(c, torch.zeros(4, dtype=torch.int64))
    assert loss.s.item() == pytest.approx(math.log(9) / math.cos(math.pi / 4), rel=1e-9)


def test_the_scale_of_adacos_stays_positive_where_its_formula_is_not() -> None:
    c = torch.full((4, 2), -0.5, dtype=torch.float64)  # B = exp(-0.5 s) < 1
    loss = AdaCos("dynamic", context(2)).train()
    for _ in range(3):
        loss(c, torch.zeros(4, dtype=torch.int64))
        assert loss.s.item() == SMALLEST


def test_the_scale_of_adacos_rests_in_evaluation_and_where_it_is_fixed() -> None:
    c, labels = cosines()
    resting = AdaCos("dynamic", context(10)).eval()
    fixed = AdaCos("fixed", context(10)).train()
    for loss in (resting, fixed):
        loss(c, labels)
        assert loss.s.item() == math.sqrt(2) * math.log(9)


def test_the_scale_of_adacos_carries_no_gradient() -> None:
    c, labels = cosines()
    c.requires_grad_()
    loss = AdaCos("dynamic", context(10)).train()
    (gradient,) = torch.autograd.grad(loss(c, labels), c)
    fixed = c.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(NormFace(loss.s.item())(fixed, labels), fixed)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_a_batch_may_be_differentiated_after_the_next_one() -> None:
    """Although AdaCos then has another scale."""
    loss = AdaCos("dynamic", context(10)).train()
    first, labels = cosines()
    first.requires_grad_()
    value = loss(first, labels)
    s = loss.s.item()
    loss(*cosines(seed=1))
    assert loss.s.item() != s
    (gradient,) = torch.autograd.grad(value, first)
    again = first.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad(NormFace(s)(again, labels), again)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
