"""LogitNorm, its penalty, and its relatives ELogitNorm, T2FNorm and GODIN: what their papers promise."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.workloads.losses import reference as ref
from tests.workloads.losses.batches import make_batch
from workloads.head import HeadSpec
from workloads.losses.elogitnorm import ELogitNorm
from workloads.losses.logitnorm import LogitNorm, LogitPenalty, bound_as_published, infimum
from workloads.losses.t2fnorm import T2FNorm
from workloads.models.heads import GodinHead


def random_logits(N: int = 32, C: int = 10) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    Z = torch.randn(N, C, generator=source, dtype=torch.float64)
    return Z, torch.randint(C, (N,), generator=source)


@pytest.mark.parametrize("tau", [0.04, 1.0])
def test_the_gradient_of_logitnorm_is_orthogonal_to_the_logits(tau: float) -> None:
    Z, labels = random_logits()
    Z.requires_grad_()
    (gradient,) = torch.autograd.grad(LogitNorm(tau)(Z, labels), Z)
    # The 1e-7 beside norms of about 3 leaves a component of about 1e-7.
    assert F.cosine_similarity(gradient, Z.detach()).abs().max().item() < 1e-6
    assert gradient.norm(dim=1).max().item() > 1e-3


def test_the_gradient_of_logitnorm_falls_as_the_norm_grows() -> None:
    Z, labels = random_logits()
    gradients = []
    for factor in (1.0, 8.0):
        scaled = (factor * Z).requires_grad_()
        (gradient,) = torch.autograd.grad(LogitNorm(0.04)(scaled, labels), scaled)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[0], 8 * gradients[1], rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("C", [2, 3, 10, 100])
@pytest.mark.parametrize("tau", [0.04, 0.5, 1.0])
def test_logitnorm_reaches_its_infimum_at_the_corners_of_the_simplex(C: int, tau: float) -> None:
    corners = 5 * (torch.eye(C, dtype=torch.float64) - 1 / C)
    floor = infimum(C, tau)
    assert floor == pytest.approx(ref.logitnorm_floor(C, tau), rel=1e-12)
    # 1e-7 of a norm of 5, divided by tau; and 1e-15, where a double ends.
    value = LogitNorm(tau)(corners, torch.arange(C)).item()
    assert value == pytest.approx(floor, rel=1e-5, abs=1e-15)
    assert value > floor - 1e-15


def test_no_descent_takes_logitnorm_below_its_infimum() -> None:
    Z, labels = random_logits(10, 5)
    Z.requires_grad_()
    loss = LogitNorm(1.0)
    optimizer = torch.optim.SGD([Z], lr=20.0)
    for _ in range(500):
        optimizer.zero_grad()
        torch.autograd.backward(loss(Z, labels))
        optimizer.step()
    # It comes as near as 1e-6, and never to the lower bound that the paper prints.
    assert loss(Z, labels).item() == pytest.approx(infimum(5, 1.0), rel=1e-6)
    assert loss(Z, labels).item() > bound_as_published(5, 1.0) + 0.1


def test_the_floors_are_the_printed_numbers() -> None:
    assert infimum(10, 1.0) == pytest.approx(1.419869, abs=5e-7)
    assert bound_as_published(10, 1.0) == pytest.approx(0.796614, abs=5e-7)
    # Two unit logits are at most sqrt(2) apart, so the 2 of the paper is out of reach for them as well.
    assert infimum(2, 1.0) == pytest.approx(math.log1p(math.exp(-math.sqrt(2))), rel=1e-12)


def test_logitnorm_at_zero_logits_is_log_c_and_explodes_but_stays_finite() -> None:
    Z = torch.zeros(2, 4, requires_grad=True)
    value = LogitNorm(tau=0.04)(Z, torch.tensor([0, 1]))
    value.backward()
    assert value.item() == pytest.approx(math.log(4), rel=1e-6)
    assert Z.grad is not None
    # (1 - p) / (tau 1e-7 N) with p = 1/4, N = 2: why a head must not start at zero.
    assert Z.grad.abs().max().item() == pytest.approx(0.75 / 0.04 / 1e-7 / 2, rel=1e-5)


def test_a_penalty_of_zero_is_cross_entropy_and_a_larger_one_pulls_the_logits_in() -> None:
    Z, labels = random_logits()
    # A mean of the images' losses instead of torch's own: the order of the sum differs.
    plain = F.cross_entropy(Z, labels).item()
    assert LogitPenalty(0.0)(Z, labels).item() == pytest.approx(plain, rel=1e-14)
    Z.requires_grad_()
    (gradient,) = torch.autograd.grad(LogitPenalty(1e3)(Z, labels), Z)
    assert F.cosine_similarity(gradient, Z.detach()).min().item() > 0.999


def test_the_penalty_has_no_gradient_at_zero_logits() -> None:
    labels = torch.tensor([0, 1])
    gradients = []
    for lam in (0.0, 5.0):
        Z = torch.zeros(2, 4, requires_grad=True)
        LogitPenalty(lam)(Z, labels).backward()
        gradients.append(Z.grad)
    assert gradients[0] is not None
    torch.testing.assert_close(gradients[0], gradients[1])


def test_elogitnorm_divides_by_the_mean_distance_to_the_decision_boundaries() -> None:
    """Measured on the features: moving x that far along a boundary's normal makes both logits equal."""
    batch = make_batch(HeadSpec("linear"), N=6, C=3, D=4)
    output = batch.output
    assert output.weight is not None
    assert output.features is not None
    Z, W, b = output.logits, output.weight, output.bias
    loss = ELogitNorm().train()
    loss(output, batch.labels)
    distances = []
    for x, z in zip(output.features, Z, strict=True):
        top = int(z.argmax())
        for j in {0, 1, 2} - {top}:
            normal = W[j] - W[top]
            distance = (z[top] - z[j]) / normal.norm()
            there = torch.nn.functional.linear(x + distance * normal / normal.norm(), W, b)
            assert there[top].item() == pytest.approx(there[j].item(), abs=1e-9)
            distances.append(distance.item())
    expected = sum(distances) / len(distances) * 2 / 3  # divided by C = 3 instead of by 2
    assert loss.stats()["distance"] == pytest.approx(expected, rel=1e-6)


def test_elogitnorm_at_equal_logits_is_log_c() -> None:
    output = make_batch(HeadSpec("linear"), N=2, C=3).output
    equal = output._replace(logits=torch.full_like(output.logits, 1.5))
    assert ELogitNorm()(equal, torch.tensor([0, 1])).item() == pytest.approx(math.log(3), rel=1e-9)


def test_elogitnorm_of_few_images_is_that_of_many() -> None:
    """Fewer images than classes take another way to the distances."""
    batch = make_batch(HeadSpec("linear"), N=12, C=8)
    loss, output = ELogitNorm(), batch.output
    one_by_one = [loss(output.rows(torch.arange(12) == n), batch.labels[n : n + 1]).item() for n in range(12)]
    assert loss(output, batch.labels).item() == pytest.approx(sum(one_by_one) / 12, rel=1e-9)


def test_t2fnorm_trains_without_the_norm_that_its_scores_see() -> None:
    batch = make_batch(HeadSpec("linear"), N=6)
    loss, output = T2FNorm(0.1), batch.output
    assert output.features is not None
    longer = batch.head(3 * output.features)
    assert loss(longer, batch.labels).item() == pytest.approx(loss(output, batch.labels).item(), rel=1e-9)
    assert output.bias is not None
    seen, of_longer = loss.eval_logits(output), loss.eval_logits(longer)
    torch.testing.assert_close(of_longer - output.bias, 3 * (seen - output.bias))


def test_an_overflowing_divisor_of_godin_keeps_its_gradient_finite() -> None:
    batch = make_batch(HeadSpec("godin", similarity="inner", divisor="exp"))
    features = (1e5 * batch.features).requires_grad_()
    output = batch.head(features)
    assert output.divisor.isfinite().all()
    (gradient,) = torch.autograd.grad(output.logits.sum(), features)
    assert gradient.isfinite().all()


def test_a_small_divisor_of_godin_is_kept_at_a_thousandth() -> None:
    for activation in ("sigmoid", "exp"):
        head = make_batch(HeadSpec("godin", divisor=activation)).head
        assert isinstance(head, GodinHead)
        torch.nn.init.constant_(head.divisor.get_submodule("1").get_parameter("bias"), -200.0)
        output = head(torch.zeros(3, 5, dtype=torch.float64))
        assert output.divisor.flatten().tolist() == [0.001] * 3
