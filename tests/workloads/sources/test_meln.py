"""Margin-enhanced LogitNorm (README): what is printed against what is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from workloads.losses.meln import MarginEnhancedLogitNorm

from .making import EXACT, built, gradient, some_logits, tensor


@pytest.mark.parametrize("m", [-7.0, 0.0, 123.0])
def test_melns_margin_changes_nothing_and_never_learns(m: float) -> None:
    Z, y = some_logits()
    Z.requires_grad_()
    meln = built("meln", mode="source", T=1.0, constraint="none", learn_m=True)
    assert isinstance(meln, MarginEnhancedLogitNorm)
    torch.nn.init.constant_(meln.m, m)
    plain = built("logitnorm", tau=1.0)(Z, y)
    value = meln(Z, y)
    # 123 / |Z| is about 40: its rounding error is forty times that of the logits.
    assert value.item() == pytest.approx(plain.item(), rel=50 * EXACT)
    assert torch.allclose(gradient(meln(Z, y), Z), gradient(plain, Z), atol=50 * EXACT)
    assert abs(gradient(value, meln.m).item()) < EXACT


@pytest.mark.parametrize("mode", ["target", "shifted_norm", "per_class"])
def test_in_the_other_readings_melns_margin_acts(mode: str) -> None:
    Z, y = some_logits()
    meln = built("meln", mode=mode, T=1.0, constraint="none", learn_m=True)
    assert isinstance(meln, MarginEnhancedLogitNorm)
    slope = gradient(meln(Z, y), meln.m)
    assert float(slope.abs().max()) > 1e-3
    if mode == "target":  # it only falls, wherever it stands
        assert slope.item() > 0


def trained_temperature(
    constraint: str, T: float, steps: int = 200
) -> tuple[MarginEnhancedLogitNorm, list[float], list[float]]:
    """T and the loss before every step of SGD (0.1, momentum 0.9) on three logit vectors, first all wrong."""
    meln = built("meln", 3, mode="source", T=T, constraint=constraint, learn_m=True)
    assert isinstance(meln, MarginEnhancedLogitNorm)
    Z = torch.nn.Parameter(tensor([0.0, 0.3, 0.1], [0.1, 0.0, 0.3], [0.3, 0.1, 0.0]))
    optimiser = torch.optim.SGD([Z, *meln.parameters()], lr=0.1, momentum=0.9)
    temperatures, losses = [], []
    for _ in range(steps + 1):
        value = meln(Z, torch.arange(3))
        temperatures.append(meln.divisor.item())
        losses.append(value.item())
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return meln, temperatures, losses


def test_melns_free_temperature_runs_through_zero_and_the_loss_freezes_at_log_3() -> None:
    meln, T, loss = trained_temperature("none", T=1.0)
    at = [0, 5, 10, 12, 14, 16, 20, 50, 200]
    printed = [1.0, 1.2601, 0.8586, 0.4450, -0.0954, -25.52, -62.80, -130.92, -133.94]
    # The step across zero magnifies rounding; four printed digits remain.
    assert [T[i] for i in at] == pytest.approx(printed, rel=1e-3)
    assert [loss[i] for i in (12, 14)] == pytest.approx([0.1303, 13.2373], rel=1e-3)
    assert 0 < min(loss[50:]) - math.log(3) < 0.01
    assert meln.m.item() == pytest.approx(0.1, abs=1e-7)  # stored as float32 at first
    _, T, loss = trained_temperature("none", T=0.1)
    assert [T[200], loss[200]] == pytest.approx([94.83, 1.0927], rel=1e-3)


def test_melns_held_temperature_stays_positive_and_learns() -> None:
    _, T, loss = trained_temperature("log", T=0.5)
    assert max(T) <= 1
    assert T[200] == pytest.approx(0.0373, abs=5e-5)  # four printed decimals
    assert loss[200] < 1e-6


def test_a_held_temperature_that_starts_at_its_bound_learns() -> None:
    _, T, _ = trained_temperature("log", T=1.0)
    assert T[200] < 0.5


def test_melns_text_multiplies_by_the_temperature_and_its_code_divides() -> None:
    Z, y = some_logits()

    def value(T: float, temperature: str) -> float:
        meln = built("meln", mode="source", T=T, temperature=temperature, constraint="none")
        return float(meln(Z, y).item())

    assert value(0.5, "divide") == pytest.approx(value(2.0, "multiply"), rel=EXACT)
    assert abs(value(0.5, "multiply") - value(0.5, "divide")) > 0.05


def test_with_ten_to_the_seventh_in_the_denominator_every_loss_is_that_of_chance() -> None:
    Z, y = some_logits()
    as_printed = F.cross_entropy((Z - 0.1) / (Z.norm(dim=1, keepdim=True) + 1e7), y)
    assert as_printed.item() == pytest.approx(math.log(10), abs=1e-6)
    assert abs(built("meln", mode="source", T=1.0)(Z, y).item() - math.log(10)) > 0.01


def test_melns_matlab_loss_is_infinite_for_every_sample() -> None:
    Z, y = some_logits()
    x, target = Z.numpy(), np.eye(10)[y.numpy()]
    norm = np.sqrt((x**2).sum(1, keepdims=True)) + 1e-7
    exponentials = np.exp((x - 0.1) / norm)
    softmax = exponentials / exponentials.sum(1, keepdims=True)
    with np.errstate(divide="ignore"):
        as_printed = -(np.log(target) * softmax).mean(1)
    assert np.isposinf(as_printed).all()
    mended = -(target * np.log(softmax)).sum(1).mean()
    assert mended == pytest.approx(built("meln", mode="source", T=1.0)(Z, y).item(), rel=EXACT)
