"""The losses of single images and their weights: every loss that has them, by what a weight must mean."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.workloads.losses.batches import Batch, Given
from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from workloads.head import HeadOutput
from workloads.losses.base import Loss

SPLIT = [case for case in CASES if "triplet" not in case.params]
REL = 1e-9
"""float64 leaves 1e-9 after a few hundred sums of logits of about 100."""


def of_the_batch(case: Case) -> bool:
    """Whether the loss of an image depends on the others of its batch, here in training.

    HEM with the batch's threshold compares a violation with the batch's mean; AdaCos takes its scale from
    the batch.
    """
    return case.params.get("threshold") == "batch" or (case.loss, case.params.get("mode")) == (
        "adacos",
        "dynamic",
    )


ALONE = [case for case in SPLIT if not of_the_batch(case)]
SOFT = [case for case in ALONE if case.build((9, 8)).targets == "soft"]


def made(case: Case, N: int = 9) -> tuple[Loss, Batch]:
    """A loss in training and a batch whose features want a gradient."""
    batch = case.batch(N=N)
    batch.features.requires_grad_()
    return case.build(batch.counts).train(), batch


def gradient_of(value: Tensor, batch: Batch) -> Tensor:
    (gradient,) = torch.autograd.grad(value, batch.features)
    return gradient


def rows(batch: Batch, chosen: Tensor) -> Batch:
    return Batch(batch.head, batch.features[chosen], batch.labels[chosen], batch.counts)


def mixed(labels: Tensor) -> Tensor:
    return 0.7 * F.one_hot(labels, 4).double() + 0.3 * F.one_hot((labels + 1) % 4, 4).double()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loss_splits_unless_a_triplet_term_stands_beside_it(case: Case) -> None:
    assert case.build((9, 8, 7)).splits is (case in SPLIT)


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_the_losses_of_the_images_reduce_to_that_of_the_batch(case: Case) -> None:
    loss, batch = made(case)
    expected = case.build(batch.counts).train()(batch.output, batch.labels)
    value, losses = loss.detailed(batch.output, batch.labels)
    assert losses.shape == (9,)
    assert losses.isfinite().all()
    assert not losses.requires_grad
    assert value.item() == expected.item()
    assert torch.equal(gradient_of(value, batch), gradient_of(expected, batch))
    output = batch.output
    assert loss.eval().reduce(losses, output, batch.labels).item() == pytest.approx(value.item(), rel=1e-12)
    assert loss.per_sample(output, batch.labels).tolist() == pytest.approx(losses.tolist(), rel=1e-12)


@pytest.mark.parametrize("case", [c for c in SPLIT if c.params.get("threshold") != "batch"], ids=str)
def test_the_loss_of_an_image_is_the_references_of_it_alone(case: Case) -> None:
    loss, batch = made(case)
    _, losses = loss.eval().detailed(batch.output, batch.labels)
    given = batch.given()
    for n, label in enumerate(batch.labels.tolist()):
        one = slice(n, n + 1)
        alone = case.reference(
            Given(given.X[one], given.W, given.b, given.g[one], given.y[one], given.counts)
        )
        # The reference of one image divides by its class weight, which its loss holds.
        held = loss.get_buffer("weights") if _mean_by_class_weights(case) else torch.ones(4)
        assert losses[n].item() == pytest.approx(alone * held[label].item(), rel=case.rel, abs=1e-12)


def _mean_by_class_weights(case: Case) -> bool:
    return "class_weights" in case.params or (case.loss == "ldam" and case.params.get("drw") != 1)


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_the_losses_of_the_images_move_with_the_images(case: Case) -> None:
    loss, batch = made(case, N=16)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    moved = rows(batch, order)
    _, losses = loss.detailed(batch.output, batch.labels)
    _, after = case.build(batch.counts).train().detailed(moved.output, moved.labels)
    assert after.tolist() == pytest.approx(losses[order].tolist(), rel=REL, abs=1e-12)
    assert losses.std() > 0


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_equal_weights_are_no_weights(case: Case) -> None:
    loss, batch = made(case)
    twin = case.build(batch.counts).train()
    expected = twin(batch.output, batch.labels)
    value = loss(batch.output, batch.labels, weights=torch.full((9,), 2.5, dtype=torch.float64))
    assert value.item() == pytest.approx(expected.item(), rel=REL)
    torch.testing.assert_close(gradient_of(value, batch), gradient_of(expected, batch), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_an_image_of_weight_zero_counts_as_if_it_were_not_there(case: Case) -> None:
    loss, batch = made(case)
    weights = torch.tensor([0, 1, 1, 0, 1, 1, 0, 1, 1], dtype=torch.float64)
    kept = rows(batch, weights > 0)
    expected = case.build(batch.counts).train()(kept.output, kept.labels)
    value = loss(batch.output, batch.labels, weights=weights)
    assert value.item() == pytest.approx(expected.item(), rel=REL)
    torch.testing.assert_close(gradient_of(value, batch), gradient_of(expected, batch), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_a_whole_weight_counts_as_so_many_images(case: Case) -> None:
    loss, batch = made(case)
    weights = torch.tensor([2, 1, 3, 1, 0, 1, 5, 1, 2])
    repeated = rows(batch, torch.arange(9).repeat_interleave(weights))
    expected = case.build(batch.counts).train()(repeated.output, repeated.labels)
    plain = case.build(batch.counts).train()(batch.output, batch.labels)
    value, losses = loss.detailed(batch.output, batch.labels, weights=weights.double())
    assert value.item() == pytest.approx(expected.item(), rel=REL)
    assert abs(value.item() - plain.item()) > 1e-3 * plain.item()
    torch.testing.assert_close(gradient_of(value, batch), gradient_of(expected, batch), rtol=1e-7, atol=1e-12)
    _, unweighted = case.build(batch.counts).train().detailed(batch.output, batch.labels)
    assert torch.equal(losses, unweighted)


@pytest.mark.parametrize("case", SOFT, ids=str)
def test_a_whole_weight_counts_as_so_many_images_of_soft_targets(case: Case) -> None:
    loss, batch = made(case)
    weights = torch.tensor([2, 1, 3, 1, 0, 1, 5, 1, 2])
    repeated = rows(batch, torch.arange(9).repeat_interleave(weights))
    expected = loss(repeated.output, mixed(repeated.labels)).item()
    value, losses = loss.detailed(batch.output, mixed(batch.labels), weights=weights.double())
    assert losses.shape == (9,)
    assert value.item() == pytest.approx(expected, rel=REL)


@pytest.mark.parametrize("case", [case for case in SPLIT if of_the_batch(case)], ids=str)
def test_the_losses_left_out_of_the_tests_before_do_depend_on_the_batch(case: Case) -> None:
    loss, batch = made(case)
    _, losses = loss.detailed(batch.output, batch.labels)
    kept = rows(batch, torch.arange(9) < 4)
    _, fewer = case.build(batch.counts).train().detailed(kept.output, kept.labels)
    assert (fewer - losses[:4]).abs().max() > 1e-3


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_what_a_batch_changes_and_tracks_is_the_same_by_every_door(case: Case) -> None:
    """Once a call: a scale that follows the batch and the means of an epoch would show a second time."""
    batch = case.batch()
    by_value, by_weight, in_detail = (case.build(batch.counts).train() for _ in range(3))
    for _ in range(2):
        by_value(batch.output, batch.labels)
        by_weight(batch.output, batch.labels, weights=torch.ones(7, dtype=torch.float64))
        in_detail.detailed(batch.output, batch.labels)
    assert set(by_value._counts.values()) == {2}
    counts, means = dict(by_value._counts), by_value.stats()
    for other in (by_weight, in_detail):
        assert other._counts == counts
        for name, held in by_value.state_dict().items():
            assert torch.equal(other.state_dict()[name], held)
        assert other.stats() == means


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_the_weights_of_ignored_images_do_not_count(case: Case) -> None:
    batch = case.batch(N=9)
    labels = batch.labels.clone()
    labels[[0, 4]] = -1
    weights = torch.linspace(0.5, 3, 9, dtype=torch.float64)
    kept = rows(batch, labels >= 0)
    expected = case.build(batch.counts)(kept.output, kept.labels, weights=weights[labels >= 0]).item()
    value = case.build(batch.counts)(batch.output, labels, ignore_index=-1, weights=weights).item()
    assert value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_weights_and_details_are_of_the_active_columns(case: Case) -> None:
    active = torch.tensor([4, 1, 2])
    batch = case.batch(N=9, C=5)
    labels = active[batch.labels % 3]
    loss = case.build(batch.counts)
    weights = torch.linspace(0.5, 3, 9, dtype=torch.float64)
    value, losses = loss.detailed(batch.output, labels, active, weights)
    assert value.item() == loss(batch.output, labels, active, weights=weights).item()
    spoilt = batch.output.detach()
    for tensor in (spoilt.logits.T, spoilt.weight, spoilt.bias):
        if tensor is not None:
            tensor[[0, 3]] = torch.inf
    assert torch.equal(loss.detailed(spoilt, labels, active)[1], losses)


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_half_precision_gives_losses_in_float32_also_under_autocast(case: Case) -> None:
    batch = case.batch(dtype=torch.float32)
    loss = case.build(batch.counts).float()
    detached = batch.output.detach()
    half = HeadOutput(*(None if t is None else t.bfloat16() for t in detached))  # type: ignore[arg-type]
    exact = HeadOutput(*(None if t is None else t.float() for t in half))  # type: ignore[arg-type]
    # The weights' precision must not decide the loss's.
    weights = torch.linspace(1, 2, 7, dtype=torch.float64)
    expected, each = loss.detailed(exact, batch.labels, weights=weights)
    assert expected.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, losses = loss.detailed(half, batch.labels, weights=weights)
        assert loss(half, batch.labels, weights=weights).item() == expected.item()
    assert value.dtype == losses.dtype == torch.float32
    assert value.item() == expected.item()
    assert torch.equal(losses, each)


@pytest.mark.parametrize("case", SPLIT, ids=str)
def test_no_image_gives_zero_with_a_graph_and_no_losses(case: Case) -> None:
    loss, batch = made(case)
    none = rows(batch, torch.arange(9) < 0)
    value, losses = loss.detailed(none.output, none.labels, weights=torch.zeros(0))
    assert value.item() == 0.0
    assert gradient_of(value, batch).abs().max().item() == 0.0
    assert losses.shape == (0,)
    assert loss.stats() == {}
