"""What scores see of every loss: no margin, the scale restored, the prediction at the top."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.workloads.losses.batches import Given
from tests.workloads.losses.cases import Case
from tests.workloads.losses.reference_arrays import Array
from tests.workloads.losses.table import CASES
from workloads.losses.catalogue import LOSSES

MARGINS = ("m", "mu", "max_m", "k", "M", "lambda_min", "fallback", "delta", "threshold", "scale", "cap")
MARGINS_OF_CLASSES = ("p", "budget")


def not_the_heads(case: Case) -> Callable[[Given], Array] | None:
    """What the losses predict by that do not take the head's highest logit."""
    if case.loss == "t2fnorm":
        return lambda g: g.X @ g.W.T / 0.1 + g.b
    if case.loss in ("modified_softmax", "a_softmax"):
        return lambda g: g.c  # the length of the features moves all classes alike
    if case.params.get("apply") == "evaluation":
        return lambda g: g.Z - np.log(g.counts)
    return None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_see_the_logits_of_the_table(case: Case) -> None:
    batch = case.batch(N=16)
    seen = case.build(batch.counts).eval_logits(batch.output)
    np.testing.assert_allclose(seen.detach().numpy(), case.scores(batch.given()), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if not_the_heads(case) is None], ids=str)
def test_the_highest_score_is_the_highest_logit_of_the_head(case: Case) -> None:
    batch = case.batch(N=16)
    seen = case.build(batch.counts).eval_logits(batch.output)
    assert torch.equal(seen.argmax(dim=1), batch.output.logits.argmax(dim=1))


@pytest.mark.parametrize("case", [case for case in CASES if not_the_heads(case)], ids=str)
def test_scores_that_are_not_the_heads_logits_predict_what_the_loss_trains(case: Case) -> None:
    batch = case.batch(N=16)
    prediction = not_the_heads(case)
    assert prediction is not None
    trained = prediction(batch.given())
    seen = case.build(batch.counts).eval_logits(batch.output)
    assert seen.argmax(dim=1).tolist() == trained.argmax(axis=1).tolist()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_do_not_depend_on_a_margin(case: Case) -> None:
    batch = case.batch(N=16)
    expected = case.build(batch.counts).eval_logits(batch.output)
    for key, parameter in LOSSES[case.loss].parameters.items():
        if key not in MARGINS + MARGINS_OF_CLASSES:
            continue
        values = parameter.choices or (parameter.search.values if parameter.search else (2, 3))
        for value in values:
            changed = case.build(batch.counts, changes={key: value})
            assert torch.equal(changed.eval_logits(batch.output), expected), (key, value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_scores_depend_neither_on_the_progress_nor_on_the_mode(case: Case) -> None:
    batch = case.batch(N=16)
    loss = case.build(batch.counts)
    expected = loss.eval_logits(batch.output)
    for progress in (0.0, 0.05, 0.5):
        loss.set_progress(progress)
        assert torch.equal(loss.eval_logits(batch.output), expected)
    assert torch.equal(loss.train().eval_logits(batch.output), expected)
    assert loss.stats() == {}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_score_can_be_differentiated_down_to_the_image(case: Case) -> None:
    """ODIN, GradNorm and attacks do that."""
    batch = case.batch()
    batch.features.requires_grad_()
    seen: Tensor = case.build(batch.counts).eval_logits(batch.output)
    (gradient,) = torch.autograd.grad(seen.logsumexp(dim=1).sum(), batch.features)
    assert gradient.isfinite().all()
    assert gradient.abs().sum().item() > 0
