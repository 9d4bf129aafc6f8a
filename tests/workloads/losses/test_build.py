"""Building a loss by its name or by the import path of a user's own class."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from tests.workloads.losses.batches import make_batch
from workloads.head import HeadOutput, HeadSpec
from workloads.losses.base import Loss, LossContext, Needs
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES

CONTEXT = LossContext(1094, 4, (503, 302, 181, 108))


class RandomScale(nn.Module):
    """A user's loss that is no :class:`Loss`, knows no context and has a weight of its own."""

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__()
        self.strength = strength
        self.scale = nn.Parameter(1 + 0.1 * torch.rand(()))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return self.strength * nn.functional.cross_entropy(self.scale * logits, labels)


class Prior(Loss):
    """A user's loss that asks for the context."""

    def __init__(self, context: LossContext) -> None:
        super().__init__()
        self.context = context

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return output.logits.sum() * 0


class OfCosines(Loss):
    needs: ClassVar[Needs] = "cosine"

    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return output.logits.sum() * 0


class PerSample(Loss):
    def value(self, output: HeadOutput, targets: Tensor) -> Tensor:
        return output.logits.sum(dim=1)


def test_a_users_own_module_is_built_by_its_import_path() -> None:
    loss = build_loss(f"{__name__}:RandomScale", {"strength": 2.0}, CONTEXT)
    batch = make_batch(HeadSpec())
    (scale,) = list(loss.parameters())
    expected = 2 * nn.functional.cross_entropy(scale.item() * batch.output.logits, batch.labels)
    assert loss(batch.output, batch.labels).item() == pytest.approx(expected.item(), rel=1e-12)
    assert loss.head == HeadSpec("linear")


def test_a_users_own_module_never_sees_soft_targets() -> None:
    loss = build_loss(f"{__name__}:RandomScale", {}, CONTEXT)
    with pytest.raises(ValueError, match="PlainLoss needs class indices"):
        loss(torch.zeros(2, 4), torch.full((2, 4), 0.25))


def test_a_triplet_may_stand_beside_a_users_own_module() -> None:
    params = {"strength": 2.0, "triplet": 0.5}
    batch = make_batch(HeadSpec(), N=9)
    loss = build_loss(f"{__name__}:RandomScale", params, CONTEXT).train()
    value = loss(batch.output, batch.labels).item()
    term = loss.stats()["triplet"]
    assert term > 0
    plain = loss.get_submodule("base")(batch.output, batch.labels).item()
    assert value == pytest.approx(plain + 0.5 * term, rel=1e-9)


def test_a_users_own_loss_gets_the_context_if_it_asks_for_it() -> None:
    loss = build_loss(f"{__name__}:Prior", {}, CONTEXT)
    assert isinstance(loss, Prior)
    assert loss.context is CONTEXT


def test_a_users_own_loss_gets_the_head_that_it_needs() -> None:
    assert build_loss(f"{__name__}:OfCosines", {}, CONTEXT).head == HeadSpec("cosine")
    assert build_loss(f"{__name__}:Prior", {}, CONTEXT).head == HeadSpec("linear")


def test_a_loss_of_torch_itself_is_built_by_its_import_path() -> None:
    loss = build_loss("torch.nn:MultiMarginLoss", {"margin": 0.5}, CONTEXT)
    batch = make_batch(HeadSpec())
    expected = nn.functional.multi_margin_loss(batch.output.logits, batch.labels, margin=0.5)
    assert loss(batch.output, batch.labels).item() == expected.item()


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    with pytest.raises(ValueError, match=r"PerSample must return a scalar; got shape \(8,\)"):
        PerSample()(torch.zeros(8, 4), torch.zeros(8, dtype=torch.int64))


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("logit_norm", {}, r"loss must be one of cross_entropy, .* or an import path .*; got 'logit_norm'"),
        ("no.such.package:Loss", {}, "loss 'no.such.package:Loss' cannot be imported: No module named"),
        ("math:NoSuchLoss", {}, "cannot be imported: module 'math' has no attribute 'NoSuchLoss'"),
        ("fractions:Fraction", {}, "a loss must be a torch.nn.Module; got Fraction"),
        (f"{__name__}:RandomScale", {"strenght": 1.0}, "'strenght'; its parameters are: strength"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_reason(
    name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_loss(name, params, CONTEXT)


NEEDS_CONTEXT: dict[str, dict[str, Any]] = {
    "hem": {},
    "hem_plus": {},
    "ldam": {},
    "balanced_softmax": {},
    "logit_adjustment": {},
    "adacos": {},
    "meln": {"mode": "per_class"},
    "normface": {"s": {"log_classes": 1.0}},
    "arcgrad": {"s": {"gap": 0.2}},
    "cross_entropy": {"class_weights": "inverse"},
    "focal": {"alpha": "effective"},
}


@pytest.mark.parametrize("name", NEEDS_CONTEXT)
def test_a_loss_that_reads_the_training_data_says_so_where_there_is_no_context(name: str) -> None:
    """Only a user who makes the class by hand can leave the context out."""
    path = LOSSES[name].path
    assert path is not None
    module, _, attribute = path.partition(":")
    constructor = getattr(__import__(module, fromlist=[attribute]), attribute)
    with pytest.raises(ValueError, match=rf"^{name}.* needs a context"):
        constructor(**NEEDS_CONTEXT[name])
