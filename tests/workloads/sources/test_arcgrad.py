"""ArcGrad (Wu and Wang 2020): what is printed against what is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from workloads.losses.arcgrad import lambert_w, largest_gradient_scale, published_scale

from .making import EXACT, PRINTED, built, gradient, tensor


def pull(s: float, C: int, gap: float) -> float:
    """|dL/dgap| of ArcGrad's loss where every wrong class is ``gap`` farther away than the true one."""
    at = torch.tensor(gap, dtype=torch.float64, requires_grad=True)
    angles = torch.cat([tensor(1.0), 1.0 + at.expand(C - 1)]).unsqueeze(0)
    return -gradient(built("arcgrad", C, s=s)(angles.cos(), torch.tensor([0])), at).item()


@pytest.mark.parametrize(
    ("C", "right", "published", "share"),
    [
        (3, 1.463056, 1.852606, 0.9553),
        (10, 2.101003, 2.679016, 0.9291),
        (100, 3.628650, 4.377873, 0.9228),
        (1000, 5.420502, 6.248762, 0.9313),
    ],
)
def test_arcgrads_published_scale_is_not_where_the_gradient_is_largest(
    C: int, right: float, published: float, share: float
) -> None:
    gap = 0.3
    s = largest_gradient_scale(C, gap)
    assert s * gap == pytest.approx(right, abs=PRINTED)
    assert published_scale(C, gap) * gap == pytest.approx(published, abs=PRINTED)
    assert pull(s, C, gap) > max(pull(s * 0.99, C, gap), pull(s * 1.01, C, gap))
    assert pull(published_scale(C, gap), C, gap) / pull(s, C, gap) == pytest.approx(share, abs=5e-5)


def test_arcgrads_published_scale_is_27_percent_too_large_for_ten_classes() -> None:
    assert published_scale(10, 0.3) / largest_gradient_scale(10, 0.3) == pytest.approx(1.275, abs=5e-4)
    # Public code without SciPy: log(C - 1) + 1 for W(C - 1) + 1.
    assert (math.log(9) + 1) / (lambert_w(9) + 1) == pytest.approx(1.19, abs=5e-3)


def test_arcgrads_printed_gradient_grows_with_s_for_ever() -> None:
    s = torch.linspace(0.1, 60, 600, dtype=torch.float64)
    growth = 9 * torch.exp(0.3 * s)
    assert (torch.diff(growth * s / (growth + 1)) > 0).all()
    # With the gap taken as theta_y - theta_j < 0 it is the pull on the loss.
    growth = 9 * torch.exp(-0.3 * s)
    right = [pull(float(x), 10, 0.3) for x in s[::100]]
    assert (growth * s / (growth + 1))[::100].tolist() == pytest.approx(right, rel=1e-9)


def test_the_softmax_of_raw_cosines_is_nearly_uniform_even_for_a_perfect_feature() -> None:
    cosines = torch.full((1, 10), -1 / 9, dtype=torch.float64)
    cosines[0, 3] = 1.0
    assert cosines.softmax(1).max().item() == pytest.approx(0.2524, abs=5e-5)
    ours = built("arcgrad", s=10.0).eval_logits(cosines)
    assert ours.softmax(1).max() > 0.999
    assert int(ours.argmax()) == 3


def test_c_inter_as_printed_is_wc_intra() -> None:
    rng = np.random.default_rng(0)
    centre, W = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 5, 8)))
    angle = np.arccos(centre @ W.T)
    C = len(W)
    as_printed = sum(angle[j, j] for j in range(C) for i in range(C) if i != j) / (C**2 - C)
    assert as_printed == pytest.approx(np.trace(angle) / C, rel=EXACT)
    between = np.arccos((centre @ centre.T).clip(-1, 1))
    assert abs((between.sum() - np.trace(between)) / (C**2 - C) - as_printed) > 0.01
