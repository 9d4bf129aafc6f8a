"""Every loss against its worked values and against its numpy reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.workloads.losses.cases import Case
from tests.workloads.losses.table import CASES
from tests.workloads.losses.worked_values import INPUTS, VALUES
from workloads.catalogue import Parameter
from workloads.head import HeadOutput
from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import AUXILIARY, LOSSES
from workloads.models.heads import GodinHead, Head, build_head

# The file leaves w_g and b_g open; its two values of GODIN follow from w_g = 0, b_g = 0.04.
GODIN_BIAS = 0.04

# Name in the table of worked values -> the loss. Those of a user's own class weights ("ce_weighted") and of
# AdaCos in training stand below.
WORKED: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("cross_entropy", {}),
    "label_smoothing[.1]": ("label_smoothing", {}),
    "bce_ova[sum]": ("bce", {}),
    "bce_ova[mean]": ("bce", {"class_reduction": "mean"}),
    "mse[logits,mean]": ("mse", {}),
    "mse[logits,sum,half]": ("mse", {"class_reduction": "sum", "half": True}),
    "mse[probs,sum]": ("mse", {"input": "probs", "class_reduction": "sum"}),
    "mse[logits,mean,k=5,M=2]": ("mse", {"k": 5.0, "M": 2.0}),
    "l1[logits,mean]": ("l1", {}),
    "l1[probs,sum]": ("l1", {"input": "probs", "class_reduction": "sum"}),
    "huber[logits,delta=1]": ("huber", {}),
    "huber[logits,delta=.5]": ("huber", {"delta": 0.5}),
    "focal[gamma=2]": ("focal", {"gamma": 2.0}),
    "focal[gamma=1]": ("focal", {"gamma": 1.0}),
    "logitnorm[tau=.04]": ("logitnorm", {"tau": 0.04}),
    "logitnorm[tau=1]": ("logitnorm", {"tau": 1.0}),
    "logit_penalty[.05]": ("logit_penalty", {"lam": 0.05}),
    "meln_source[T=1,m=.1]": ("meln", {"mode": "source", "T": 1.0, "m": 0.1}),
    "meln_source[T=1,m=5]": ("meln", {"mode": "source", "T": 1.0, "m": 5.0}),
    "meln_multiply[T=25,m=.1]": (
        "meln",
        {"mode": "source", "T": 25.0, "m": 0.1, "temperature": "multiply"},
    ),
    "meln_target[T=.1,m=.1]": ("meln", {"mode": "target", "T": 0.1, "m": 0.1}),
    "meln_shifted_norm[T=1,m=.1]": ("meln", {"mode": "shifted_norm", "T": 1.0, "m": 0.1}),
    "multi_margin[1]": ("multi_margin", {"mu": 1.0}),
    "multi_margin[2]": ("multi_margin", {"mu": 2.0}),
    "multi_margin[2,p=2]": ("multi_margin", {"mu": 2.0, "p": 2}),
    "hem[mu=.2]": ("hem", {"mu": 0.2}),
    "hem[mu=.4]": ("hem", {"mu": 0.4}),
    "hem[mu=1]": ("hem", {"mu": 1.0}),
    "hem[mu=2]": ("hem", {"mu": 2.0}),
    "hem[mu=.4,batch threshold]": ("hem", {"mu": 0.4, "threshold": "batch"}),
    "hem[mu=2,mean over all samples]": ("hem", {"mu": 2.0, "mean_over": "all"}),
    "hem_plus[counts]": ("hem_plus", {}),
    "logit_adjusted[tau=1]": ("logit_adjustment", {}),
    "modified_softmax": ("modified_softmax", {}),
    "normface[s=16]": ("normface", {"s": 16.0}),
    "lsoftmax[m=4,lam=0]": ("l_softmax", {"m": 4}),
    "lsoftmax[m=2,lam=5]": ("l_softmax", {"m": 2, "lambda_min": 5.0}),
    "asoftmax[m=4,lam=0]": ("a_softmax", {"m": 4, "lambda_min": 0.0}),
    "asoftmax[m=4,lam=5]": ("a_softmax", {"m": 4}),
    "cosface[s=30,m=.35]": ("cosface", {"m": 0.35}),
    "arcface[s=30,m=.5,linear]": ("arcface", {"m": 0.5}),
    "arcface[s=30,m=.5,none]": ("arcface", {"m": 0.5, "fallback": "none"}),
    "arcface[s=30,m=.5,easy]": ("arcface", {"m": 0.5, "fallback": "easy"}),
    "arcgrad[s=10]": ("arcgrad", {"s": 10.0}),
    "arcgrad[s=2]": ("arcgrad", {"s": 2.0}),
    "adacos_fixed": ("adacos", {"mode": "fixed"}),
    "godin[cosine,sigmoid,eval BN]": ("godin", {}),
    "godin[cosine,exp,eval BN]": ("godin", {"g": "exp"}),
    "elogitnorm[/C = author code]": ("elogitnorm", {}),
    "elogitnorm[/(C-1)]": ("elogitnorm", {"divisor": "others"}),
    "t2fnorm[tau=.1]": ("t2fnorm", {"tau": 0.1}),
    "ldam[s=30,.5,counts 500,100,20]": ("ldam", {"drw": 1.0}),
    "ldam_drw[beta=.9999]": ("ldam", {}),
}
IN_TRAINING = {"adacos_dynamic_s", "adacos_dynamic_loss"}
OWN_WEIGHTS = "ce_weighted[w=.5,1,2,(4)]"

# 2e-6 is the spacing of floats near 24, LogitNorm's logits at tau = .04, and 4e-15 that of doubles: what is
# left of a loss of 1.7e-8 is a difference of two such numbers.
PRECISIONS = [(torch.float64, 1e-6, 4e-15), (torch.float32, 1e-5, 2e-6)]


def example(name: str, head: Head | None, dtype: torch.dtype) -> tuple[HeadOutput, Tensor]:
    labels = torch.tensor(INPUTS[f"y{name}"])
    if head is None:
        return HeadOutput(torch.tensor(INPUTS[f"Z{name}"], dtype=dtype)), labels
    with torch.no_grad():
        head.weight.copy_(torch.tensor(INPUTS["W3"]))
        if head.bias is not None:
            head.bias.copy_(torch.tensor(INPUTS["b3"]))
        if isinstance(head, GodinHead):
            linear = head.divisor.get_submodule("0")
            linear.get_parameter("weight").zero_()
            linear.get_parameter("bias").fill_(GODIN_BIAS)
    output: HeadOutput = head.to(dtype).eval()(torch.tensor(INPUTS["XE"], dtype=dtype))
    return output, labels


def build(name: str, params: Mapping[str, Any], example_name: str) -> Loss:
    columns = {"A": 3, "B": 4, "C": 3, "E": 3}[example_name]
    counts = tuple(torch.tensor(INPUTS[f"CNT{columns}"]).tolist())
    return build_loss(name, params, LossContext(sum(counts), columns, counts))


@pytest.mark.parametrize(("dtype", "rel", "absolute"), PRECISIONS, ids=["float64", "float32"])
@pytest.mark.parametrize("worked", WORKED)
def test_a_loss_has_its_worked_values(worked: str, dtype: torch.dtype, rel: float, absolute: float) -> None:
    for letter, expected in VALUES[worked].items():
        loss = build(*WORKED[worked], letter).eval()
        head = build_head(loss.head, 2, 3).double() if letter == "E" else None
        output, labels = example(letter, head, dtype)
        value = loss(output, labels)
        assert value.dtype == dtype
        assert value.item() == pytest.approx(expected, rel=rel, abs=absolute), letter


@pytest.mark.parametrize(("dtype", "rel", "absolute"), PRECISIONS, ids=["float64", "float32"])
def test_cross_entropy_with_a_users_own_weights_has_its_worked_values(
    dtype: torch.dtype, rel: float, absolute: float
) -> None:
    for letter, expected in VALUES[OWN_WEIGHTS].items():
        output, labels = example(letter, None, dtype)
        weights = [0.5, 1.0, 2.0, 4.0][: output.logits.shape[1]]
        value = build("cross_entropy", {"class_weights": weights}, letter)(output, labels)
        assert value.item() == pytest.approx(expected, rel=rel, abs=absolute), letter


@pytest.mark.parametrize(("dtype", "rel", "absolute"), PRECISIONS, ids=["float64", "float32"])
def test_a_training_batch_of_adacos_has_its_worked_values(
    dtype: torch.dtype, rel: float, absolute: float
) -> None:
    loss = build("adacos", {"mode": "dynamic"}, "E").train()
    output, labels = example("E", build_head(loss.head, 2, 3).double(), dtype)
    value = loss(output, labels).item()
    s = loss.get_buffer("s").item()
    assert s == pytest.approx(VALUES["adacos_dynamic_s"]["E"], rel=rel, abs=absolute)
    assert value == pytest.approx(VALUES["adacos_dynamic_loss"]["E"], rel=rel, abs=absolute)


def test_every_worked_value_is_checked() -> None:
    assert {*WORKED, OWN_WEIGHTS, *IN_TRAINING} == set(VALUES)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("N", [1, 7, 64])
@pytest.mark.parametrize("C", [2, 3, 10])
def test_a_loss_equals_its_reference_on_random_batches(case: Case, N: int, C: int) -> None:
    batch = case.batch(N, C, seed=10 * N + C)
    value = case.build(batch.counts)(batch.output, batch.labels).item()
    assert value == pytest.approx(case.reference(batch.given()), rel=case.rel, abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_the_table_covers_every_word_switch_and_expression_of_an_entry(name: str) -> None:
    used = [case.params for case in CASES if case.loss == name]
    assert used, name
    for key, parameter in LOSSES[name].parameters.items():
        assert _values_of(parameter) <= {_plain(params.get(key, parameter.default)) for params in used}, key


@pytest.mark.parametrize("key", AUXILIARY)
def test_the_table_covers_every_word_of_the_terms_beside_a_loss(key: str) -> None:
    parameter = AUXILIARY[key]
    with_triplet = [case.params for case in CASES if case.params.get("triplet", 0)]
    assert {LOSSES[case.loss].facts["head"] for case in CASES if "triplet" in case.params} == {
        "logits",
        "cosine",
    }
    assert _values_of(parameter) <= {params.get(key, parameter.default) for params in with_triplet}


@pytest.mark.parametrize("name", LOSSES)
def test_the_facts_of_an_entry_are_those_of_the_loss(name: str) -> None:
    loss = build_loss(name, {}, LossContext(620, 3, (500, 100, 20)))
    assert LOSSES[name].facts == {"head": loss.needs, "targets": loss.targets}


@pytest.mark.parametrize("name", LOSSES)
def test_the_defaults_of_an_entry_are_those_of_the_loss(name: str) -> None:
    context = LossContext(620, 3, (500, 100, 20))
    given = {key: parameter.default for key, parameter in LOSSES[name].parameters.items()}
    case = next(case for case in CASES if case.loss == name)
    batch = case.batch(C=3)
    told, silent = build_loss(name, given, context), build_loss(name, {}, context)
    assert told.head == silent.head
    assert told.lr_scale == silent.lr_scale
    assert {key for key, p in told.named_parameters() if p.requires_grad} == {
        key for key, p in silent.named_parameters() if p.requires_grad
    }
    if case.build(batch.counts).head.kind != silent.head.kind:
        pytest.fail("the variants of a loss share a kind of head")
    for progress in (0.0, 0.05, 0.5, 0.85, 1.0):
        told.set_progress(progress)
        silent.set_progress(progress)
        assert told(batch.output, batch.labels).item() == silent(batch.output, batch.labels).item()


def _values_of(parameter: Parameter) -> set[Any]:
    if parameter.kind == "bool":
        return {False, True}
    return {*parameter.choices, *parameter.expressions}


def _plain(value: Any) -> Any:
    """The word of an expression; any other value as it is."""
    return next(iter(value)) if isinstance(value, Mapping) else value
