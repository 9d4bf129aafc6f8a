"""The losses: values, gradients, invariances, refusals, and the building of each by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workloads.losses.base import Loss, LossContext
from workloads.losses.build import build_loss
from workloads.losses.catalogue import LOSSES
from workloads.losses.cross_entropy import CrossEntropy
from workloads.losses.hem import HighErrorMargin
from workloads.losses.logitnorm import LogitNorm

CONTEXT = LossContext(num_train=50_000, num_classes=4, class_counts=(12_500,) * 4)
A = ([[2.0, 0.5, 0.3]], [0])
B = ([[1.0, -0.5, 0.25, 0.75], [0.2, 1.5, -1.0, 0.3], [3.0, 0.1, -0.2, 0.4]], [3, 0, 0])
C = ([[1.0, 0.9, 0.2]], [0])
# Computed in float64 by an implementation that shares no code with this one.
VALUES: list[tuple[str, dict[str, Any], tuple[float, float, float]]] = [
    ("cross_entropy", {}, (0.3406162698146993, 1.03910053789885, 0.8561866869491566)),
    ("logitnorm", {"tau": 0.04}, (1.66019553660135e-08, 7.4174622755564785, 0.14766971884615288)),
    ("logitnorm", {"tau": 1.0}, (0.6569635979724933, 1.1628888377260849, 0.9100544962609021)),
    ("hem", {"mu": 0.2}, (0.0, 0.975, 0.1)),
    ("hem", {"mu": 0.4}, (0.0, 1.175, 0.3)),
    ("hem", {"mu": 1.0}, (0.0, 1.2875, 0.9)),
    ("hem", {"mu": 2.0}, (0.4, 2.2875, 1.55)),
    ("hem", {"mu": 0.4, "threshold": "batch"}, (0.0, 0.875, 0.3)),
]
EVERY: list[tuple[str, dict[str, Any]]] = [
    ("cross_entropy", {}),
    ("logitnorm", {"tau": 0.04}),
    ("hem", {"mu": 0.4}),
    ("hem", {"mu": 0.4, "threshold": "batch"}),
]


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

    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.sum() * 0


class NeedsCosine(Loss):
    needs = "cosine"


class PerSample(Loss):
    def value(self, logits: Tensor, targets: Tensor) -> Tensor:
        return logits.sum(dim=1)


def tensors(example: tuple[list[list[float]], list[int]], dtype: torch.dtype = torch.float64) -> Any:
    return torch.tensor(example[0], dtype=dtype, requires_grad=True), torch.tensor(example[1])


def make(name: str, params: Mapping[str, Any]) -> Loss:
    return build_loss(name, params, CONTEXT)


def random_batch(size: int = 64, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, classes, generator=source, dtype=torch.float64)
    return logits, torch.randint(classes, (size,), generator=source)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("name", "params", "values"), VALUES)
def test_each_loss_gives_the_worked_values(
    name: str, params: dict[str, Any], values: tuple[float, ...], dtype: torch.dtype, tolerance: float
) -> None:
    loss = make(name, params)
    got = [loss(*tensors(example, dtype)).item() for example in (A, B, C)]
    assert got == pytest.approx(values, abs=tolerance)


@pytest.mark.parametrize(("name", "params"), EVERY)
def test_gradients_agree_with_finite_differences(name: str, params: dict[str, Any]) -> None:
    loss = make(name, params)
    logits, labels = tensors(B)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), (logits,))


@pytest.mark.parametrize(("name", "params"), [each for each in EVERY if each[0] != "logitnorm"])
def test_a_shift_of_all_logits_changes_nothing(name: str, params: dict[str, Any]) -> None:
    loss = make(name, params)
    logits, labels = random_batch()
    shift = torch.linspace(-50, 50, len(labels), dtype=torch.float64).unsqueeze(1)
    assert loss(logits + shift, labels).item() == pytest.approx(loss(logits, labels).item(), abs=1e-12)


def test_logitnorm_does_not_see_the_norm_of_the_logits() -> None:
    logits, labels = random_batch()
    # Not exactly: 1e-7 is added to norms of about 3.
    scales = torch.linspace(0.5, 100, len(labels), dtype=torch.float64).unsqueeze(1)
    loss = LogitNorm(tau=0.04)
    assert loss(scales * logits, labels).item() == pytest.approx(loss(logits, labels).item(), rel=1e-5)


def test_the_gradient_of_logitnorm_is_orthogonal_to_the_logits() -> None:
    logits, labels = random_batch()
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(LogitNorm(tau=0.04)(logits, labels), logits)
    cosine = nn.functional.cosine_similarity(gradient, logits.detach(), dim=1)
    assert cosine.abs().max().item() < 1e-6  # 1e-7 in the norm leaves a component of about 1e-7
    assert gradient.norm(dim=1).max().item() > 0.1


def test_logitnorm_reaches_its_floor_at_the_corners_of_the_simplex() -> None:
    logits = torch.eye(10, dtype=torch.float64) - 0.1
    floor = math.log(1 + 9 * math.exp(-math.sqrt(10 / 9)))
    assert LogitNorm(tau=1.0)(logits, torch.arange(10)).item() == pytest.approx(floor, abs=1e-6)
    assert floor == pytest.approx(1.419869, abs=1e-6)


def test_logitnorm_is_finite_at_zero_logits() -> None:
    logits = torch.zeros(2, 4, requires_grad=True)
    value = LogitNorm(tau=0.04)(logits, torch.tensor([0, 1]))
    value.backward()
    assert value.item() == pytest.approx(math.log(4), abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def by_hand(logits: Tensor, labels: Tensor, mu: float, threshold: str) -> float:
    """HEM in plain Python, straight from its definition."""
    rows = []
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        rows.append([0.0 if i == y else max(0.0, z[i] - (z[y] - mu)) for i in range(len(z))])
    everything = [e for row in rows for e in row]
    values = []
    for row in rows:
        of = row if threshold == "sample" else everything
        kept = [e for e in row if e > 0 and e >= sum(of) / len(of)]
        if kept:
            values.append(sum(kept) / len(kept))
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("threshold", ["sample", "batch"])
@pytest.mark.parametrize("mu", [0.05, 0.2, 1.0, 5.0])
def test_hem_agrees_with_its_definition_in_plain_python(threshold: Any, mu: float) -> None:
    logits, labels = random_batch(seed=3)
    expected = by_hand(logits, labels, mu, threshold)
    assert HighErrorMargin(mu=mu, threshold=threshold)(logits, labels).item() == pytest.approx(
        expected, abs=1e-12
    )


@pytest.mark.parametrize("active", [64, 5, 1])
def test_the_gradient_mass_of_hem_is_two_however_few_samples_are_active(active: int) -> None:
    logits, labels = random_batch()
    saturated = torch.nn.functional.one_hot(labels, 10).double() * 50
    saturated[:active] = 0
    wrong = (labels + 1) % 10
    logits[torch.arange(active), wrong[:active]] = 9.0  # every one of these has a violation
    logits = (logits + saturated).requires_grad_()
    (gradient,) = torch.autograd.grad(HighErrorMargin(mu=0.2)(logits, labels), logits)
    assert gradient.abs().sum().item() == pytest.approx(2.0, abs=1e-9)


@pytest.mark.parametrize("threshold", ["sample", "batch"])
def test_a_saturated_hem_batch_is_zero_with_a_graph_and_zero_gradients(threshold: Any) -> None:
    logits = (10 * torch.eye(4)).requires_grad_()
    loss = HighErrorMargin(mu=0.5, threshold=threshold)
    value = loss(logits, torch.arange(4))
    value.backward()
    assert value.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.abs().max().item() == 0.0
    assert loss.stats()["saturated"] == 1.0


@pytest.mark.parametrize(("num_train", "mu"), [(50_000, 0.2), (60_000, 0.182574), (1_281_167, 0.039510)])
def test_the_margin_of_hem_follows_the_number_of_training_images(num_train: int, mu: float) -> None:
    context = LossContext(num_train, 4, (num_train // 4,) * 4)
    assert HighErrorMargin(context=context).mu == pytest.approx(mu, abs=1e-5)
    quarter = build_loss("hem", {"mu": {"scale": 500.0}}, context)
    assert isinstance(quarter, HighErrorMargin)
    assert quarter.mu == pytest.approx(mu / 2, abs=1e-5)


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("logitnorm", {"tau": 0.0}, "tau must be above 0; got 0.0"),
        ("logitnorm", {"tau": math.nan}, "tau must be above 0"),
        ("hem", {"mu": -0.1}, "mu must be above 0; got -0.1"),
        ("hem", {"mu": {"scale": 0.0}}, r"mu\.scale must be above 0"),
        ("hem", {"mu": {"ratio": 1.0}}, "the expression scale"),
        ("hem", {"threshold": "epoch"}, "sample or batch; got 'epoch'"),
        ("logitnorm", {"temperature": 1.0}, "its parameters are: tau"),
        ("logit_norm", {}, "one of cross_entropy, logitnorm, hem or an import path"),
        ("no.such.package:Loss", {}, "cannot be imported"),
        ("math:NoSuchLoss", {}, "cannot be imported"),
        (f"{__name__}:NeedsCosine", {}, "needs a head that gives cosine"),
        ("fractions:Fraction", {}, "must be a torch.nn.Module"),
    ],
)
def test_what_cannot_be_built_is_refused_with_its_reason(
    name: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(name, params)


def test_hem_by_scale_needs_a_context() -> None:
    with pytest.raises(ValueError, match="needs a context"):
        HighErrorMargin()


def test_a_hard_loss_refuses_soft_targets() -> None:
    logits, labels = random_batch(8, 4)
    soft = nn.functional.one_hot(labels, 4).double()
    with pytest.raises(ValueError, match="HighErrorMargin needs class indices"):
        HighErrorMargin(mu=0.2)(logits, soft)


@pytest.mark.parametrize("loss", [CrossEntropy(), LogitNorm(tau=0.5)])
def test_a_soft_loss_takes_a_mixture_of_labels(loss: Loss) -> None:
    logits, labels = random_batch(8, 4)
    others = (labels + 1) % 4
    soft = 0.7 * nn.functional.one_hot(labels, 4) + 0.3 * nn.functional.one_hot(others, 4)
    # Cross-entropy is linear in the target.
    expected = 0.7 * loss(logits, labels) + 0.3 * loss(logits, others)
    assert loss(logits, soft).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize(("name", "params"), EVERY)
def test_active_classes_are_all_that_the_loss_sees(name: str, params: dict[str, Any]) -> None:
    loss = make(name, params)
    logits, _ = random_batch(8, 6)
    labels = torch.tensor([5, 1, 2, 5, 1, 1, 2, 2])
    active = torch.tensor([5, 1, 2])
    renumbered = torch.tensor([0, 1, 2, 0, 1, 1, 2, 2])
    expected = loss(logits[:, [5, 1, 2]], renumbered).item()
    logits[:, [0, 3, 4]] = torch.inf
    assert loss(logits, labels, active=active).item() == pytest.approx(expected, abs=1e-12)


def test_active_classes_also_select_the_columns_of_soft_targets() -> None:
    logits, labels = random_batch(8, 4)
    soft = nn.functional.one_hot(labels % 2, 4).double()
    got = CrossEntropy()(logits, soft, active=torch.tensor([0, 1]))
    assert got.item() == pytest.approx(CrossEntropy()(logits[:, :2], labels % 2).item(), abs=1e-12)


@pytest.mark.parametrize(("name", "params"), EVERY)
def test_a_label_outside_the_active_classes_is_an_error(name: str, params: dict[str, Any]) -> None:
    logits, _ = random_batch(2, 4)
    with pytest.raises((IndexError, RuntimeError)):
        make(name, params)(logits, torch.tensor([0, 3]), active=torch.tensor([0, 1]))


@pytest.mark.parametrize(("name", "params"), EVERY)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_half_precision_logits_give_a_finite_float32_loss_and_finite_gradients(
    name: str, params: dict[str, Any], scale: float
) -> None:
    loss = make(name, params)
    logits, labels = random_batch()
    features = (scale * logits).to(torch.bfloat16).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = features @ torch.eye(10)
        assert half.dtype == torch.bfloat16
        value = loss(half, labels)
    value.backward()
    assert value.dtype == torch.float32
    # The products with an identity are exact in bfloat16, so the loss must not lose anything more.
    assert value.item() == pytest.approx(loss(features.detach().double(), labels).item(), rel=1e-5, abs=1e-6)
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize(("name", "params"), EVERY)
def test_scores_see_the_raw_logits(name: str, params: dict[str, Any]) -> None:
    logits, _ = random_batch()
    assert torch.equal(make(name, params).eval_logits(logits), logits)


def test_stats_are_means_over_the_training_batches_since_the_last_call() -> None:
    loss = LogitNorm()
    labels = torch.tensor([0, 1])
    loss(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), labels)  # norms 5 and 1
    loss(torch.tensor([[6.0, 8.0], [0.0, 0.0]]), labels)  # norms 10 and 0
    loss.eval()(torch.full((2, 2), 1e6), labels)
    assert loss.stats() == {"logit_norm": 4.0}
    assert loss.stats() == {}


def test_hem_counts_the_samples_without_a_violation() -> None:
    loss = HighErrorMargin(mu=0.4)
    loss(*tensors(B))  # the third sample wins by 2.6
    assert loss.stats()["saturated"] == pytest.approx(1 / 3, abs=1e-12)


def test_a_users_own_module_is_built_by_its_import_path() -> None:
    loss = make(f"{__name__}:RandomScale", {"strength": 2.0})
    logits, labels = random_batch()
    (scale,) = list(loss.parameters())
    expected = 2 * nn.functional.cross_entropy(scale.item() * logits, labels)
    assert loss(logits, labels).item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_users_own_loss_gets_the_context_if_it_asks_for_it() -> None:
    loss = make(f"{__name__}:Prior", {})
    assert isinstance(loss, Prior)
    assert loss.context is CONTEXT


def test_a_loss_of_torch_itself_is_built_by_its_import_path() -> None:
    loss = make("torch.nn:MultiMarginLoss", {"margin": 0.5})
    logits, labels = random_batch()
    expected = nn.functional.multi_margin_loss(logits, labels, margin=0.5)
    assert loss(logits, labels).item() == pytest.approx(expected.item(), abs=1e-12)


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    logits, labels = random_batch(8, 4)
    with pytest.raises(ValueError, match=r"must return a scalar; got shape \(8,\)"):
        PerSample()(logits, labels)


def test_every_loss_of_the_catalogue_has_worked_values_here() -> None:
    assert {name for name, _, _ in VALUES} == set(LOSSES)
