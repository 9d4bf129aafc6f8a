"""Public code of other losses: what is printed against what is right."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.head import HeadOutput
from workloads.losses.adacos import SMALLEST, AdaCos
from workloads.losses.arcface import Fallback, with_margin
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss

from .making import EXACT, PRINTED, built, gradient, some_logits, tensor


@pytest.mark.parametrize(
    ("fallback", "printed"), [("linear", -1.229705), ("none", -0.936457), ("easy", -0.989992)]
)
def test_arcface_has_three_values_beyond_pi(fallback: Fallback, printed: float) -> None:
    found = with_margin(tensor(math.cos(3.0)), tensor(0.5), fallback).item()
    assert found == pytest.approx(printed, abs=PRINTED)


@pytest.mark.parametrize("theta", [0.2, 1.5, 2.9])
def test_arcfaces_public_code_trains_with_another_gradient(theta: float) -> None:
    def slope(grad: str) -> float:
        cosines = tensor([math.cos(theta), 0.3, -0.2]).requires_grad_()
        loss = built("arcface", 3, m=0.5, fallback="none", grad=grad, s=2.0)
        return gradient(loss(cosines, torch.tensor([0])), cosines)[0, 0].item()

    # 1e-12 in the root of the sine.
    ratio = math.sin(theta + 0.5) / math.sin(theta)
    assert slope("exact") / slope("straight_through") == pytest.approx(ratio, rel=1e-6)
    assert slope("straight_through") < 0  # towards the class; exactly, beyond pi, away from it
    assert (slope("exact") > 0) == (theta + 0.5 > math.pi)


def elogitnorm_logits(X: Tensor, W: Tensor) -> tuple[Tensor, Tensor]:
    """Z and D as public code forms them: the distance of a class to itself set to 1."""
    Z = X @ W.T
    distances = torch.cdist(W, W) + torch.eye(len(W), dtype=torch.float64)
    return Z, ((Z.max(1, keepdim=True).values - Z) / distances[Z.argmax(1)]).mean(1, keepdim=True)


def test_elogitnorm_of_equal_logits_is_not_a_number_and_here_that_of_chance() -> None:
    W, X, y = torch.eye(4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64), torch.tensor([0])
    Z, D = elogitnorm_logits(X.requires_grad_(), W)
    assert F.cross_entropy(Z / D, y).isnan()
    value = built("elogitnorm", 4)(HeadOutput(Z, X, W), y)
    assert value.item() == pytest.approx(math.log(4), rel=EXACT)
    assert gradient(value, X).isfinite().all()


def test_elogitnorms_average_over_the_others_is_a_temperature_of_4_thirds_for_4_classes() -> None:
    W, (X, y) = some_logits(4, 6, seed=1)[0], some_logits(8, 6)
    y = y % 4
    Z, D = elogitnorm_logits(X, W)
    for divisor, factor in (("classes", 1.0), ("others", 4 / 3)):
        found = built("elogitnorm", 4, divisor=divisor)(HeadOutput(Z, X, W), y).item()
        # The 1e-8 beside D, and distances from squares that nearly cancel.
        assert found == pytest.approx(F.cross_entropy(Z / (factor * D), y).item(), rel=1e-6)


def test_a_focal_weight_inside_the_exponential_also_raises_the_probability() -> None:
    Z, y = tensor([0.0, 0.0]), torch.tensor([0])
    # p = 1/2, weight 2: by hand 2 (1/2) log 2, and (1 - 1/4) 2 log 2.
    context = LossContext(2, 2, (1, 1))
    values = [
        build_loss("focal", {"gamma": 1.0, "alpha": [2.0, 2.0], "weighting": where}, context)(Z, y).item()
        for where in ("outside", "inside")
    ]
    assert values == pytest.approx([math.log(2), 1.5 * math.log(2)], rel=EXACT)


def test_adacos_scale_is_zero_for_two_classes_and_here_1() -> None:
    cosines, y = tensor([0.9, -0.2]).requires_grad_(), torch.tensor([0])
    s = math.sqrt(2) * math.log(2 - 1)
    as_printed = F.cross_entropy(s * cosines, y)
    assert as_printed.item() == pytest.approx(math.log(2), rel=EXACT)
    assert (gradient(as_printed, cosines) == 0).all()
    ours = built("adacos", 2, mode="fixed")
    assert isinstance(ours, AdaCos)
    assert ours.scale.item() == 1
    assert gradient(ours(cosines, y), cosines)[0, 0] < -0.1


def test_adacos_dynamic_scale_would_turn_negative_where_the_others_are_far() -> None:
    cosines, y = tensor([0.9, -0.2]), torch.tensor([0])
    assert math.log(math.exp(1.0 * -0.2)) / math.cos(math.acos(0.9)) < 0
    ours = built("adacos", 2)
    assert isinstance(ours, AdaCos)
    ours(cosines, y)
    assert ours.scale.item() == SMALLEST


def test_torchs_class_weights_divide_by_the_weights_that_are_in_the_batch() -> None:
    context, Z = LossContext(2, 2, (1, 1)), torch.zeros(2, 2, dtype=torch.float64)
    loss = build_loss("cross_entropy", {"class_weights": [1.0, 9.0]}, context)
    for y in ([0, 0], [1, 1]):  # the weight of a batch of one class cancels
        assert loss(Z, torch.tensor(y)).item() == pytest.approx(math.log(2), rel=EXACT)
    Z[0, 0] = 1.0
    own = F.cross_entropy(Z, torch.tensor([0, 1]), reduction="none")
    found = loss(Z, torch.tensor([0, 1])).item()
    assert found == pytest.approx(float(own[0] + 9 * own[1]) / 10, rel=EXACT)
    assert abs(found - float(own[0] + 9 * own[1]) / 2) > 1
