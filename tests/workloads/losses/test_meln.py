"""Margin-enhanced LogitNorm: what its margin and its temperature do and do not do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workloads.losses.base import LossContext
from workloads.losses.logitnorm import LogitNorm
from workloads.losses.meln import MarginEnhancedLogitNorm

CONTEXT = LossContext(620, 3, (500, 100, 20))


def meln(**params: Any) -> MarginEnhancedLogitNorm:
    return MarginEnhancedLogitNorm(context=CONTEXT, **params).double()


def mostly_right(N: int = 32) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (N,), generator=source)
    Z = torch.randn(N, 3, generator=source, dtype=torch.float64)
    return Z + 3 * torch.eye(3, dtype=torch.float64)[labels], labels


def gradients(loss: MarginEnhancedLogitNorm) -> dict[str, Tensor]:
    Z, labels = mostly_right()
    torch.autograd.backward(loss(Z, labels))
    return {name: p.grad for name, p in loss.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("m", [0.0, 0.1, 7.0, 123.0])
def test_the_published_margin_does_nothing(m: float) -> None:
    Z, labels = mostly_right()
    loss = meln(mode="source", T=0.5, m=m, learn_m=True)
    # log(T) and m are held in float32.
    assert loss(Z, labels).item() == pytest.approx(LogitNorm(0.5)(Z, labels).item(), rel=1e-6)
    assert gradients(loss)["m"].abs().item() < 1e-12


@pytest.mark.parametrize("mode", ["target", "shifted_norm", "per_class"])
def test_the_margin_acts_in_every_other_mode(mode: Any) -> None:
    Z, labels = mostly_right()
    small, large = meln(mode=mode, T=0.5, m=0.0), meln(mode=mode, T=0.5, m=0.4)
    if mode == "per_class":
        with torch.no_grad():
            large.m.copy_(torch.tensor([0.4, 0.1, 0.0]))
    assert abs(large(Z, labels).item() - small(Z, labels).item()) > 1e-3
    assert gradients(meln(mode=mode, T=0.5, learn_m=True))["m"].abs().max().item() > 1e-4


def test_a_margin_on_the_true_class_raises_the_loss_so_that_a_learned_one_only_falls() -> None:
    Z, labels = mostly_right()
    values = [meln(mode="target", T=0.5, m=m)(Z, labels).item() for m in (0.0, 0.1, 0.2, 0.4)]
    assert values == sorted(values)
    assert gradients(meln(mode="target", T=0.5, m=0.2, learn_m=True))["m"].item() > 0


def test_a_temperature_falls_where_most_images_are_right() -> None:
    assert gradients(meln(T=0.5))["t"].item() > 0
    multiplied = meln(T=2.0, temperature="multiply")
    assert gradients(multiplied)["t"].item() < 0


def test_multiplying_by_a_temperature_is_dividing_by_its_inverse() -> None:
    Z, labels = mostly_right()
    divided = meln(T=0.25)(Z, labels).item()
    multiplied = meln(T=4.0, temperature="multiply")(Z, labels).item()
    assert multiplied == pytest.approx(divided, rel=1e-6)


@pytest.mark.parametrize(("constraint", "runs_away"), [("none", True), ("log", False)])
def test_a_bare_temperature_runs_through_zero_and_a_held_one_does_not(
    constraint: Any, runs_away: bool
) -> None:
    Z = 3 * torch.eye(3, dtype=torch.float64)
    loss = meln(mode="source", T=0.2, constraint=constraint).train()
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.5, momentum=0.9)
    seen = []
    for _ in range(100):
        optimizer.zero_grad()
        torch.autograd.backward(loss(Z, torch.arange(3)))
        seen.append(loss.divisor.item())
        optimizer.step()
    assert (min(seen) < 0) is runs_away
    assert runs_away or 0.01 <= min(seen) <= max(seen) <= 1.0


@pytest.mark.parametrize("temperature", ["divide", "multiply"])
@pytest.mark.parametrize(("divisor", "held"), [(1e-9, 0.01), (1e9, 1.0)])
def test_a_held_temperature_returns_to_its_bound_and_learns_there(
    temperature: Any, divisor: float, held: float
) -> None:
    loss = meln(T=0.5 if temperature == "divide" else 2.0, temperature=temperature).train()
    sign = 1 if temperature == "divide" else -1
    torch.nn.init.constant_(loss.t, sign * math.log(divisor))
    Z, labels = mostly_right()
    Z[0] = -Z[0]  # one image is wrong, so that the loss wants a warmer temperature at the cold bound
    torch.autograd.backward(loss(Z, labels))
    assert loss.divisor.item() == pytest.approx(held, rel=1e-9)
    assert loss.t.grad is not None
    assert loss.t.grad.abs().item() > 1e-3


def test_two_batches_may_share_a_backward_pass() -> None:
    """Although holding T writes into it."""
    Z, labels = mostly_right()
    once, twice = meln(T=0.5).train(), meln(T=0.5).train()
    torch.autograd.backward(once(Z, labels))
    torch.autograd.backward(twice(Z, labels) + twice(Z, labels))
    assert once.t.grad is not None
    assert twice.t.grad is not None
    assert twice.t.grad.item() == pytest.approx(2 * once.t.grad.item(), rel=1e-9)


def test_only_the_target_margin_refuses_soft_targets() -> None:
    for mode, targets in (
        ("target", "hard"),
        ("source", "soft"),
        ("shifted_norm", "soft"),
        ("per_class", "soft"),
    ):
        assert meln(mode=mode).targets == targets


def test_the_tracked_temperature_is_the_one_that_was_asked_for() -> None:
    Z, labels = mostly_right()
    for params in ({"T": 0.25}, {"T": 4.0, "temperature": "multiply"}):
        for constraint in ("log", "none"):
            loss = meln(**params, constraint=constraint).train()
            loss(Z, labels)
            assert loss.stats()["T"] == pytest.approx(params["T"], rel=1e-6)
