"""Losses that know how frequent classes are: logit adjustment, the balanced softmax, LDAM."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.workloads.losses.batches import make_batch
from workloads.head import HeadSpec
from workloads.losses.base import LossContext
from workloads.losses.cosine import CosFace
from workloads.losses.ldam import LDAM
from workloads.losses.logit_adjustment import BalancedSoftmax, LogitAdjustment

RARE = LossContext(1094, 4, (108, 181, 302, 503))
EVEN = LossContext(400, 4, (100,) * 4)


def logits() -> tuple[Tensor, Tensor]:
    batch = make_batch(HeadSpec(), N=32)
    return batch.output.logits.detach(), batch.labels


def test_the_balanced_softmax_is_logit_adjustment_of_strength_one() -> None:
    Z, labels = logits()
    balanced = BalancedSoftmax(RARE)(Z, labels).item()
    assert balanced == pytest.approx(LogitAdjustment(1.0, context=RARE)(Z, labels).item(), rel=1e-12)
    assert abs(balanced - LogitAdjustment(0.5, context=RARE)(Z, labels).item()) > 1e-3


def test_logit_adjustment_of_strength_zero_or_of_equal_counts_is_cross_entropy() -> None:
    Z, labels = logits()
    plain = F.cross_entropy(Z, labels).item()
    for loss in (
        LogitAdjustment(0.0, context=RARE),
        LogitAdjustment(2.0, context=EVEN),
        BalancedSoftmax(EVEN),
    ):
        assert loss(Z, labels).item() == pytest.approx(plain, rel=1e-12)


def test_what_is_trained_with_adjustment_is_the_softmax_of_the_unadjusted_in_evaluation() -> None:
    """The two forms of Menon et al. are one shift apart: Z in training, Z - tau log pi afterwards."""
    Z, labels = logits()
    before = LogitAdjustment(0.7, "training", RARE)
    after = LogitAdjustment(0.7, "evaluation", RARE)
    assert torch.equal(before.eval_logits(Z), Z)
    assert after(Z, labels).item() == F.cross_entropy(Z, labels).item()
    assert before(after.eval_logits(Z), labels).item() == pytest.approx(after(Z, labels).item(), rel=1e-12)


def test_equal_logits_answer_with_the_training_frequencies() -> None:
    shares = [n / RARE.num_train for n in RARE.class_counts]
    for label, share in enumerate(shares):
        value = BalancedSoftmax(RARE)(torch.zeros(1, 4, dtype=torch.float64), torch.tensor([label])).item()
        assert value == pytest.approx(-math.log(share), rel=1e-12)


def test_ldam_of_equal_counts_is_cosface() -> None:
    batch = make_batch(HeadSpec("cosine"), N=32)
    c, labels = batch.output.logits, batch.labels
    for max_m in (0.0, 0.3, 0.5):
        value = LDAM(max_m=max_m, s=30.0, context=EVEN)(c, labels).item()
        assert value == pytest.approx(CosFace(30.0, max_m)(c, labels).item(), rel=1e-12)


def test_the_margins_of_ldam_fall_with_the_fourth_root_of_the_counts() -> None:
    margins = LDAM(max_m=0.5, context=LossContext(10_101, 3, (10_000, 100, 1))).margins
    assert margins.tolist() == pytest.approx([0.05, 0.5 / 10**0.5, 0.5], rel=1e-12)


def test_re_weighting_gives_every_class_of_ldam_its_share() -> None:
    """With one image a class, the weighted mean is that of the losses by their weights."""
    batch = make_batch(HeadSpec("cosine"), N=4)
    c, labels = batch.output.logits, torch.arange(4)
    loss = LDAM(drw=0.8, context=RARE)
    alone = LDAM(drw=1.0, context=RARE)
    each = [alone(c[n : n + 1], labels[n : n + 1]).item() for n in range(4)]
    weights = loss.weights.tolist()
    assert weights == sorted(weights, reverse=True)
    expected = sum(w * value for w, value in zip(weights, each, strict=True)) / sum(weights)
    assert loss(c, labels).item() == pytest.approx(expected, rel=1e-9)
