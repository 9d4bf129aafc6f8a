"""What may be handed to a loss, such as some of the classes or soft targets, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.workloads.losses.batches import context_of
from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from tests.workloads.losses.test_invariances import PER_CLASS
from workloads.head import HeadOutput
from workloads.losses.base import Loss
from workloads.losses.build import build_loss

ACTIVE = torch.tensor([4, 1, 2])
SOFT = [case for case in CASES if case.build((9, 8)).targets == "soft"]
HARD = [case for case in CASES if case not in SOFT]


def sliced(loss: Loss, active: Tensor) -> Loss:
    """The loss with what it holds for each of 5 classes cut to those of ``active``, by hand."""
    cut = copy.deepcopy(loss)
    for name in PER_CLASS:
        held = getattr(cut, name, None)
        if isinstance(held, Tensor) and held.shape == (5,):
            held.data = held.data[active]
    return cut


def of_five_classes(case: Case, N: int = 12) -> tuple[Loss, HeadOutput, Tensor, Tensor]:
    """A loss, an output, labels among the active classes, and the same labels as positions in these."""
    batch = case.batch(N=N, C=5)
    positions = batch.labels % len(ACTIVE)
    return case.build(batch.counts), batch.output, ACTIVE[positions], positions


@pytest.mark.parametrize("case", CASES, ids=str)
def test_active_classes_are_columns_that_are_sliced_by_hand(case: Case) -> None:
    loss, output, labels, positions = of_five_classes(case)
    by_hand = HeadOutput(
        output.logits[:, ACTIVE],
        output.features,
        None if output.weight is None else output.weight[ACTIVE],
        None if output.bias is None else output.bias[ACTIVE],
        output.divisor,
    )
    expected = sliced(loss, ACTIVE)(by_hand, positions).item()
    assert loss(output, labels, active=ACTIVE).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_other_classes_are_never_read(case: Case) -> None:
    loss, output, labels, _ = of_five_classes(case)
    expected = loss(output, labels, active=ACTIVE).item()
    rest = [0, 3]
    spoilt = output.detach()
    for tensor in (spoilt.logits.T, spoilt.weight, spoilt.bias):
        if tensor is not None:
            tensor[rest] = torch.inf
    spoilt.logits.requires_grad_()
    value = loss(spoilt, labels, active=ACTIVE)
    assert value.item() == expected
    if loss.needs != "features+fc":
        value.backward()
        assert spoilt.logits.grad is not None
        assert spoilt.logits.grad[:, rest].abs().max().item() == 0


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_active_class_gives_a_finite_value_with_a_graph(case: Case) -> None:
    batch = case.batch(C=5)
    batch.features.requires_grad_()
    labels = torch.full_like(batch.labels, 3)
    value = case.build(batch.counts)(batch.output, labels, active=torch.tensor([3]))
    value.backward()
    assert value.isfinite()
    assert batch.features.grad is not None
    assert batch.features.grad.isfinite().all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_classes_being_active_changes_nothing(case: Case) -> None:
    batch = case.batch(C=5)
    loss = case.build(batch.counts)
    expected = loss(batch.output, batch.labels).item()
    assert loss(batch.output, batch.labels, active=torch.arange(5)).item() == pytest.approx(
        expected, rel=1e-12
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_no_active_class_or_a_label_outside_of_them_is_refused(case: Case) -> None:
    loss, output, labels, _ = of_five_classes(case)
    with pytest.raises(ValueError, match="active must name at least one class; got none"):
        loss(output, labels, active=torch.tensor([], dtype=torch.int64))
    labels[0] = 3
    with pytest.raises(ValueError, match=r"must be one of the active classes \[4, 1, 2\]; got 3"):
        loss(output, labels, active=ACTIVE)


@pytest.mark.parametrize(
    ("active", "message"),
    [
        ([0, 1, 5], "active .*; got .*5"),
        ([0, 1, -1], "active .*; got .*-1"),
        ([0, 1, 1], "active .*; got .*1"),
    ],
)
def test_active_classes_that_do_not_exist_or_are_named_twice_are_refused(
    active: list[int], message: str
) -> None:
    loss, output, _, _ = of_five_classes(CASES[0])
    with pytest.raises(ValueError, match=message):
        loss(output, torch.zeros(12, dtype=torch.int64), active=torch.tensor(active))


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool])
def test_labels_that_are_no_int64_are_refused(dtype: torch.dtype) -> None:
    batch = CASES[0].batch()
    loss = CASES[0].build(batch.counts)
    with pytest.raises(ValueError, match=f"labels must .*int64.*; got {dtype}"):
        loss(batch.output, batch.labels.to(dtype))


@pytest.mark.parametrize("ignored", [-100, 255, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_ignored_image_counts_as_if_it_were_not_there(case: Case, ignored: int) -> None:
    batch = case.batch(N=9, C=5)
    labels = batch.labels % 2
    left_out = torch.tensor([0, 3, 4, 8])
    labels[left_out] = ignored
    kept = torch.tensor([1, 2, 5, 6, 7])
    output = batch.output
    rows = output._replace(
        logits=output.logits[kept],
        features=None if output.features is None else output.features[kept],
        divisor=None if output.divisor is None else output.divisor[kept],
    )
    loss, twin = case.build(batch.counts).train(), case.build(batch.counts).train()
    expected = twin(rows, labels[kept]).item()
    assert loss(output, labels, ignore_index=ignored).item() == pytest.approx(expected, rel=1e-12)
    assert loss.stats() == pytest.approx(twin.stats(), rel=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_batch_of_ignored_images_is_zero_with_a_graph(case: Case) -> None:
    batch = case.batch()
    batch.features.requires_grad_()
    loss = case.build(batch.counts).train()
    value = loss(batch.output, torch.full_like(batch.labels, -1), ignore_index=-1)
    value.backward()
    assert value.item() == 0.0
    assert batch.features.grad is not None
    assert batch.features.grad.abs().max().item() == 0.0
    assert loss.stats() == {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_image_of_two_classes_can_be_trained_on(case: Case) -> None:
    batch = case.batch(N=1, C=2)
    batch.features.requires_grad_()
    value = case.build(batch.counts).train()(batch.output, batch.labels)
    value.backward()
    assert value.isfinite()
    assert batch.features.grad is not None
    assert batch.features.grad.isfinite().all()


@pytest.mark.parametrize("case", HARD, ids=str)
def test_a_hard_loss_refuses_soft_targets(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts)
    soft = F.one_hot(batch.labels, 4).double()
    with pytest.raises(ValueError, match=f"{type(loss).__name__} needs class indices; got soft targets"):
        loss(batch.output, soft)


@pytest.mark.parametrize("case", SOFT, ids=str)
def test_one_hot_targets_are_labels_to_a_soft_loss(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts)
    soft = F.one_hot(batch.labels, 4).double()
    expected = loss(batch.output, batch.labels).item()
    assert loss(batch.output, soft).item() == pytest.approx(expected, rel=1e-9)
    # The engine's mixtures are float32 whatever the logits are.
    assert loss(batch.output, soft.float()).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weights", ["inverse", "effective"])
def test_a_weighted_mixture_is_divided_by_the_weights_of_its_shares(weights: str) -> None:
    batch = CASES[0].batch(C=3)
    loss = build_loss("cross_entropy", {"class_weights": weights}, context_of(batch.counts))
    shares = 0.7 * F.one_hot(batch.labels, 3) + 0.3 * F.one_hot(batch.labels.flip(0), 3)
    w = loss.get_buffer("weights")
    each = -batch.output.logits.log_softmax(dim=1)
    above = below = 0.0
    for n in range(len(shares)):
        for j in range(3):
            above += (w[j] * shares[n, j] * each[n, j]).item()
            below += (w[j] * shares[n, j]).item()
    assert loss(batch.output, shares).item() == pytest.approx(above / below, rel=1e-7)


@pytest.mark.parametrize("case", SOFT, ids=str)
def test_active_classes_also_select_the_columns_of_soft_targets(case: Case) -> None:
    loss, output, labels, positions = of_five_classes(case)
    mixed = 0.7 * F.one_hot(labels, 5) + 0.3 * F.one_hot(labels.flip(0), 5)
    columns = 0.7 * F.one_hot(positions, 3) + 0.3 * F.one_hot(positions.flip(0), 3)
    expected = sliced(loss, ACTIVE)(output.columns(ACTIVE)._replace(classes=None), columns).item()
    assert loss(output, mixed, active=ACTIVE).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("case", SOFT, ids=str)
def test_targets_without_a_share_in_the_active_classes_give_a_finite_value(case: Case) -> None:
    loss, output, _, _ = of_five_classes(case)
    elsewhere = torch.zeros(12, 5, dtype=torch.float64)
    elsewhere[:, 0] = 1.0
    assert loss(output, elsewhere, active=ACTIVE).isfinite()


@pytest.mark.parametrize("case", SOFT, ids=str)
def test_soft_targets_of_another_shape_are_refused(case: Case) -> None:
    batch = case.batch(N=7, C=4)
    loss = case.build(batch.counts)
    for shape in ([7, 3], [6, 4], [7], [7, 4, 1]):
        with pytest.raises(ValueError, match=r"soft targets must have shape \[7, 4\]") as refusal:
            loss(batch.output, torch.rand(shape))
        assert str(refusal.value).startswith(type(loss).__name__)
        assert str(refusal.value).endswith(f"got {shape}")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_labels_of_another_shape_or_out_of_range_are_refused(case: Case) -> None:
    batch = case.batch(N=7, C=4)
    loss = case.build(batch.counts)
    for wrong in (batch.labels[:6], batch.labels.unsqueeze(1), torch.tensor(0)):
        with pytest.raises(ValueError, match=r"labels must have shape \[7\]") as refusal:
            loss(batch.output, wrong)
        assert str(refusal.value).startswith(type(loss).__name__)
        assert str(refusal.value).endswith(f"got {list(wrong.shape)}")
    for label in (-1, 4):
        labels = batch.labels.clone()
        labels[3] = label
        with pytest.raises(ValueError, match=rf"labels must be class indices in 0\.\.3; got {label}"):
            loss(batch.output, labels)
        with pytest.raises(ValueError, match=rf"labels must be class indices in 0\.\.3; got {label}"):
            loss(batch.output, labels, active=torch.tensor([0, 1, 2, 3]))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("shape", [[7], [7, 4, 2]])
def test_logits_that_are_no_matrix_are_refused(case: Case, shape: list[int]) -> None:
    batch = case.batch(N=7, C=4)
    loss = case.build(batch.counts)
    with pytest.raises(ValueError, match=r"logits must be \[batch, classes\]") as refusal:
        loss(batch.output._replace(logits=torch.zeros(shape)), batch.labels)
    assert str(refusal.value).startswith(type(loss).__name__)
    assert str(refusal.value).endswith(f"got {shape}")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_loss_that_reads_features_refuses_logits_alone(case: Case) -> None:
    batch = case.batch()
    loss = case.build(batch.counts)
    if loss.needs == "features+fc" or "triplet" in case.params:
        with pytest.raises(ValueError, match="needs the features"):
            loss(batch.output.logits, batch.labels)
    else:
        expected = loss(batch.output, batch.labels).item()
        assert loss(batch.output.logits, batch.labels).item() == expected


def test_columns_that_were_written_to_are_looked_at_again() -> None:
    logits, labels = torch.randn(4, 5), torch.tensor([0, 1, 0, 1])
    loss = build_loss("cross_entropy", {}, context_of((1,) * 5))
    active = torch.tensor([0, 1])
    before = loss(logits, labels, active)
    torch.testing.assert_close(before, F.cross_entropy(logits[:, [0, 1]], labels))
    active.copy_(torch.tensor([1, 0]))
    torch.testing.assert_close(loss(logits, labels, active), before)
    active.copy_(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match="one of the active classes"):
        loss(logits, labels, active)
    # The same columns of a narrower head.
    with pytest.raises(ValueError, match=r"active must name classes in 0\.\.1"):
        loss(logits[:, :2], torch.zeros(4, dtype=torch.int64), active)


def test_every_tensor_of_columns_has_its_own_positions() -> None:
    logits, labels = torch.randn(4, 300), torch.tensor([7, 9, 7, 9])
    loss = build_loss("cross_entropy", {}, context_of((1,) * 300))
    # More than are remembered, each gone before the next is made.
    for other in range(10, 300):
        columns = [[9, other, 7], [7, 9, other], [other, 7, 9]][other % 3]
        wanted = F.cross_entropy(logits[:, columns], torch.tensor([columns.index(int(y)) for y in labels]))
        torch.testing.assert_close(loss(logits, labels, torch.tensor(columns)), wanted)
