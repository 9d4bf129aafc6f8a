"""High error margin (Spratling and Schütt 2025): what is printed against what is right."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from workloads.losses.hem import HighErrorMarginPlus

from .making import EXACT, built, gradient, some_logits, tensor


def test_hems_average_over_the_sample_or_over_the_batch_gives_another_loss() -> None:
    # Violations at mu = 1: .1 and .2 of the first sample, 3 and .5 of the second.
    Z, y = tensor([0.0, -0.9, -0.8, -5.0], [0.0, 2.0, -0.5, -5.0]), torch.tensor([0, 0])
    # By hand: averages .075 and .875 keep (.1, .2) and 3; the batch's .475 keeps (3, .5).
    assert built("hem", mu=1.0)(Z, y).item() == pytest.approx((0.15 + 3.0) / 2, rel=EXACT)
    assert built("hem", mu=1.0, threshold="batch")(Z, y).item() == pytest.approx(1.75, rel=EXACT)


def as_public_code(Z: Tensor, y: Tensor, mu: float, epsilon: float) -> Tensor:
    """HEM with ``epsilon`` in both denominators; 0 / 0 with none where nothing violates."""
    own = Z.gather(1, y[:, None])
    e = (Z - (own - mu)).clamp_min(0).scatter(1, y[:, None], 0.0)
    kept = (e >= e.mean(1, keepdim=True)) & (e > 0)
    per_sample = (e * kept).sum(1) / (kept.sum(1) + epsilon)
    return per_sample.sum() / ((per_sample > 0).sum() + epsilon)


def test_hems_public_denominators_lower_the_value_by_at_most_two_millionths() -> None:
    Z, y = some_logits()
    ours = built("hem", mu=0.4)(Z, y).item()
    public = as_public_code(Z, y, 0.4, 1e-6).item()
    assert 0 < (ours - public) / ours < 2e-6


def test_a_batch_without_violations_is_nothing_over_nothing_and_here_a_zero_with_a_graph() -> None:
    Z, y = tensor([5.0, 0.0, 0.0], [0.0, 5.0, 0.0]).requires_grad_(), torch.tensor([0, 1])
    assert as_public_code(Z, y, 0.4, 0.0).isnan()
    value = built("hem", 3, mu=0.4)(Z, y)
    assert value.item() == 0
    assert (gradient(value, Z) == 0).all()


def test_hem_plus_takes_the_margin_of_the_true_class() -> None:
    Z, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
    of_class = [math.sqrt(2000 / (2 * n)) for n in (900, 100)]
    value = built("hem_plus", counts=(900, 100))(Z, y).item()
    assert value == pytest.approx(of_class[0], rel=EXACT)  # the competitor's would be 3 times that
    assert of_class[1] == pytest.approx(3 * of_class[0])


def test_hem_plus_margins_fall_with_the_root_of_the_frequency_and_are_hems_where_balanced() -> None:
    loss = built("hem_plus", counts=(1600, 100))
    assert isinstance(loss, HighErrorMarginPlus)
    assert (loss.margins[1] / loss.margins[0]).item() == pytest.approx(4.0)  # 16 times fewer images
    Z, y = some_logits()
    assert built("hem_plus")(Z, y).item() == pytest.approx(built("hem")(Z, y).item(), rel=EXACT)


def test_a_sample_at_hems_margin_has_no_loss_and_a_probability_near_chance() -> None:
    Z, y = torch.zeros(1, 10, dtype=torch.float64), torch.tensor([0])
    Z[0, 0] = 0.2 + 1e-9  # sqrt(2000 / 50000), and a rounding error beyond it
    assert built("hem")(Z, y).item() == 0
    assert Z.softmax(1)[0, 0].item() == pytest.approx(0.1195, abs=5e-5)


def test_the_multi_class_margin_divides_by_all_classes() -> None:
    Z, y = tensor([0.0, 2.0, -0.5, -5.0]), torch.tensor([0])
    assert built("multi_margin", 4)(Z, y).item() == pytest.approx((3.0 + 0.5) / 4, rel=EXACT)  # not / 3
