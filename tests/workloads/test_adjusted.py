"""Class frequencies taken off the logits of a loss that was trained without them."""

from __future__ import annotations

import math

import pytest
import torch

from workloads.head import HeadOutput
from workloads.losses.adjusted import Adjusted
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss

COUNTS = (60, 30, 10)


@pytest.mark.parametrize("loss", ["cross_entropy", "normface", "hem"])
@pytest.mark.parametrize("tau", [0.0, 1.0, 1.7])
def test_the_log_of_each_class_share_is_taken_off_what_the_loss_says(loss: str, tau: float) -> None:
    base = build_loss(loss, {}, LossContext(100, 3, COUNTS))
    logits = torch.tensor([[0.2, -0.1, 0.6], [0.9, 0.0, -0.4]])
    adjusted = Adjusted(base, COUNTS, tau)
    found = adjusted.eval_logits(HeadOutput(logits))
    said = base.eval_logits(HeadOutput(logits))
    for n in range(2):
        for c, share in enumerate((0.6, 0.3, 0.1)):
            assert float(found[n, c]) == pytest.approx(float(said[n, c]) - tau * math.log(share), abs=1e-6)


def test_the_shares_of_chosen_columns_are_theirs() -> None:
    adjusted = Adjusted(build_loss("cross_entropy", {}, LossContext(100, 3, COUNTS)), COUNTS, 1.0)
    output = HeadOutput(torch.zeros(1, 3)).columns(torch.tensor([2, 0]))
    expected = [-math.log(0.1), -math.log(0.6)]
    assert adjusted.eval_logits(output)[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_equal_classes_are_only_shifted() -> None:
    base = build_loss("cross_entropy", {}, LossContext(9, 3, (3, 3, 3)))
    logits = torch.tensor([[0.2, -0.1, 0.6]])
    found = Adjusted(base, (3, 3, 3), 1.0).eval_logits(logits) - logits
    assert found[0].tolist() == pytest.approx([math.log(3)] * 3, abs=1e-6)


def test_it_needs_the_head_of_its_loss_and_is_not_trained_with() -> None:
    base = build_loss("normface", {}, LossContext(100, 3, COUNTS))
    adjusted = Adjusted(base, COUNTS, 1.0)
    assert adjusted.head == base.head
    with pytest.raises(TypeError, match="not trained with"):
        adjusted(torch.zeros(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("counts", "tau", "says"),
    [
        ((5, 0, 3), 1.0, r"every class must have a training image; got counts \[5, 0, 3\]"),
        (COUNTS, -1.0, "tau"),
    ],
)
def test_impossible_adjustments_are_refused(counts: tuple[int, ...], tau: float, says: str) -> None:
    base = build_loss("cross_entropy", {}, LossContext(100, 3, COUNTS))
    with pytest.raises(ValueError, match=says):
        Adjusted(base, counts, tau)
