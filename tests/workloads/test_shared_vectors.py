"""Every worked value of the losses that are built, straight from the shared file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tests.conftest import SHARED
from workloads.contract import ParameterValue
from workloads.losses.base import LossContext
from workloads.losses.build import build_loss

pytestmark = pytest.mark.shared

CASES: list[tuple[str, str, dict[str, ParameterValue]]] = [
    ("ce", "cross_entropy", {}),
    ("logitnorm[tau=.04]", "logitnorm", {"tau": 0.04}),
    ("logitnorm[tau=1]", "logitnorm", {"tau": 1.0}),
    ("hem[mu=.2]", "hem", {"mu": 0.2}),
    ("hem[mu=.4]", "hem", {"mu": 0.4}),
    ("hem[mu=1]", "hem", {"mu": 1.0}),
    ("hem[mu=2]", "hem", {"mu": 2.0}),
    ("hem[mu=.4,batch threshold]", "hem", {"mu": 0.4, "threshold": "batch"}),
]


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SHARED / "vectors" / "losses.json").read_text())
    return found


@pytest.mark.parametrize(("entry", "name", "params"), CASES, ids=[c[0] for c in CASES])
@pytest.mark.parametrize("example", ["A", "B", "C"])
def test_a_loss_has_the_worked_value(
    vectors: dict[str, Any], entry: str, name: str, params: dict[str, ParameterValue], example: str
) -> None:
    logits = torch.tensor(vectors["inputs"]["Z" + example], dtype=torch.float64)
    labels = torch.tensor(vectors["inputs"]["y" + example])
    loss = build_loss(name, params, LossContext(1000, logits.shape[1], (250,) * logits.shape[1]))
    # The values are printed to 16 digits; HEM's official denominators may differ by 2e-6.
    assert float(loss(logits, labels)) == pytest.approx(
        vectors["losses"][entry][example], rel=1e-6, abs=1e-12
    )
