"""Cross-entropy, its weights, focal, binary and regression losses: how they are related."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from workloads.losses.base import LossContext
from workloads.losses.binary import BinaryCrossEntropy
from workloads.losses.counts import effective_weights, inverse_weights
from workloads.losses.cross_entropy import CrossEntropy, LabelSmoothing
from workloads.losses.focal import Focal
from workloads.losses.regression import Huber, MeanAbsoluteError, MeanSquaredError

CONTEXT = LossContext(620, 3, (500, 100, 20))


def random_batch(N: int = 32, C: int = 10) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    Z = 2 * torch.randn(N, C, generator=source, dtype=torch.float64)
    return Z, torch.randint(C, (N,), generator=source)


def test_class_weights_sum_to_the_number_of_classes_and_are_larger_for_rarer_ones() -> None:
    counts = torch.tensor(CONTEXT.class_counts, dtype=torch.float64)
    for weights in (inverse_weights(counts), effective_weights(counts, 0.9999)):
        assert weights.sum().item() == pytest.approx(3, rel=1e-12)
        assert weights.tolist() == sorted(weights.tolist())
    assert inverse_weights(counts)[2].item() == pytest.approx(25 * inverse_weights(counts)[0].item())
    # beta = 0: every class has one effective image.
    assert effective_weights(counts, 0.0).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("weights", ["inverse", "effective"])
def test_weights_of_equal_counts_are_no_weights(weights: str) -> None:
    even = LossContext(300, 3, (100, 100, 100))
    Z, labels = random_batch(C=3)
    plain = CrossEntropy()(Z, labels).item()
    assert CrossEntropy(weights, even)(Z, labels).item() == pytest.approx(plain, rel=1e-12)
    focal = Focal()(Z, labels).item()
    for weighting in ("outside", "inside"):
        weighted = Focal(alpha=weights, weighting=weighting, context=even)
        assert weighted(Z, labels).item() == pytest.approx(focal, rel=1e-12)


def test_the_weighted_mean_is_divided_by_the_weights() -> None:
    Z, labels = random_batch(C=3)
    loss = CrossEntropy([2.0, 2.0, 2.0])
    assert loss(Z, labels).item() == pytest.approx(CrossEntropy()(Z, labels).item(), rel=1e-12)
    focal = Focal(alpha=[2.0, 2.0, 2.0])
    assert focal(Z, labels).item() == pytest.approx(2 * Focal()(Z, labels).item(), rel=1e-12)


def test_smoothing_by_nothing_is_cross_entropy_and_by_all_forgets_the_labels() -> None:
    Z, labels = random_batch()
    assert LabelSmoothing(0.0)(Z, labels).item() == CrossEntropy()(Z, labels).item()
    whole = LabelSmoothing(1.0)
    assert whole(Z, labels).item() == pytest.approx(whole(Z, (labels + 1) % 10).item(), rel=1e-12)


def test_smoothing_is_cross_entropy_with_soft_targets() -> None:
    Z, labels = random_batch()
    soft = 0.8 * F.one_hot(labels, 10) + 0.2 / 10
    expected = CrossEntropy()(Z, soft.double()).item()
    # 0.8 and 0.02 are float32 in `soft`.
    assert LabelSmoothing(0.2)(Z, labels).item() == pytest.approx(expected, rel=1e-6)


def test_focal_without_focus_is_cross_entropy() -> None:
    Z, labels = random_batch()
    assert Focal(0.0)(Z, labels).item() == pytest.approx(CrossEntropy()(Z, labels).item(), rel=1e-12)
    weights = [0.5, 1.0, 2.0]
    inside = Focal(0.0, weights, "inside")
    outside = Focal(0.0, weights, "outside")
    Z, labels = Z[:, :3], labels % 3
    assert inside(Z, labels).item() == pytest.approx(outside(Z, labels).item(), rel=1e-12)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_of_two_classes_is_torchvisions_sigmoid_form(gamma: float) -> None:
    Z, labels = random_batch(C=2)
    expected = sigmoid_focal_loss(Z[:, 1] - Z[:, 0], labels.double(), alpha=-1, gamma=gamma, reduction="mean")
    assert Focal(gamma)(Z, labels).item() == pytest.approx(expected.item(), rel=1e-9)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 0.9])
def test_focal_has_a_gradient_where_an_image_is_certain(gamma: float) -> None:
    Z = torch.tensor([[200.0, 0.0, 0.0]], requires_grad=True)
    value = Focal(gamma)(Z, torch.tensor([0]))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert Z.grad is not None
    assert Z.grad.isfinite().all()


def test_a_larger_focus_counts_easy_images_less() -> None:
    Z, labels = random_batch()
    values = [Focal(gamma)(Z, labels).item() for gamma in (0.0, 0.5, 1.0, 2.0, 5.0)]
    assert values == sorted(set(values), reverse=True)


def test_binary_cross_entropy_is_one_logistic_regression_a_class() -> None:
    Z, labels = random_batch()
    targets = F.one_hot(labels, 10).double()
    expected = F.binary_cross_entropy_with_logits(Z, targets, reduction="none").sum(dim=1).mean().item()
    assert BinaryCrossEntropy()(Z, labels).item() == pytest.approx(expected, rel=1e-9)
    mean = BinaryCrossEntropy("mean")(Z, labels).item()
    assert mean == pytest.approx(F.binary_cross_entropy_with_logits(Z, targets).item(), rel=1e-9)


def test_a_head_at_the_prior_costs_little_where_one_at_zero_costs_c_log_2() -> None:
    C, labels = 100, torch.arange(100)
    zero = torch.zeros(C, C, dtype=torch.float64)
    assert BinaryCrossEntropy()(zero, labels).item() == pytest.approx(69.3147, rel=1e-5)
    prior = zero - torch.log(torch.tensor(C - 1.0))
    assert BinaryCrossEntropy()(prior, labels).item() == pytest.approx(5.6002, rel=1e-4)
    assert BinaryCrossEntropy(prior=True).head.prior
    assert not BinaryCrossEntropy(prior=False).head.prior


@pytest.mark.parametrize("C", [2, 3, 10])
def test_l1_on_probabilities_is_twice_what_the_true_class_lacks(C: int) -> None:
    Z, labels = random_batch(C=C)
    p = Z.softmax(dim=1).gather(1, labels[:, None])
    value = MeanAbsoluteError("probs", "sum")(Z, labels).item()
    assert value == pytest.approx(2 * (1 - p).mean().item(), rel=1e-12)


def test_l1_on_logits_pulls_to_zero_for_more_than_two_classes() -> None:
    """The median of a one-hot row: why it is a negative control."""
    labels = torch.arange(9) % 3
    at_zero = MeanAbsoluteError()(torch.zeros(9, 3), labels).item()
    for height in (0.1, 0.3, 1 / 3, 0.5, 1.0):
        assert MeanAbsoluteError()(torch.full((9, 3), height), labels).item() > at_zero


def test_regression_losses_are_torchs() -> None:
    Z, labels = random_batch()
    t = F.one_hot(labels, 10).double()
    pairs: list[tuple[Any, Tensor]] = [
        (MeanSquaredError(), F.mse_loss(Z, t)),
        (MeanSquaredError(class_reduction="sum", half=True), 0.5 * 10 * F.mse_loss(Z, t)),
        (MeanAbsoluteError(), F.l1_loss(Z, t)),
        (Huber(0.5), F.huber_loss(Z, t, delta=0.5)),
        (Huber(0.5), 0.5 * F.smooth_l1_loss(Z, t, beta=0.5)),
        (Huber(1e6), 0.5 * F.mse_loss(Z, t)),
    ]
    for loss, expected in pairs:
        assert loss(Z, labels).item() == pytest.approx(expected.item(), rel=1e-12)


def test_the_weight_and_target_of_the_true_class_are_k_and_m() -> None:
    Z = torch.tensor([[7.0, 2.0, 1.0]], dtype=torch.float64)
    loss = MeanSquaredError(class_reduction="sum", k=3.0, M=10.0)
    assert loss(Z, torch.tensor([0])).item() == 3 * (7 - 10) ** 2 + 2**2 + 1**2
