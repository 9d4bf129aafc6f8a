"""What an attack increases, against the formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.workloads.attacked_models import Array
from workloads.evaluation.attack_objectives import OBJECTIVES


def _objective_by_hand(name: str, Z: Array, y: int) -> float:
    if name == "scaled_ce":
        Z = 10.0 * Z / np.sqrt((Z**2).sum())
    if name in ("ce", "scaled_ce"):
        return float(np.log(np.exp(Z - Z[y]).sum()))
    ordered = np.sort(Z)
    # As in the authors' code: the second largest competes where the label is the largest.
    other = ordered[-2] if ordered[-1] == Z[y] else ordered[-1]
    spread = ordered[-1] - ordered[-3] if name == "dlr" else 1.0
    return float(-(Z[y] - other) / spread)


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_an_objective_is_its_formula(objective: str) -> None:
    Z = np.random.default_rng(0).normal(size=(60, 6)) * 3.0
    labels = np.random.default_rng(1).integers(0, 6, 60)
    values = OBJECTIVES[objective](torch.tensor(Z), torch.tensor(labels)).numpy()
    expected = [_objective_by_hand(objective, row, y) for row, y in zip(Z, labels, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-12)


@pytest.mark.parametrize("objective", ["scaled_ce", "dlr"])
@pytest.mark.parametrize("scale", [2.0**-40, 2.0**20])
def test_these_objectives_do_not_depend_on_the_scale_of_the_logits(objective: str, scale: float) -> None:
    Z = torch.tensor(np.random.default_rng(0).normal(size=(60, 6)))
    labels = torch.arange(60) % 6
    plain = OBJECTIVES[objective](Z, labels)
    # Powers of two scale without rounding, so that nothing but an added constant could make a difference.
    torch.testing.assert_close(OBJECTIVES[objective](scale * Z, labels), plain, rtol=1e-14, atol=0)


def test_the_length_of_logits_is_taken_where_their_squares_are_no_float32_any_more() -> None:
    Z = torch.tensor(np.random.default_rng(0).normal(size=(60, 6))).float()
    labels = torch.arange(60) % 6
    for scale in (2.0**-100, 2.0**80):
        values = OBJECTIVES["scaled_ce"](scale * Z, labels)
        assert values.dtype == torch.float64
        torch.testing.assert_close(values, OBJECTIVES["scaled_ce"](Z, labels), rtol=1e-14, atol=0)
