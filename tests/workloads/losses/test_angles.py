"""ArcFace, ArcGrad and the multiplied angles of L-Softmax and A-Softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import lambertw
from torch import Tensor

from tests.workloads.losses import reference as ref
from tests.workloads.losses.batches import make_batch
from workloads.head import HeadSpec
from workloads.losses.arcface import ArcFace, with_margin
from workloads.losses.arcgrad import ArcGrad, lambert_w, largest_gradient_scale, published_scale
from workloads.losses.base import LossContext
from workloads.losses.cosine import NormFace, angle
from workloads.losses.sphereface import ASoftmax, LSoftmax, ModifiedSoftmax, psi

# An even number of angles, so that none is pi / 2, where the easy margin ends.
THETA = torch.linspace(0, math.pi, 1000, dtype=torch.float64)


def cosines(N: int = 32, C: int = 10) -> tuple[Tensor, Tensor]:
    batch = make_batch(HeadSpec("cosine"), N, C, D=8)
    return batch.output.logits.detach(), batch.labels


def gradient(loss: torch.nn.Module, c: Tensor, labels: Tensor) -> Tensor:
    c = c.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(c, labels), c)
    return found


@pytest.mark.parametrize(("dtype", "kept"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_the_derivative_of_an_angle_is_bounded(dtype: torch.dtype, kept: float) -> None:
    distance = torch.logspace(-17, -1, 200, dtype=torch.float64)
    c = torch.cat([1 - distance, distance - 1]).to(dtype).requires_grad_()
    (found,) = torch.autograd.grad(angle(c).sum(), c)
    # 1 / sin(theta) where the cosine ends, 1 - kept; rounding moves that by a little.
    assert found.abs().max().item() < 1.1 / math.sqrt(2 * kept)
    assert found.abs().max().item() > 0.5 / math.sqrt(2 * kept)
    torch.testing.assert_close(angle(c), c.acos(), rtol=0, atol=2 * math.sqrt(2 * kept))


@pytest.mark.parametrize("fallback", ["linear", "none", "easy"])
def test_arcface_adds_its_margin_to_the_angle_until_that_reaches_pi(fallback: Any) -> None:
    m = torch.tensor(0.5, dtype=torch.float64)
    moved = with_margin(THETA.cos(), m, fallback)
    # 1e-12 in the root of the sine is up to 1e-6 of a sine near 0.
    whole = (math.pi / 2 if fallback == "easy" else math.pi - 0.5) > THETA
    torch.testing.assert_close(moved[whole], (THETA[whole] + 0.5).cos(), rtol=0, atol=1e-6)
    rest = {
        "linear": THETA.cos() - 0.5 * math.sin(0.5),
        "none": (THETA + 0.5).cos(),
        "easy": THETA.cos(),
    }[fallback]
    torch.testing.assert_close(moved[~whole], rest[~whole], rtol=0, atol=1e-6)
    falls = bool((moved[1:] <= moved[:-1]).all())
    assert falls is (fallback == "linear")


def test_the_easy_margin_starts_where_the_cosine_is_positive() -> None:
    m = torch.tensor(0.5, dtype=torch.float64)
    around = torch.tensor([-1e-3, 0.0, 1e-3], dtype=torch.float64)
    moved = with_margin(around, m, "easy") != around
    assert moved.tolist() == [False, False, True]


def test_arcface_without_a_margin_is_normface() -> None:
    c, labels = cosines()
    for fallback in ("linear", "none", "easy"):
        value = ArcFace(30.0, 0.0, fallback)(c, labels).item()
        assert value == pytest.approx(NormFace(30.0)(c, labels).item(), rel=1e-12)


def test_the_fallbacks_have_the_worked_values_where_the_angle_is_far() -> None:
    """Cosines that are all alike beside a true class at theta: log(1 + (C - 1) exp(s (c - phi)))."""
    theta, other = 3.0, 0.1
    c = torch.full((1, 10), other, dtype=torch.float64)
    c[0, 0] = math.cos(theta)
    for fallback, phi in (
        ("linear", math.cos(theta) - 0.5 * math.sin(0.5)),
        ("none", math.cos(theta + 0.5)),
        ("easy", math.cos(theta)),
    ):
        value = ArcFace(30.0, 0.5, fallback)(c, torch.tensor([0])).item()  # type: ignore[arg-type]
        assert value == pytest.approx(math.log1p(9 * math.exp(30 * (other - phi))), rel=1e-9)


@pytest.mark.parametrize("fallback", ["linear", "none", "easy"])
def test_the_straight_through_gradient_on_the_cosines_is_s_times_the_softmax_residual(fallback: Any) -> None:
    c, labels = cosines()
    s, m = 30.0, torch.tensor(0.5, dtype=torch.float64)
    own = c.gather(1, labels[:, None]).squeeze(1)
    Z = s * c.scatter(1, labels[:, None], with_margin(own, m, fallback)[:, None])
    expected = s * (Z.softmax(dim=1) - F.one_hot(labels, 10)) / len(c)
    straight = gradient(ArcFace(s, 0.5, fallback, "straight_through"), c, labels)
    torch.testing.assert_close(straight, expected, rtol=1e-9, atol=1e-12)
    # The exact one has the factor sin(theta + m) / sin(theta) on the true class, where the margin is added.
    theta = own.acos()
    whole = theta < (math.pi / 2 if fallback == "easy" else math.pi - 0.5)
    exact = gradient(ArcFace(s, 0.5, fallback), c, labels).gather(1, labels[:, None]).squeeze(1)
    residual = expected.gather(1, labels[:, None]).squeeze(1)
    factor = (theta + 0.5).sin() / theta.sin()
    assert whole.sum() > 10
    torch.testing.assert_close(exact[whole], (factor * residual)[whole], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("theta", [0.05, 0.5, 1.0, 1.5])
def test_the_pull_of_arcgrad_on_a_feature_does_not_depend_on_the_angle(theta: float) -> None:
    """Two classes at one and the same difference of angles, in the plane that they span."""
    s, gap = 10.0, 0.05

    def pull(loss: torch.nn.Module) -> float:
        angles = torch.tensor([0.0, 2 * theta + gap], dtype=torch.float64)
        W = torch.stack([angles.cos(), angles.sin()], dim=1)
        x = torch.tensor([math.cos(theta), math.sin(theta)], dtype=torch.float64, requires_grad=True)
        c = (F.normalize(x, dim=0) @ W.T).unsqueeze(0)
        (found,) = torch.autograd.grad(loss(c, torch.tensor([0])), x)
        return float(found.norm())

    # The true class pulls and the other pushes the same way, each with s (1 - p_y).
    p = 1 / (1 + math.exp(-s * gap))
    assert pull(ArcGrad(s)) == pytest.approx(2 * s * (1 - p), rel=1e-9)
    # On cosines the same pull comes with the sines of the angles, and fades with them.
    assert pull(NormFace(s)) < 2 * s * max(math.sin(theta), math.sin(theta + gap))


@pytest.mark.parametrize("C", [3, 10, 100, 1000])
def test_the_scale_of_arcgrad_is_where_the_pull_of_a_gap_is_largest(C: int) -> None:
    gap = 0.2

    def pull(s: Any) -> Any:
        return s * (C - 1) / (np.exp(s * gap) + C - 1)

    best, printed = largest_gradient_scale(C, gap), published_scale(C, gap)
    grid = np.linspace(0.5, 100, 20_001)
    assert best == pytest.approx(grid[np.argmax(pull(grid))], abs=0.005)
    # The printed one loses 4 to 8 percent of the pull.
    assert 0.91 < pull(printed) / pull(best) < 0.97


@pytest.mark.parametrize(("C", "best", "printed"), [(10, 2.101003, 2.679016), (100, 3.628650, 4.377873)])
def test_the_scales_of_arcgrad_are_the_worked_numbers(C: int, best: float, printed: float) -> None:
    context = LossContext(C, C, (1,) * C)
    assert ArcGrad({"gap": 1.0}, context).s == pytest.approx(best, abs=5e-7)
    assert ArcGrad({"gap_as_published": 1.0}, context).s == pytest.approx(printed, abs=5e-7)
    assert ArcGrad({"gap": 0.5}, context).s == pytest.approx(2 * best, abs=1e-6)


@pytest.mark.parametrize("z", [0.0, 1e-12, 0.1, 1.0, math.e, 9.0, 999.0, 1e12])
def test_lamberts_function_is_scipys(z: float) -> None:
    assert lambert_w(z) == pytest.approx(lambertw(z).real, rel=1e-14, abs=1e-300)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_psi_falls_without_a_jump_from_one_to_one_minus_two_m(m: int) -> None:
    values = psi(THETA.cos(), m)
    assert values[0].item() == pytest.approx(1, abs=1e-12)
    assert values[-1].item() == pytest.approx(1 - 2 * m, abs=1e-9)
    steps = values[:-1] - values[1:]
    assert steps.min().item() >= 0
    # Its slope is m sin(m theta), m at most.
    assert steps.max().item() <= m * math.pi / 999 * (1 + 1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_psi_is_its_definition_with_an_arc_cosine(m: int) -> None:
    # Without the bounds of its intervals, where rounding says on which side an angle is.
    inner = THETA[1:-1]
    expected = [ref.psi(theta, m) for theta in inner.tolist()]
    assert psi(inner.cos(), m).tolist() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_margin_of_one_is_no_margin() -> None:
    torch.testing.assert_close(psi(THETA.cos(), 1), THETA.cos(), rtol=0, atol=0)
    batch = make_batch(HeadSpec("linear", bias=False), N=16)
    Z, labels = batch.output.logits, batch.labels
    plain = F.cross_entropy(Z, labels).item()
    assert LSoftmax(m=1)(batch.output, labels).item() == pytest.approx(plain, rel=1e-12)
    modified = ModifiedSoftmax()(batch.output, labels).item()
    assert ASoftmax(m=1)(batch.output, labels).item() == pytest.approx(modified, rel=1e-12)


def test_psi_has_a_gradient_also_at_the_ends() -> None:
    for m in (1, 2, 3, 4):
        c = torch.tensor([-1.0, 1.0], requires_grad=True)
        (found,) = torch.autograd.grad(psi(c, m).sum(), c)
        # d cos(m theta) / d cos(theta) is m^2 at theta = 0 and, with its sign, at pi.
        assert found.tolist() == pytest.approx([m * m, m * m])


def test_a_larger_multiple_of_the_angle_costs_more() -> None:
    batch = make_batch(HeadSpec("linear", bias=False), N=16)
    for loss in (LSoftmax, ASoftmax):
        values = [loss(m=m, lambda_min=0.0)(batch.output, batch.labels).item() for m in (1, 2, 3, 4)]
        assert values == sorted(set(values))


def test_a_softmax_does_not_see_the_length_of_a_class_weight_and_l_softmax_does() -> None:
    batch = make_batch(HeadSpec("linear", bias=False), N=16)
    for loss, sees in ((ASoftmax(), False), (LSoftmax(), True), (ModifiedSoftmax(), False)):
        before = loss(batch.output, batch.labels).item()
        with torch.no_grad():
            batch.head.weight[0] *= 3
        after = loss(batch.output, batch.labels).item()
        assert (after != pytest.approx(before, rel=1e-9)) is sees
