"""AutoAttack, where its package is installed, against closed forms; and what it says where it is not."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch

from tests.workloads.attacked_models import (
    distance_to_break,
    draw_images,
    draw_weights,
    linear_model,
    predictions,
)
from workloads.evaluation.autoattack import autoattack


@pytest.mark.parametrize("classes", [4, 12])
def test_autoattack_finds_the_exact_robust_accuracy_of_a_linear_model(classes: int) -> None:
    pytest.importorskip("pyautoattack")
    W, images = draw_weights(classes), draw_images(60)
    logits = linear_model(W)
    labels = predictions(logits, images, wrong=6)
    exact = distance_to_break(W, images, labels)
    epsilon = float(np.median(exact))
    state, trace = torch.get_rng_state(), sys.gettrace()

    def debugger(frame: Any, event: str, arg: Any) -> None:
        return None

    sys.settrace(debugger)
    try:
        accuracy = autoattack(logits, images, labels, epsilon=epsilon, seed=0, batch=32)
        assert sys.gettrace() is debugger
    finally:
        sys.settrace(trace)
    assert accuracy == float((exact > epsilon).mean())
    assert torch.equal(torch.get_rng_state(), state)


def test_autoattack_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    with pytest.raises(ValueError, match="AutoAttack needs four or more classes; got 3"):
        autoattack(linear_model(draw_weights(3)), draw_images(4), labels, epsilon=2.0, seed=0)
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(ModuleNotFoundError, match="pip install pyautoattack"):
        autoattack(linear_model(draw_weights(4)), draw_images(4), labels, epsilon=2.0, seed=0)
