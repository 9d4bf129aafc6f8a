"""The reference against second implementations: torch, torchvision, scipy and, where installed, others.

Where a library means something else, a test says what, instead of a tolerance that would hide it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from scipy.special import lambertw
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from tests.workloads.losses import reference as ref
from tests.workloads.losses.reference_arrays import Array, Labels

ROUNDING = 1e-12
"""Relative; both sides are float64 and add up some hundred terms of like size."""

N, C, D = 12, 5, 4


def tensor(a: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(a))


@dataclass(frozen=True)
class Batch:
    Z: Array
    y: Labels
    P: Array
    X: Array
    W: Array
    b: Array
    counts: Labels

    @property
    def c(self) -> Array:
        return ref.cos_of(self.X, self.W)

    @property
    def target(self) -> Tensor:
        return tensor(self.y)


@pytest.fixture(params=[0, 1, 2])
def batch(request: pytest.FixtureRequest) -> Batch:
    rng = np.random.default_rng(request.param)
    return Batch(
        Z=3 * rng.normal(size=(N, C)),
        y=rng.integers(0, C, size=N),
        P=rng.dirichlet(np.ones(C), size=N),
        X=2 * rng.normal(size=(N, D)),
        W=rng.normal(size=(C, D)),
        b=rng.normal(size=C),
        counts=rng.integers(1, 3000, size=C),
    )


def same(value: float, other: Tensor) -> None:
    assert other.dtype == torch.float64
    assert value == pytest.approx(other.item(), rel=ROUNDING)


def test_cross_entropy_agrees_with_torch(batch: Batch) -> None:
    Z, w = tensor(batch.Z), np.arange(1.0, C + 1)
    same(ref.cross_entropy(batch.Z, batch.y), F.cross_entropy(Z, batch.target))
    same(ref.cross_entropy(batch.Z, batch.y, weights=w), F.cross_entropy(Z, batch.target, tensor(w)))
    same(ref.cross_entropy(batch.Z, batch.P), F.cross_entropy(Z, tensor(batch.P)))
    same(ref.cross_entropy(batch.Z, batch.P, weights=w), F.cross_entropy(Z, tensor(batch.P), tensor(w)))
    smooth = F.cross_entropy(Z, batch.target, label_smoothing=0.2)
    same(ref.label_smoothing(batch.Z, batch.y, epsilon=0.2), smooth)


@pytest.mark.parametrize("soft", [False, True])
def test_the_losses_of_each_class_agree_with_torch(batch: Batch, soft: bool) -> None:
    Z, target = tensor(batch.Z), batch.P if soft else batch.y
    t = tensor(batch.P if soft else np.eye(C)[batch.y])
    same(ref.bce(batch.Z, target, class_reduction="mean"), F.binary_cross_entropy_with_logits(Z, t))
    same(ref.bce(batch.Z, target), C * F.binary_cross_entropy_with_logits(Z, t))
    for on, a in (("logits", Z), ("probs", Z.softmax(dim=1))):
        options: dict[str, Any] = {"on": on}
        same(ref.mse(batch.Z, target, **options), F.mse_loss(a, t))
        same(ref.l1(batch.Z, target, **options), F.l1_loss(a, t))
        same(ref.huber(batch.Z, target, delta=0.7, **options), F.huber_loss(a, t, delta=0.7))
        same(ref.huber(batch.Z, target, delta=0.7, **options) / 0.7, F.smooth_l1_loss(a, t, beta=0.7))


def test_l1_of_probabilities_is_twice_the_missing_probability(batch: Batch) -> None:
    p = tensor(batch.Z).softmax(dim=1)[torch.arange(N), batch.target]
    same(ref.l1(batch.Z, batch.y, on="probs", class_reduction="sum"), (2 * (1 - p)).mean())


def test_rescaled_squares_agree_with_a_weighted_sum(batch: Batch) -> None:
    weight = torch.ones(N, C, dtype=torch.float64)
    weight[torch.arange(N), batch.target] = 5.0
    squares = weight * (tensor(batch.Z) - 2 * F.one_hot(batch.target, C)) ** 2
    same(ref.mse(batch.Z, batch.y, k=5, M=2, class_reduction="sum"), squares.sum(dim=1).mean())


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_of_two_classes_agrees_with_torchvision(batch: Batch, gamma: float) -> None:
    Z, y = batch.Z[:, :2], batch.y % 2
    binary = sigmoid_focal_loss(
        tensor(Z[:, 1] - Z[:, 0]), tensor(y).double(), alpha=-1, gamma=gamma, reduction="mean"
    )
    same(ref.focal(Z, y, gamma=gamma), binary)


def test_focal_without_focusing_is_cross_entropy(batch: Batch) -> None:
    Z, w = tensor(batch.Z), np.arange(1.0, C + 1)
    plain = F.cross_entropy(Z, batch.target, tensor(w), reduction="none").mean()
    same(ref.focal(batch.Z, batch.y, gamma=0.0, alpha=w), plain)
    same(ref.focal(batch.Z, batch.y, gamma=0.0, alpha=w, weighting="inside"), plain)


@pytest.mark.parametrize(("mu", "p"), [(1.0, 1), (0.3, 1), (2.0, 2)])
def test_multi_margin_agrees_with_torch(batch: Batch, mu: float, p: int) -> None:
    same(
        ref.multi_margin(batch.Z, batch.y, mu=mu, p=p),
        F.multi_margin_loss(tensor(batch.Z), batch.target, margin=mu, p=p),
    )


def test_hem_of_two_classes_is_torchs_multi_margin_without_the_division_by_c(batch: Batch) -> None:
    # With one wrong class there is nothing to select, so that only the two means differ.
    Z, y = batch.Z[:, :2], batch.y % 2
    each = 2 * F.multi_margin_loss(tensor(Z), tensor(y), margin=1.5, reduction="none")
    assert (each == 0).any()
    same(ref.hem(Z, y, mu=1.5, mean_over="all"), each.mean())
    same(ref.hem(Z, y, mu=1.5), each[each > 0].mean())


@pytest.mark.parametrize("threshold", ["sample", "batch"])
def test_hem_agrees_with_masked_tensors(batch: Batch, threshold: str) -> None:
    Z, mu = tensor(batch.Z), torch.linspace(0.2, 3.0, N, dtype=torch.float64)
    true = F.one_hot(batch.target, C).bool()
    errors = (Z - Z[true].unsqueeze(1) + mu.unsqueeze(1)).clamp_min(0).masked_fill(true, 0)
    t = errors.mean(dim=1, keepdim=True) if threshold == "sample" else errors.mean()
    kept = torch.where((errors >= t) & (errors > 0), errors, torch.nan)
    options: dict[str, Any] = {"mu": mu.numpy(), "threshold": threshold}
    same(ref.hem(batch.Z, batch.y, **options), kept.nanmean(dim=1).nanmean())
    same(ref.hem(batch.Z, batch.y, mean_over="all", **options), kept.nanmean(dim=1).nansum() / N)


def test_normalised_logits_agree_with_torch(batch: Batch) -> None:
    Z, y = tensor(batch.Z), batch.target
    length = torch.linalg.vector_norm(Z, dim=1, keepdim=True) + 1e-7
    same(ref.logitnorm(batch.Z, batch.y, tau=0.04), F.cross_entropy(Z / length / 0.04, y))
    same(ref.logitnorm(batch.Z, batch.P, tau=0.04), F.cross_entropy(Z / length / 0.04, tensor(batch.P)))
    penalty = 0.3 * torch.linalg.vector_norm(Z, dim=1).mean()
    same(ref.logit_penalty(batch.Z, batch.y, lam=0.3), F.cross_entropy(Z, y) + penalty)
    m = np.linspace(-1.0, 1.0, C)
    per_class = F.cross_entropy((Z - tensor(m)) / length / 0.5, y)
    same(ref.meln(batch.Z, batch.y, T=0.5, m=m, mode="per_class"), per_class)
    target = F.cross_entropy((Z / length - 0.3 * F.one_hot(y, C).double()) * 2.0, y)
    same(ref.meln(batch.Z, batch.y, T=2.0, m=0.3, mode="target", temperature="multiply"), target)
    shifted = (Z - 0.4) / (torch.linalg.vector_norm(Z - 0.4, dim=1, keepdim=True) + 1e-7)
    value = ref.meln(batch.Z, batch.y, T=0.5, m=0.4, mode="shifted_norm")
    same(value, F.cross_entropy(shifted / 0.5, y))


def test_a_scalar_margin_of_the_source_has_no_effect(batch: Batch) -> None:
    plain = ref.logitnorm(batch.Z, batch.y, tau=0.3)
    for m in (-7.0, 0.1, 123.0):
        # At m = 123 the logits are about 100 in size, with a spacing of 1e-14.
        assert ref.meln(batch.Z, batch.y, T=0.3, m=m) == pytest.approx(plain, abs=1e-12)
    assert ref.meln(batch.Z, batch.y, T=0.3, m=0.5, mode="shifted_norm") != pytest.approx(plain, rel=1e-3)


def test_adjusted_logits_agree_with_torch(batch: Batch) -> None:
    Z, pi = tensor(batch.Z), tensor(batch.counts / batch.counts.sum())
    adjusted = F.cross_entropy(Z + 1.5 * pi.log(), batch.target)
    same(ref.logit_adjustment(batch.Z, batch.y, batch.counts, tau=1.5), adjusted)
    balanced = F.cross_entropy(Z + pi.log(), batch.target)
    same(ref.balanced_softmax(batch.Z, batch.y, batch.counts), balanced)


def test_losses_of_angles_agree_with_torch(batch: Batch) -> None:
    c = F.cosine_similarity(tensor(batch.X).unsqueeze(1), tensor(batch.W).unsqueeze(0), dim=2)
    assert batch.c == pytest.approx(c.numpy(), abs=1e-15)
    same(ref.arcgrad(batch.c, batch.y, s=10), F.cross_entropy(10 * (math.pi - c.acos()), batch.target))
    raw = tensor(batch.counts).double().pow(-0.25)
    m = (0.4 * raw / raw.max())[batch.target].unsqueeze(1)
    weights = ref.drw_weights(batch.counts)
    Z = 20 * (c - m * F.one_hot(batch.target, C))
    same(
        ref.ldam(batch.c, batch.y, batch.counts, s=20, max_m=0.4, weights=weights),
        F.cross_entropy(Z, batch.target, tensor(weights)),
    )


@pytest.mark.parametrize("samples", [N, N - 1])
def test_the_dynamic_scale_of_adacos_takes_torchs_lower_median(batch: Batch, samples: int) -> None:
    c, y = tensor(batch.c)[:samples], batch.target[:samples]
    true = F.one_hot(y, C).bool()
    B = (8 * c).exp().masked_fill(true, 0).sum() / samples
    theta = c.acos()[true].median()
    scale = B.log() / theta.clamp_max(math.pi / 4).cos()
    same(ref.adacos_dynamic_scale(batch.c[:samples], batch.y[:samples], s_previous=8), scale)


@pytest.mark.parametrize(
    ("angles", "lower_median"), [([0.2, 0.5, 0.7, 0.3], 0.3), ([0.1, 0.6, 0.4, 0.2, 0.7], 0.4)]
)
def test_the_dynamic_scale_of_adacos_follows_small_angles(angles: list[float], lower_median: float) -> None:
    # The medians of the other test are above pi/4, where the clamp hides them.
    theta = np.full((len(angles), 3), 1.4)
    theta[:, 0] = angles
    expected = (8 * math.cos(1.4) + math.log(2)) / math.cos(lower_median)
    y = np.zeros(len(angles), dtype=np.int64)
    value = ref.adacos_dynamic_scale(np.cos(theta), y, s_previous=8)
    assert value == pytest.approx(expected, rel=ROUNDING)


@pytest.mark.parametrize("divisor", ["classes", "others"])
def test_elogitnorm_agrees_with_a_matrix_of_distances(batch: Batch, divisor: str) -> None:
    X, W, b = tensor(batch.X), tensor(batch.W), tensor(batch.b)
    Z = F.linear(X, W, b)
    distances = torch.cdist(W, W, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(1.0)
    top, index = Z.max(dim=1, keepdim=True)
    gaps = ((Z - top).abs() / distances[index.squeeze(1)]).sum(dim=1, keepdim=True)
    options: dict[str, Any] = {"divisor": divisor}
    same(
        ref.elogitnorm(batch.X, batch.W, batch.b, batch.y, **options),
        F.cross_entropy(Z / (gaps / {"classes": C, "others": C - 1}[divisor]), batch.target),
    )


def test_t2fnorm_agrees_with_torch(batch: Batch) -> None:
    Z = F.linear(F.normalize(tensor(batch.X), dim=1) / 0.1, tensor(batch.W), tensor(batch.b))
    value = ref.t2fnorm(batch.X, batch.W, batch.b, batch.y, tau=0.1)
    same(value, F.cross_entropy(Z, batch.target))


def test_godin_logits_agree_with_tensors(batch: Batch) -> None:
    X, W, g = tensor(batch.X), tensor(batch.W), torch.linspace(0.1, 0.9, N, dtype=torch.float64)
    unit = [a / (torch.linalg.vector_norm(a, dim=1, keepdim=True) + 1e-4) for a in (X, W)]
    expected = {
        "cosine": unit[0] @ unit[1].T,
        "inner": X @ W.T,
        "euclid": -((X.unsqueeze(2) - W.T.unsqueeze(0)) ** 2).mean(dim=1),
    }
    for similarity, h in expected.items():
        options: dict[str, Any] = {"similarity": similarity, "g": g.numpy()}
        logits = ref.godin_logits(batch.X, batch.W, **options)
        # An inner product may come out near 0 from terms of size 10, and is then divided by g >= .1.
        assert logits == pytest.approx((h / g.unsqueeze(1)).numpy(), rel=ROUNDING, abs=1e-13)


@pytest.mark.parametrize("x", [1e-3, 1 / math.e, 1.0, 9.0, 999.0, 1e6])
def test_the_lambert_function_agrees_with_scipy(x: float) -> None:
    assert ref.lambert_w(x) == pytest.approx(lambertw(x).real, rel=ROUNDING)


@pytest.mark.parametrize("C", [2, 10, 1000])
def test_the_arcgrad_scales_agree_with_scipy(C: int) -> None:
    corrected, source = (lambertw(x).real + 1 for x in ((C - 1) / math.e, C - 1))
    assert ref.arcgrad_scale(C, 0.25) == pytest.approx(corrected / 0.25, rel=ROUNDING)
    assert ref.arcgrad_scale(C, 0.25, expression="source") == pytest.approx(source / 0.25, rel=ROUNDING)
