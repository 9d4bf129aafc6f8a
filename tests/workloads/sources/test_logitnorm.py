"""LogitNorm (Wei et al. 2022): what is printed against what is right."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.evaluation.scores import score
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.logitnorm import bound_as_published, infimum
from workloads.models.heads import build_head

from .making import PRINTED, built, gradient, some_logits, tensor


@pytest.mark.parametrize("C", [2, 3, 10])
def test_logitnorms_published_bound_is_out_of_reach(C: int) -> None:
    loss, y = built("logitnorm", C, tau=1.0), torch.tensor([0])
    found = []
    for seed in range(3):
        Z = some_logits(1, C, seed)[0].requires_grad_()
        optimiser = torch.optim.LBFGS([Z], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

        def closure(Z: Tensor = Z, optimiser: torch.optim.LBFGS = optimiser) -> float:
            optimiser.zero_grad()
            value = loss(Z, y)
            value.backward()
            return float(value.item())

        optimiser.step(closure)  # type: ignore[no-untyped-call]
        found.append(loss(Z, y).item())
    # The 1e-7 in the norm, and where the search ends.
    assert min(found) == pytest.approx(infimum(C, 1.0), rel=1e-6)
    assert bound_as_published(C, 1.0) < infimum(C, 1.0) - 0.05
    if C == 10:
        assert infimum(C, 1.0) == pytest.approx(1.419869, abs=PRINTED)
        assert bound_as_published(C, 1.0) == pytest.approx(0.796614, abs=PRINTED)


def test_logitnorms_gradient_is_orthogonal_to_the_logits_and_explodes_at_zero() -> None:
    Z, y = some_logits()
    loss, at_zero = built("logitnorm", tau=0.04), torch.zeros_like(Z).requires_grad_()
    Z.requires_grad_()
    usual = gradient(loss(Z, y), Z)
    assert (usual * Z).sum(1).abs().max() < 1e-6  # the 1e-7 in the norm leaves a trace
    largest = gradient(loss(at_zero, y) * len(Z), at_zero).abs().max().item()
    assert largest == pytest.approx((1 - 0.1) / (0.04 * 1e-7), rel=1e-6)


def test_logits_as_short_as_the_papers_cannot_be_confident() -> None:
    length, y = 1.48, torch.tensor([0])
    direction = F.one_hot(y, 10).double() - 0.1
    Z = length * direction / direction.norm()
    confidence = built("logitnorm").eval_logits(Z).softmax(1).max().item()
    assert confidence == pytest.approx(0.346, abs=5e-4)  # three printed digits
    assert 0.9469 - confidence > 0.6  # least ECE at their accuracy
    others, _ = some_logits(1000)
    others = length * others / others.norm(dim=1, keepdim=True)
    assert others.softmax(1).max() <= confidence


def test_the_energy_that_the_paper_prints_ranks_backwards() -> None:
    confident, uncertain = [9.0, 0.0, 0.0], [1.0, 0.9, 0.8]
    as_printed = -tensor(confident, uncertain).exp().sum(1).log()
    assert as_printed[0] < as_printed[1]
    ours = score("energy", np.array([confident, uncertain]))
    assert ours[0] > ours[1]


def test_the_averages_of_the_logitnorm_paper_do_not_all_follow_from_its_rows() -> None:
    # LogitNorm, MSP, CIFAR-100 (table 1): FPR95, AUROC, AUPR over the six sets.
    fpr95 = [70.67, 45.98, 13.93, 68.68, 71.47, 80.20]
    auroc = [78.65, 92.48, 97.56, 84.77, 83.79, 77.14]
    aupr = [93.66, 98.45, 99.48, 96.52, 96.24, 94.16]
    half_a_digit = 0.00501
    assert np.mean(fpr95) == pytest.approx(58.49, abs=half_a_digit)  # table 1; table 2 says 58.35
    assert np.mean(auroc) == pytest.approx(85.73, abs=half_a_digit)  # table 1; table 2 says 85.75
    assert np.mean(aupr) == pytest.approx(96.42, abs=half_a_digit)  # table 1; table 2 says 96.44
    densenet = [[66.14, 57.26, 32.30, 43.85, 43.08, 60.26], [39.79, 18.66, 2.73, 5.41, 5.73, 38.70]]
    assert np.mean(densenet, axis=1) == pytest.approx([50.48, 18.50], abs=half_a_digit)  # 50.41, 18.57


def test_the_papers_42_percent_are_points_on_one_set_and_the_average_is_34() -> None:
    points, average = 50.33 - 8.03, 49.52 - 15.65
    assert [points, average] == pytest.approx([42.30, 33.87])
    share = points / 50.33
    assert share == pytest.approx(0.84, abs=5e-3)


def godin_head(divisor: Literal["sigmoid", "exp"]) -> tuple[Tensor, Tensor]:
    """h and g of 64 images; both heads have the same weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        X = torch.randn(64, 16)
        out = build_head(HeadSpec("godin", divisor=divisor), 16, 10)(X)
    assert out.divisor is not None
    return out.logits.detach() * out.divisor.detach(), out.divisor.detach()


def test_godins_two_divisors_differ_in_what_they_can_do_to_a_logit() -> None:
    (h, sigmoid), (h_again, exponential) = godin_head("sigmoid"), godin_head("exp")
    assert torch.allclose(h, h_again, atol=1e-6)  # float32
    assert sigmoid.max() < 1  # can only enlarge
    assert exponential.min() < 1 < exponential.max()  # enlarges or shrinks


def test_godins_divisor_changes_the_ranking_of_images_but_not_of_classes() -> None:
    h, g = godin_head("sigmoid")
    Z = built("godin").eval_logits(HeadOutput(h / g))
    assert torch.equal(Z.argmax(1), h.argmax(1))
    assert not torch.equal(Z.max(1).values.argsort(), h.max(1).values.argsort())
