"""The high error margin loss, HEM+ and the multi-class margin loss: what their papers promise."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workloads.losses.base import LossContext
from workloads.losses.build import build_loss
from workloads.losses.hem import HighErrorMargin, HighErrorMarginPlus
from workloads.losses.multi_margin import MANY, MultiMargin

THRESHOLDS = ["sample", "batch"]
BUDGETS = ["mean", "squares"]


def random_batch(N: int = 64, C: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    Z = torch.randn(N, C, generator=source, dtype=torch.float64)
    return Z, torch.randint(C, (N,), generator=source)


def with_violations(active: int) -> tuple[Tensor, Tensor]:
    """A batch of 64 of which only the first ``active`` images violate the margin."""
    Z, labels = random_batch()
    saturated = torch.nn.functional.one_hot(labels, 10).double() * 50
    saturated[:active] = 0
    Z[torch.arange(active), (labels[:active] + 1) % 10] = 9.0
    return Z + saturated, labels


def gradient_mass(loss: torch.nn.Module, Z: Tensor, labels: Tensor) -> float:
    Z = Z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(Z, labels), Z)
    return gradient.abs().sum().item()


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("active", [64, 5, 1])
def test_the_gradient_mass_of_hem_is_two_however_few_images_are_active(active: int, threshold: Any) -> None:
    # The wrong class's pull and the equal one on the true class.
    mass = gradient_mass(HighErrorMargin(0.2, threshold), *with_violations(active))
    assert mass == pytest.approx(2.0, rel=1e-9)


@pytest.mark.parametrize("active", [64, 5, 1])
def test_a_mean_over_all_images_and_mm_fade_with_the_active_ones(active: int) -> None:
    batch = with_violations(active)
    over_all = HighErrorMargin(0.2, mean_over="all")
    assert gradient_mass(over_all, *batch) == pytest.approx(2 * active / 64, rel=1e-9)
    # A class of ten violates in the few, all but a few in the rest.
    pairs = (batch[0] - batch[0].gather(1, batch[1][:, None]) + 0.2 > 0).sum().item() - 64
    assert gradient_mass(MultiMargin(0.2), *batch) == pytest.approx(2 * pairs / 640, rel=1e-9)


@pytest.mark.parametrize("C", [MANY - 1, MANY, 200])
@pytest.mark.parametrize("p", [1, 2])
def test_mm_gives_every_image_its_loss_by_torch_however_many_classes(C: int, p: int) -> None:
    Z, labels = random_batch(N=5, C=C)
    value, losses = MultiMargin(0.7, p).detailed(Z, labels)
    expected = F.multi_margin_loss(Z, labels, p=p, margin=0.7, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
    assert value.item() == pytest.approx(expected.mean().item(), rel=1e-12)


def test_hem_counts_the_images_without_a_violation() -> None:
    loss = HighErrorMargin(0.2).train()
    loss(*with_violations(5))
    assert loss.stats()["saturated"] == pytest.approx(59 / 64, rel=1e-12)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_hem_keeps_the_violations_that_are_at_least_average(threshold: Any) -> None:
    # mu = 1: violations 0.5, 1.1, 0 (mean 0.53) and 3, 2.2, 0 (mean 1.73); together a mean of 1.13.
    Z = torch.tensor([[1.0, 0.5, 1.1], [0.0, 2.0, 1.2]])
    expected = {"sample": (1.1 + (3 + 2.2) / 2) / 2, "batch": (3 + 2.2) / 2}[threshold]
    assert HighErrorMargin(1.0, threshold)(Z, torch.tensor([0, 0])).item() == pytest.approx(expected)


@pytest.mark.parametrize(("num_train", "mu"), [(50_000, 0.2), (60_000, 0.182574), (1_281_167, 0.039510)])
def test_the_margin_of_hem_follows_the_number_of_training_images(num_train: int, mu: float) -> None:
    context = LossContext(num_train, 4, (num_train // 4,) * 4)
    assert HighErrorMargin(context=context).mu == pytest.approx(mu, abs=5e-7)
    quarter = build_loss("hem", {"mu": {"scale": 500.0}}, context)
    assert isinstance(quarter, HighErrorMargin)
    assert quarter.mu == pytest.approx(mu / 2, abs=5e-7)


@pytest.mark.parametrize("threshold", THRESHOLDS)
@pytest.mark.parametrize("mean_over", ["active", "all"])
def test_hem_plus_is_hem_where_classes_are_equally_frequent(threshold: Any, mean_over: Any) -> None:
    context = LossContext(5000, 10, (500,) * 10)
    Z, labels = random_batch()
    plus = HighErrorMarginPlus(threshold=threshold, mean_over=mean_over, context=context)
    plain = HighErrorMargin(None, threshold, mean_over, context)
    assert plus(Z, labels).item() == pytest.approx(plain(Z, labels).item(), rel=1e-12)


def test_the_margins_of_hem_plus_are_those_of_a_long_tail() -> None:
    # 500, ..., 5 images a class, as CIFAR-10-LT 100 at a tenth of its size has, times ten.
    counts = tuple(round(5000 * 0.01 ** (j / 9)) for j in range(10))
    margins = HighErrorMarginPlus(cap=0.0, context=LossContext(sum(counts), 10, counts)).margins
    assert margins[0].item() == pytest.approx(0.2, rel=1e-9)
    assert margins[9].item() == pytest.approx(2.0, rel=1e-9)


def test_the_cap_of_hem_plus_is_a_multiple_of_hems_margin() -> None:
    context = LossContext(1002, 3, (1000, 1, 1))
    plain = HighErrorMargin(context=context).mu
    capped = HighErrorMarginPlus(cap=10.0, context=context).margins
    # sqrt(2000 / (3 n)): 0.816 and 25.8; ten times sqrt(2000 / 1002) is 14.1.
    assert capped.tolist() == pytest.approx([(2000 / 3000) ** 0.5, 10 * plain, 10 * plain], rel=1e-12)


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_published_margins_of_hem_plus_are_those_of_an_exponent_of_a_half(budget: Any) -> None:
    counts = (4999, 731, 57, 3)
    context = LossContext(sum(counts), 4, counts)
    n = torch.tensor(counts, dtype=torch.float64)
    margins = HighErrorMarginPlus(p=0.5, budget=budget, cap=0.0, context=context).margins
    assert torch.equal(margins, torch.sqrt(2000 / (4 * n)))


@pytest.mark.parametrize(
    ("budget", "p", "expected"),
    [
        # The published margins of 400 and 100 images at scale 800 are 1 and 2: 600 over all images,
        # 1.2 an image, and squares of 5.
        ("mean", 0.0, (1.2, 1.2)),
        (
            "mean",
            0.25,
            (600 / (400**0.75 + 100**0.75) / 400**0.25, 600 / (400**0.75 + 100**0.75) / 100**0.25),
        ),
        ("mean", 1.0, (300 / 400, 300 / 100)),
        ("squares", 0.0, (2.5**0.5, 2.5**0.5)),
        ("squares", 0.25, ((5 / 3) ** 0.5, (10 / 3) ** 0.5)),  # squares as 1 to 2
        ("squares", 1.0, ((5 / 17) ** 0.5, (80 / 17) ** 0.5)),  # squares as 1 to 16
    ],
)
def test_hem_plus_spends_its_budget_by_the_exponent(budget: Any, p: float, expected: tuple[float]) -> None:
    context = LossContext(500, 2, (400, 100))
    margins = HighErrorMarginPlus(scale=800.0, p=p, budget=budget, cap=0.0, context=context).margins
    assert margins.tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_cap_of_hem_plus_comes_after_the_budget(budget: Any) -> None:
    context = LossContext(500, 2, (400, 100))
    loss = HighErrorMarginPlus(scale=800.0, p=1.0, budget=budget, cap=1.5, context=context)
    frequent = {"mean": 0.75, "squares": (5 / 17) ** 0.5}[budget]
    assert loss.margins.tolist() == pytest.approx([frequent, 1.5 * (800 / 500) ** 0.5], rel=1e-12)


@pytest.mark.parametrize("mean_over", ["active", "all"])
def test_the_weights_of_hem_count_in_the_mean_as_images_do(mean_over: Any) -> None:
    # mu = 1: losses 1.1, 2.6 and 0, as above.
    Z = torch.tensor([[1.0, 0.5, 1.1], [0.0, 2.0, 1.2], [9.0, 0.0, 0.0]])
    weights = torch.tensor([3.0, 1.0, 2.0])
    loss = HighErrorMargin(1.0, mean_over=mean_over)
    value, losses = loss.detailed(Z, torch.tensor([0, 0, 0]), weights=weights)
    assert losses.tolist() == pytest.approx([1.1, 2.6, 0.0])
    assert value.item() == pytest.approx((3 * 1.1 + 2.6) / {"active": 4, "all": 6}[mean_over])


@pytest.mark.parametrize("mean_over", ["active", "all"])
def test_weights_on_images_without_a_violation_alone_give_zero_with_a_zero_gradient(mean_over: Any) -> None:
    Z = torch.tensor([[1.0, 0.5, 1.1], [9.0, 0.0, 0.0]], requires_grad=True)
    loss = HighErrorMargin(1.0, mean_over=mean_over)
    value = loss(Z, torch.tensor([0, 0]), weights=torch.tensor([0.0, 5.0]))
    value.backward()
    assert value.item() == 0.0
    assert Z.grad is not None
    assert Z.grad.abs().max().item() == 0.0


def test_hem_plus_takes_the_margin_of_the_true_class() -> None:
    context = LossContext(1010, 2, (1000, 10))
    loss = HighErrorMarginPlus(context=context)
    Z = torch.zeros(1, 2, dtype=torch.float64)
    # Equal logits: the violation is the margin itself.
    values = [loss(Z, torch.tensor([y])).item() for y in (0, 1)]
    assert values == pytest.approx([(2000 / 2000) ** 0.5, (2000 / 20) ** 0.5], rel=1e-9)


@pytest.mark.parametrize("threshold", THRESHOLDS)
def test_a_saturated_batch_is_said_to_be_saturated(threshold: Any) -> None:
    loss = HighErrorMargin(0.5, threshold).train()
    loss(10 * torch.eye(4), torch.arange(4))
    assert loss.stats()["saturated"] == 1.0
