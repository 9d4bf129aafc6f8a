"""Lecture notes (L2 and cross-entropy to CosFace): what is printed against what is right."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.losses.sphereface import psi

from .making import EXACT, built, gradient, some_logits, tensor


@pytest.mark.parametrize("m", [2, 3, 4])
def test_psi_is_continuous_only_if_it_goes_on_from_minus_one(m: int) -> None:
    theta = tensor(math.pi / m - 1e-6, math.pi / m + 1e-6)
    before, after = psi(theta.cos(), m).tolist()
    assert [before, after] == pytest.approx([-1, -1], abs=1e-9)  # cos(m theta) is flat there
    assert math.cos(math.pi / m) - before > 0.9  # the leap of D(pi/m) = cos(pi/m)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_psis_printed_interval_agrees_up_to_pi_and_stops_falling_beyond(m: int) -> None:
    def last_branch(theta: Tensor) -> Tensor:
        return torch.cos(m * theta) * (1 if m % 2 else -1) - 2 * (m - 1)

    inside = torch.linspace((m - 1) * math.pi / m + 1e-6, math.pi, 50, dtype=torch.float64)
    # Chebyshev's recursion of a cosine near -1 loses a few digits.
    assert torch.allclose(last_branch(inside), psi(inside.cos(), m), atol=1e-9)
    beyond = last_branch(tensor(math.pi, math.pi * (1 + 1 / m)))
    assert beyond[1] > beyond[0] + 1.9


def test_a_cosine_beside_the_exponential_has_no_logarithm() -> None:
    theta, m, length = math.radians(60), 2, 3.0
    numerator = math.exp(length * float(psi(tensor(math.cos(theta)), m))) * math.cos(m * theta)
    assert numerator < 0
    assert tensor(numerator).log().isnan()


def test_the_boundary_of_a_softmax_divides_the_gap_by_m_plus_1() -> None:
    K, m = math.radians(30), 2
    boundary = K / (m + 1)
    assert math.cos(m * boundary) == pytest.approx(math.cos(K - boundary), rel=EXACT)
    assert math.degrees(boundary) == pytest.approx(10)  # K / m + 1 is 16 degrees


def test_without_its_minus_the_focal_loss_rewards_mistakes() -> None:
    as_printed = [(1 - p) ** 2 * math.log(p) for p in (0.01, 0.99)]
    assert as_printed[0] < as_printed[1] < 0
    wrong, right = (built("focal", 2)(tensor([z, 0.0]), torch.tensor([0])).item() for z in (-4.6, 4.6))
    assert wrong > right > 0


def test_without_its_minus_binary_cross_entropy_is_negative() -> None:
    p = 0.2
    Z = tensor([math.log(p / (1 - p))])
    as_printed = 1 * math.log(p) + (1 - 1) * math.log(1 - p)
    assert built("bce", 1)(Z, torch.tensor([0])).item() == pytest.approx(-as_printed, rel=EXACT)
    assert as_printed < math.log(0.9) < 0


def test_the_focal_weight_never_raises_a_sample_above_cross_entropy() -> None:
    for p in (0.01, 0.2, 0.5, 0.99):
        Z = tensor([math.log(p / (1 - p)), 0.0])
        assert built("focal", 2)(Z, torch.tensor([0])).item() < -math.log(p)


def test_the_sigmoid_without_its_minus_is_the_probability_of_the_other_class() -> None:
    x = 3.0
    assert 1 / (1 + math.exp(x)) == pytest.approx(1 - torch.sigmoid(tensor(x)).item(), rel=EXACT)


def test_the_quoted_gradient_1_8_is_that_of_the_squared_error_without_its_half() -> None:
    y_hat = tensor(0.1).requires_grad_()
    whole, half = gradient(((1 - y_hat) ** 2).sum(), y_hat), gradient((0.5 * (1 - y_hat) ** 2).sum(), y_hat)
    assert [whole.item(), half.item()] == pytest.approx([-1.8, -0.9], rel=EXACT)
    assert gradient(-y_hat.log().sum(), y_hat).item() == pytest.approx(-10)


def test_half_the_summed_squares_are_five_times_torchs_mean_for_ten_classes() -> None:
    Z, y = some_logits()
    as_printed = built("mse", class_reduction="sum", half=True)(Z, y).item()
    assert as_printed == pytest.approx(10 / 2 * built("mse")(Z, y).item(), rel=EXACT)
    assert built("mse")(Z, y).item() == pytest.approx(F.mse_loss(Z, F.one_hot(y, 10).double()).item())
