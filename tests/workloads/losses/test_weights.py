"""Weights of images: the weighted mean by hand and by torch, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.workloads.losses.batches import make_batch
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.cross_entropy import CrossEntropy
from workloads.losses.ldam import LDAM

RARE = LossContext(1094, 4, (108, 181, 302, 503))
W = torch.tensor([0.5, 4.0, 1.0, 2.0], dtype=torch.float64)


class OneNumber(Loss):
    """A user's loss that is no mean over images."""

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return output.logits.logsumexp(dim=1).max()


class Doubled(CrossEntropy):
    """A user's loss that changes the batch's value, not the losses of its images."""

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return 2 * super().value(output, targets)


class Both(Doubled):
    """A loss that writes the losses of its images anew below another's value."""

    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return output.logits.square().sum(dim=1)


class Averaged(Loss):
    def per_sample(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return F.cross_entropy(output.logits, targets)


class Nothing(Loss):
    pass


class Unreduced(CrossEntropy):
    def reduce(
        self, losses: Tensor, output: HeadOutput, targets: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        return losses


def logits() -> tuple[Tensor, Tensor]:
    batch = make_batch(HeadSpec(), N=32)
    return batch.output.logits.detach(), batch.labels


def test_weights_by_class_are_the_weighted_mean_of_torch() -> None:
    Z, labels = logits()
    expected = F.cross_entropy(Z, labels, weight=W).item()
    assert CrossEntropy()(Z, labels, weights=W[labels]).item() == pytest.approx(expected, rel=1e-12)
    assert abs(expected - F.cross_entropy(Z, labels).item()) > 1e-3 * expected


def test_class_weights_are_the_weighted_mean_of_torch() -> None:
    Z, labels = logits()
    value, losses = CrossEntropy(W.tolist()).detailed(Z, labels)
    assert value.item() == pytest.approx(F.cross_entropy(Z, labels, weight=W).item(), rel=1e-12)
    assert losses.tolist() == F.cross_entropy(Z, labels, weight=W, reduction="none").tolist()


def test_weights_of_images_multiply_class_weights() -> None:
    Z, labels = logits()
    u = torch.linspace(0, 3, 32, dtype=torch.float64)
    value = CrossEntropy(W.tolist())(Z, labels, weights=u).item()
    expected = CrossEntropy()(Z, labels, weights=u * W[labels]).item()
    assert value == pytest.approx(expected, rel=1e-12)


def test_the_weights_of_two_images_by_hand() -> None:
    # -log softmax of two classes at a distance d is log(1 + exp(-d)).
    Z = torch.tensor([[2.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    weights = torch.tensor([3.0, 0.5], dtype=torch.float64)
    value, losses = CrossEntropy().detailed(Z, torch.tensor([0, 0]), weights=weights)
    first, second = math.log1p(math.exp(-2)), math.log1p(math.e)
    assert losses.tolist() == pytest.approx([first, second], rel=1e-12)
    assert value.item() == pytest.approx((3 * first + 0.5 * second) / 3.5, rel=1e-12)


def test_weights_of_images_multiply_the_re_weighting_of_ldam() -> None:
    batch = make_batch(HeadSpec("cosine"), N=32)
    c, labels = batch.output.logits, batch.labels
    u = torch.linspace(0, 3, 32, dtype=torch.float64)
    loss, plain = LDAM(drw=0.8, context=RARE), LDAM(drw=1.0, context=RARE)
    loss.set_progress(0.7)
    expected = plain(c, labels, weights=u).item()
    assert loss(c, labels, weights=u).item() == pytest.approx(expected, rel=1e-12)
    loss.set_progress(0.8)
    expected = plain(c, labels, weights=u * loss.weights[labels]).item()
    assert loss(c, labels, weights=u).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("loss", "name"),
    [
        (build_loss("cross_entropy", {"triplet": 1.0}, RARE), "WithTriplet"),
        (build_loss("torch.nn:MultiMarginLoss", {}, RARE), "PlainLoss"),
        (OneNumber(), "OneNumber"),
        (Doubled(), "Doubled"),
    ],
)
def test_a_loss_of_one_number_for_a_batch_refuses_weights_and_details(loss: Loss, name: str) -> None:
    assert loss.splits is False
    batch = make_batch(HeadSpec())
    reason = f"^{name} gives one number for a batch: it has no losses of single images"
    with pytest.raises(ValueError, match=f"{reason} to weight$"):
        loss(batch.output, batch.labels, weights=torch.ones(7))
    with pytest.raises(ValueError, match=f"{reason} to show$"):
        loss.detailed(batch.output, batch.labels)
    assert loss(batch.output, batch.labels).isfinite()


def test_a_loss_that_writes_anew_what_its_images_lose_splits_again() -> None:
    loss = Both()
    assert loss.splits is True
    _, losses = loss.detailed(torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
    assert losses.tolist() == [5.0]


def test_losses_that_are_not_one_an_image_are_refused_by_every_door() -> None:
    Z, labels = torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64)
    message = r"^Averaged must return one loss an image, shape \(8,\); got shape \(\)$"
    with pytest.raises(ValueError, match=message):
        Averaged()(Z, labels)
    with pytest.raises(ValueError, match=message):
        Averaged()(Z, labels, weights=torch.ones(8))
    with pytest.raises(ValueError, match=message):
        Averaged().detailed(Z, labels)


def test_a_reduction_that_is_no_scalar_is_refused() -> None:
    Z, labels = torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64)
    message = r"^Unreduced must return a scalar; got shape \(8,\)$"
    with pytest.raises(ValueError, match=message):
        Unreduced()(Z, labels, weights=torch.ones(8))
    with pytest.raises(ValueError, match=message):
        Unreduced().detailed(Z, labels)


def test_a_loss_without_a_formula_says_so() -> None:
    assert Nothing().splits is False
    with pytest.raises(TypeError, match=r"Nothing defines neither per_sample\(output, targets\) nor value"):
        Nothing()(torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(6), r"^weights must have shape \[7\], one an image; got \[6\]$"),
        (torch.ones(7, 1), r"^weights must have shape \[7\], one an image; got \[7, 1\]$"),
        (torch.tensor(1.0), r"^weights must have shape \[7\], one an image; got \[\]$"),
        (torch.ones(7, dtype=torch.int64), r"^weights must be floating-point numbers; got torch.int64$"),
        (torch.tensor([1.0] * 6 + [-0.5]), r"^weights must be finite and at least 0; got -0\.5$"),
        (torch.tensor([1.0] * 6 + [math.nan]), r"^weights must be finite and at least 0; got nan$"),
        (torch.tensor([1.0] * 6 + [math.inf]), r"^weights must be finite and at least 0; got inf$"),
        (torch.zeros(7), r"^weights must not all be 0$"),
    ],
)
def test_weights_that_are_none_are_refused(weights: Any, message: str) -> None:
    Z, labels = torch.zeros(7, 4), torch.zeros(7, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        CrossEntropy()(Z, labels, weights=weights)
    with pytest.raises(ValueError, match=message):
        CrossEntropy().detailed(Z, labels, weights=weights)


def test_details_check_their_inputs_as_the_loss_does() -> None:
    loss = CrossEntropy()
    with pytest.raises(ValueError, match=r"labels must be class indices in 0\.\.3; got 4"):
        loss.detailed(torch.zeros(1, 4), torch.tensor([4]))
    with pytest.raises(ValueError, match=r"every label must be one of the active classes \[0, 1\]; got 3"):
        loss.detailed(torch.zeros(1, 4), torch.tensor([3]), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"CrossEntropy: logits must be \[batch, classes\]"):
        loss.detailed(torch.zeros(4), torch.tensor([3]))
