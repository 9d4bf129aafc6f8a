"""Losses made for a stream in which some classes have no images yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.workloads.losses.batches import context_of
from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from tests.workloads.losses.test_invariances import per_class
from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.counts import class_counts, effective_weights, inverse_weights, log_prior
from workloads.losses.hem import HighErrorMarginPlus
from workloads.losses.ldam import LDAM

COUNTS = (300, 0, 41, 0, 120)
OCCURRING = (0, 2, 4)
ACTIVE = torch.tensor([4, 0, 2])
CONTEXT = context_of(COUNTS, OCCURRING)
COUNTED = [case for case in CASES if set(per_class(case)) - {"m"}]
"""Cases whose margins or weights follow from the class counts, and are read in training."""


def of_the_head(case: Case) -> bool:
    """Whether its scale follows from the number of classes of the head, whichever occur."""
    return case.loss == "adacos" or isinstance(case.params.get("s"), Mapping)


def whole(case: Case) -> Loss:
    return case.build(COUNTS, active=OCCURRING).train()


def made_for_the_occurring(case: Case) -> Loss:
    """The same loss for a problem that has no other classes, in the order of ``ACTIVE``."""
    counts = tuple(COUNTS[j] for j in ACTIVE.tolist())
    classes = len(COUNTS) if of_the_head(case) else len(counts)
    loss = build_loss(case.loss, case.params, LossContext(sum(counts), classes, counts)).double().train()
    if case.params.get("mode") == "per_class":
        with torch.no_grad():
            loss.get_parameter("m").copy_(whole(case).get_parameter("m")[ACTIVE])
    return loss


def leaves(output: HeadOutput) -> HeadOutput:
    parts = (None if t is None else t.detach().requires_grad_(t.is_floating_point()) for t in output)
    return HeadOutput(*parts)  # type: ignore[arg-type]


def gradients(value: Tensor, output: HeadOutput) -> dict[str, Tensor]:
    named = {name: t for name, t in output._asdict().items() if t is not None}
    found = torch.autograd.grad(value, list(named.values()), allow_unused=True)
    return {name: g for name, g in zip(named, found, strict=True) if g is not None}


def given(case: Case, N: int = 12) -> tuple[HeadOutput, Tensor, Tensor]:
    """An output of all columns, labels that occur, and their positions in ``ACTIVE``."""
    batch = case.batch(N=N, C=5)
    positions = batch.labels % 3
    return leaves(batch.output), ACTIVE[positions], positions


@pytest.mark.parametrize("case", CASES, ids=str)
def test_classes_that_do_not_occur_are_as_if_the_head_had_no_columns_for_them(case: Case) -> None:
    output, labels, positions = given(case)
    cut = leaves(
        HeadOutput(
            output.logits[:, ACTIVE],
            output.features,
            None if output.weight is None else output.weight[ACTIVE],
            None if output.bias is None else output.bias[ACTIVE],
            output.divisor,
        )
    )
    value = whole(case)(output, labels, ACTIVE)
    expected = made_for_the_occurring(case)(cut, positions)
    assert value.item() == pytest.approx(expected.item(), rel=1e-9)
    ours, theirs = gradients(value, output), gradients(expected, cut)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        columns = gradient.T if name == "logits" else gradient
        if name in ("logits", "weight", "bias"):
            assert columns[[1, 3]].abs().max().item() == 0
            columns = columns[ACTIVE]
        by_class = theirs[name].T if name == "logits" else theirs[name]
        torch.testing.assert_close(columns, by_class, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_of_the_columns_that_occur_are_those_of_a_head_that_has_no_others(case: Case) -> None:
    output, _, _ = given(case)
    seen = whole(case).eval().eval_logits(output.columns(ACTIVE))
    expected = made_for_the_occurring(case).eval().eval_logits(output.columns(ACTIVE)._replace(classes=None))
    assert seen.isfinite().all()
    torch.testing.assert_close(seen, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", COUNTED, ids=str)
@pytest.mark.parametrize("active", [None, torch.tensor([0, 1, 2, 4])])
def test_a_column_of_a_class_that_does_not_occur_makes_the_loss_no_number(
    case: Case, active: Tensor | None
) -> None:
    """Also where every label occurs: the class would be a competitor that nothing is defined for."""
    output, labels, _ = given(case)
    loss = whole(case)
    assert loss(output, labels, active).isnan()
    if loss.splits:
        weights = torch.ones(12, dtype=torch.float64)
        value, losses = loss.detailed(output, labels, active, weights)
        assert value.isnan()
        assert losses.isnan().all()
    if loss.targets == "soft":
        assert loss(output, F.one_hot(labels, 5).double(), active).isnan()


def test_the_cases_whose_class_weights_and_margins_are_counted_are_all_tried() -> None:
    names = {case.loss for case in COUNTED}
    assert names == {"cross_entropy", "focal", "hem_plus", "ldam", "balanced_softmax", "logit_adjustment"}


def test_scores_adjusted_for_a_class_that_does_not_occur_are_no_numbers() -> None:
    loss = build_loss("logit_adjustment", {"apply": "evaluation"}, CONTEXT)
    Z = torch.zeros(1, 5, dtype=torch.float64)
    assert loss.eval_logits(Z).isnan().all()
    seen = loss.eval_logits(HeadOutput(Z).columns(ACTIVE))
    expected = -torch.tensor([120 / 461, 300 / 461, 41 / 461], dtype=torch.float64).log()
    torch.testing.assert_close(seen[0], expected, rtol=1e-12, atol=0)


def test_a_class_that_occurs_must_have_an_image_and_the_others_are_never_counted() -> None:
    with pytest.raises(ValueError, match=r"^x: every class must have .*; got class_counts\[1\] = 0$"):
        class_counts("x", context_of(COUNTS, (0, 1, 2)))
    counts = class_counts("x", context_of((300, 7, 41, 9, 120), OCCURRING))
    assert counts[list(OCCURRING)].tolist() == [300, 41, 120]
    assert counts[[1, 3]].isnan().all()
    assert class_counts("x", context_of((3, 2, 1))).tolist() == [3, 2, 1]


def test_what_follows_from_the_counts_is_of_the_classes_that_occur() -> None:
    counts = class_counts("x", CONTEXT)
    total = 1 / 300 + 1 / 41 + 1 / 120
    expected: dict[str, tuple[Tensor, list[float]]] = {
        "inverse": (inverse_weights(counts), [3 / total / n for n in (300, 41, 120)]),
        # 1 - beta over 1 - beta^n with beta = 0.5 is 0.5 to 1e-12 for all these counts.
        "effective": (effective_weights(counts, 0.5), [1.0, 1.0, 1.0]),
        "prior": (log_prior(counts).exp(), [300 / 461, 41 / 461, 120 / 461]),
        "ldam": (LDAM(max_m=0.5, context=CONTEXT).margins, [0.5 * (41 / n) ** 0.25 for n in (300, 41, 120)]),
    }
    for name, (values, wanted) in expected.items():
        assert values[[1, 3]].isnan().all(), name
        assert values[list(OCCURRING)].tolist() == pytest.approx(wanted, rel=1e-11), name


@pytest.mark.parametrize(("p", "budget"), [(0.5, "mean"), (0.0, "mean"), (0.0, "squares")])
def test_the_budget_of_hem_plus_is_of_the_classes_that_occur(p: float, budget: Any) -> None:
    # Published margins of 400 and 100 images of two classes at scale 800 are 1 and 2.
    context = LossContext(500, 4, (0, 400, 100, 0), (1, 2))
    margins = HighErrorMarginPlus(800.0, p, budget, cap=0.0, context=context).margins
    expected = {(0.5, "mean"): [1, 2], (0.0, "mean"): [1.2] * 2, (0.0, "squares"): [2.5**0.5] * 2}[p, budget]
    assert margins[1:3].tolist() == pytest.approx(expected, rel=1e-12)
    capped = HighErrorMarginPlus(800.0, p, budget, cap=0.5, context=context).margins
    assert capped[1:3].max().item() == pytest.approx(0.5 * (800 / 500) ** 0.5, rel=1e-12)
    assert capped[[0, 3]].isnan().all()


def test_all_classes_named_as_occurring_change_nothing() -> None:
    counts = (503, 302, 181, 108)
    for case in CASES:
        batch = case.batch(C=4)
        expected = case.build(counts)(batch.output, batch.labels).item()
        assert case.build(counts, active=(3, 1, 0, 2))(batch.output, batch.labels).item() == expected
