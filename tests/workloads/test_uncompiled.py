"""A trial does not load torch's compiler, and its optimisers step as torch's do."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from workloads.training.uncompiled import plain_step, unguard

_TRIAL = """
import sys, tempfile
from pathlib import Path
from workloads.contract import *
from workloads.run import prepare, run

root = Path(tempfile.mkdtemp())
data, noise = DataConfig("digits", (0, 1, 2)), NoiseConfig(size=20)
facts = prepare(data, noise, root / "data")
training = TrainingConfig(epochs=1, optimizer=sys.argv[1], clip_grad_norm=1.0)
evaluation = EvaluationConfig(())
model = ModelConfig("small_cnn_8x8", {"width": 4})
config = TrialConfig(
    "arm", "confirm", "standard", 0, "logitnorm", {}, data, facts.hash, model, training, noise, evaluation
)
run(config, lambda report: None, folder=root / "trial", data_root=root / "data")
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_a_whole_trial_leaves_the_compiler_unloaded(optimizer: str) -> None:
    words = [sys.executable, "-c", _TRIAL, optimizer]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.Muon])
def test_a_plain_step_moves_the_weights_as_torchs_own_does_to_the_bit(
    kind: type[torch.optim.Optimizer],
) -> None:
    def trained(step: bool) -> torch.Tensor:
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(6, 5))
        optimizer = kind([weight], lr=0.1)  # type: ignore[call-arg]
        for _ in range(4):
            optimizer.zero_grad()
            (weight**4).sum().backward()  # type: ignore[no-untyped-call]
            if step:
                plain_step(optimizer)
            else:
                optimizer.step()
        return weight.detach()

    unguard()
    assert (trained(True) == trained(False)).all()


def test_the_steps_record_no_graph() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.sum().backward()  # type: ignore[no-untyped-call]
    plain_step(optimizer)
    assert weight.is_leaf
    assert weight.grad_fn is None
    assert torch.is_grad_enabled()
