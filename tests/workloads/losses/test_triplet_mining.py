"""How triplets are mined: against pytorch-metric-learning, in hard places, and beside a loss."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.workloads.losses import reference as ref
from tests.workloads.losses.batches import context_of, make_batch, rare_to_frequent
from workloads.head import HeadSpec
from workloads.losses.build import build_loss
from workloads.losses.triplet import Mining, Triplet, WithTriplet

MINING: tuple[Mining, ...] = ("batch_hard", "batch_all", "semi_hard")
CONTEXT = context_of(rare_to_frequent(4))
ROUNDING = 1e-12
"""Relative; both sides are float64 and add up some hundred terms of like size."""

every_mining = pytest.mark.parametrize("mining", MINING)
normalised_or_not = pytest.mark.parametrize("normalise", [True, False])


def points() -> tuple[Tensor, Tensor]:
    """Features and labels; every class has four or five members."""
    return make_batch(HeadSpec(), N=18, seed=1).features, torch.arange(18) % 4


def pairs() -> tuple[Tensor, Tensor]:
    """Classes of two close members, so that every pair has a negative that is farther."""
    centres, noise = (make_batch(HeadSpec(), N=6, seed=seed).features for seed in (2, 3))
    return torch.cat([2 * centres, 2 * centres + 0.2 * noise]), torch.arange(12) % 6


@every_mining
@normalised_or_not
def test_value_and_gradient_are_the_librarys_with_a_mean_over_the_same_triplets(
    mining: Mining, normalise: bool
) -> None:
    x, labels = pairs() if mining == "semi_hard" else points()
    for margin in (0.3, 1.5, 4.0):
        mined = None if mining == "batch_all" else _mined(mining, normalise, x, labels)
        assert mined is None or len(mined[0]) == len(x)
        value, gradient = _of(Triplet(margin, mining, normalise), x, labels)
        theirs = _of(_library_loss(margin, normalise, over_all=mining != "batch_all"), x, labels, mined)
        assert value == pytest.approx(theirs[0], rel=ROUNDING)
        torch.testing.assert_close(gradient, theirs[1], rtol=0, atol=ROUNDING)
    assert value > 0


def test_the_hardest_triplets_that_are_satisfied_count_here_and_not_in_the_library() -> None:
    x, labels = pairs()
    mined = _mined("batch_hard", False, x, labels)
    anchor, positive, _, negative = mined
    hinges = (x[anchor] - x[positive]).norm(dim=1) - (x[anchor] - x[negative]).norm(dim=1) + 3
    violating = (hinges > 0).double().mean().item()
    assert 0 < violating < 1
    value, gradient = _of(Triplet(3.0, "batch_hard", normalise=False), x, labels)
    theirs = _of(_library_loss(3.0, False), x, labels, mined)
    assert value == pytest.approx(theirs[0] * violating, rel=ROUNDING)
    torch.testing.assert_close(gradient, theirs[1] * violating, rtol=0, atol=ROUNDING)
    assert value == pytest.approx(_reference(x, labels, 3.0, "batch_hard", False), rel=ROUNDING)


def test_a_pair_without_a_semi_hard_negative_counts_here_and_not_in_the_library() -> None:
    # 3-7 has no negative farther than 4: the farthest, 3 away, stands in for it.
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1])
    mined = _mined("semi_hard", False, x, labels)
    theirs, _ = _of(_library_loss(1.5, False, over_all=True), x, labels, mined)
    value, gradient = _of(Triplet(1.5, "semi_hard", normalise=False), x, labels)
    # Hinges: 0 has 1 - 3 + 1.5, 1 has 1 - 2 + 1.5, 7 has 4 - 6 + 1.5, and 3 has 4 - 3 + 1.5.
    assert theirs == pytest.approx(0.5 / 3, rel=ROUNDING)
    assert value == pytest.approx((0.5 + 2.5) / 4, rel=ROUNDING)
    assert value == pytest.approx(_reference(x, labels, 1.5, "semi_hard", False), rel=ROUNDING)
    # (d(1, 0) - d(1, 3) + d(3, 7) - d(3, 0)) / 4, differentiated by hand.
    assert gradient.squeeze(1).tolist() == pytest.approx([0.0, 0.5, -0.75, 0.25])
    # At -1 it is as far from 0 as 1 is, not farther, so 0 takes 7. Hinges of 0, 1, -1 and 7:
    x[2] = -1.0
    assert 4 * Triplet(1.5, "semi_hard", normalise=False)(x, labels).item() == 0 + 0.5 + 7.5 + 2.5


@every_mining
@pytest.mark.parametrize("labels", [[2, 2, 2, 2], [0, 1, 2, 3]])
def test_raw_features_get_zero_gradients_where_there_is_no_triplet(mining: Mining, labels: list[int]) -> None:
    x = make_batch(HeadSpec(), N=4).features
    value, gradient = _of(Triplet(9.0, mining, normalise=False), x, torch.tensor(labels))
    assert (value, gradient.abs().max().item()) == (0.0, 0.0)


@every_mining
def test_an_anchor_without_a_positive_does_not_count_but_is_a_negative(mining: Mining) -> None:
    x = torch.tensor([[0.0], [1.0], [3.0], [1000.0]], dtype=torch.float64)
    triplet = Triplet(9.0, mining, normalise=False)
    # 1 - 3 + 9 and 1 - 2 + 9, over the two anchors that have a positive.
    value, gradient = _of(triplet, x[:3], torch.tensor([0, 0, 1]))
    assert value == pytest.approx(7.5, rel=ROUNDING)
    assert gradient[2].item() == pytest.approx(-1.0)
    assert _of(triplet, x, torch.tensor([0, 0, 1, 2]))[0] == pytest.approx(7.5, rel=ROUNDING)


@every_mining
@normalised_or_not
def test_duplicate_features_have_a_value_and_finite_gradients(mining: Mining, normalise: bool) -> None:
    x, labels = points()
    x[4], x[9] = x[0], x[1]
    value, _ = _of(Triplet(0.5, mining, normalise), x, labels)
    # |x|^2 + |y|^2 - 2xy of a duplicate is rounding, about 1e-16, and its root 1e-8.
    assert value == pytest.approx(_reference(x, labels, 0.5, mining, normalise), abs=1e-7)
    # Across classes they make ties, which rounding decides; only the gradient is sure to be moderate.
    x[5], x[2] = x[0], x[0]
    for precision in (torch.float32, torch.float64):
        _, gradient = _of(Triplet(0.5, mining, normalise), x.to(precision), labels)
        assert gradient.isfinite().all()
        assert gradient.abs().max().item() < 10


@every_mining
@pytest.mark.parametrize("length", [0.0, 1e-30, 1e-7])
def test_features_of_length_zero_have_no_enormous_gradient(mining: Mining, length: float) -> None:
    for rows in (slice(0, 1), slice(0, 6), slice(None)):
        x, labels = points()
        x[rows] = length
        value, gradient = _of(Triplet(0.5, mining), x.float(), labels)
        assert math.isfinite(value)
        # A direction changes by at most 1 / 1e-6 per unit of x; torch's own limit of 1e-12 gives 5e10.
        assert gradient.abs().max().item() < 1e7


@every_mining
def test_distances_of_long_features_near_each_other_keep_their_precision(mining: Mining) -> None:
    # More than 25 of them: only then does torch multiply matrices by default, which costs a tenth here.
    noise = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    x, labels = 100 + 0.1 * noise, torch.arange(64) % 4
    value, gradient = _of(Triplet(0.2, mining, normalise=False), x, labels)
    exact = _of(Triplet(0.2, mining, normalise=False), x.double(), labels)
    assert value == pytest.approx(exact[0], rel=1e-3)
    assert (gradient - exact[1]).norm() < 1e-3 * exact[1].norm()


@every_mining
def test_a_margin_of_zero_is_content_with_classes_that_are_points(mining: Mining) -> None:
    labels = torch.arange(12) % 4
    x = make_batch(HeadSpec(), N=4).features[labels]
    for normalise in (True, False):
        value, gradient = _of(Triplet(0.0, mining, normalise), x, labels)
        assert (value, gradient.abs().max().item()) == (0.0, 0.0)


@every_mining
@normalised_or_not
def test_gradients_of_triplets_agree_with_finite_differences(mining: Mining, normalise: bool) -> None:
    x = make_batch(HeadSpec(), N=9, D=3, seed=4).features.requires_grad_()
    for margin in (0.0, 0.7):
        triplet, labels = Triplet(margin, mining, normalise), torch.arange(9) % 3
        assert triplet(x, labels).item() > 0
        assert torch.autograd.gradcheck(triplet, (x, labels))


@pytest.mark.parametrize("name", ["cosface", "meln", "godin"])
def test_everything_but_the_value_is_the_losss_own(name: str) -> None:
    plain, loss = build_loss(name, {}, CONTEXT), build_loss(name, {"triplet": 0.5}, CONTEXT)
    assert (loss.head, loss.lr_scale) == (plain.head, plain.lr_scale)
    assert list(loss.state_dict()) == [f"base.{key}" for key in plain.state_dict()]
    batch = make_batch(plain.head, N=12)
    assert torch.equal(loss.eval_logits(batch.output), plain.eval_logits(batch.output))
    term = _reference(batch.features, batch.labels, 0.2, "batch_hard", True)
    values = []
    for fraction in (0.05, 1.0):
        plain.set_progress(fraction)
        loss.set_progress(fraction)
        own, both = plain(batch.output, batch.labels), loss(batch.output, batch.labels)
        assert (both - own).item() == pytest.approx(0.5 * term, rel=1e-9)
        values.append(own.item())
        theirs, ours = (
            torch.autograd.grad(value, [batch.head.weight, *(p for p in of.parameters() if p.requires_grad)])
            for value, of in ((own, plain), (both, loss))
        )
        assert all(map(torch.equal, theirs, ours))
    assert (values[0] != values[1]) == (name == "cosface")
    assert loss.stats() == {**plain.stats(), "triplet": pytest.approx(term, rel=1e-9)}


def test_soft_targets_and_bare_logits_are_refused_also_where_the_loss_takes_them() -> None:
    batch = make_batch(HeadSpec(), N=6)
    loss = build_loss("cross_entropy", {"triplet": 0.5}, CONTEXT)
    soft = batch.output.logits.softmax(dim=1)
    build_loss("cross_entropy", {}, CONTEXT)(batch.output.logits, soft)
    with pytest.raises(ValueError, match=r"^WithTriplet needs class indices; got soft targets"):
        loss(batch.output, soft)
    with pytest.raises(
        ValueError, match=r"^triplet needs the features that enter the head; got logits alone"
    ):
        loss(batch.output.logits, batch.labels)


def test_a_triplet_of_weight_zero_returns_the_loss_itself() -> None:
    loss = build_loss("cosface", {"triplet": 0, "triplet_margin": 0.5}, CONTEXT)
    assert type(loss) is type(build_loss("cosface", {}, CONTEXT))
    for weight in (0.0, -0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"^triplet: weight must be above 0; got {weight}$"):
            WithTriplet(loss, Triplet(), weight)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"triplet": -0.5}, "triplet must be at least 0; got -0.5"),
        ({"triplet": math.nan}, "triplet must be at least 0; got nan"),
        ({"triplet": 1.0, "triplet_margin": -1}, "margin must be at least 0; got -1"),
        ({"triplet_mining": "hardest"}, "mining must be batch_hard or batch_all or semi_hard; got 'hardest'"),
    ],
)
def test_a_wrong_value_is_refused_by_parameter_rule_and_value(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf": {re.escape(message)}$"):
        build_loss("cross_entropy", wrong, CONTEXT)


def _of(term: Any, x: Tensor, *rest: Any) -> tuple[float, Tensor]:
    """The value of ``term`` and its gradient with respect to the features."""
    leaf = x.detach().clone().requires_grad_()
    value: Tensor = term(leaf, *rest)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.item(), gradient


def _reference(x: Tensor, labels: Tensor, margin: float, mining: Mining, normalise: bool) -> float:
    return ref.triplet(x.numpy(), labels.numpy(), margin=margin, mining=mining, normalise=normalise)


def _library(part: str) -> Any:
    return pytest.importorskip(f"pytorch_metric_learning.{part}")


def _library_loss(margin: float, normalise: bool, over_all: bool = False) -> Any:
    """The library's loss; its own mean is over the triplets that violate the margin."""
    distance = _library("distances").LpDistance(normalize_embeddings=normalise)
    reducer = _library("reducers").MeanReducer() if over_all else None
    return _library("losses").TripletMarginLoss(margin=margin, distance=distance, reducer=reducer)


def _mined(mining: Mining, normalise: bool, x: Tensor, labels: Tensor) -> Any:
    """What the library picks: the indices of anchors, positives and negatives."""
    distance = _library("distances").LpDistance(normalize_embeddings=normalise)
    negative = {"batch_hard": "hard", "semi_hard": "semihard"}[mining]
    return _library("miners").BatchEasyHardMiner("hard", negative, distance=distance)(x, labels)
