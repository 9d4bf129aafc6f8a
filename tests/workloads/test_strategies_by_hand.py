"""Whole streams against a second implementation: every strategy, in every scenario that it is made for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.workloads.plain_stream import PlainStream
from tests.workloads.small_trials import CNN, Bench, Finished

CASES: dict[str, dict[str, Any]] = {
    "naive": {"model": CNN},
    "naive, task_il": {"scenario": "task_il"},
    "naive, domain_il": {"scenario": "domain_il"},
    "naive, permuted": {"scenario": "domain_il", "stream": "permuted"},
    "naive, rotated": {"scenario": "domain_il", "stream": "rotated"},
    "joint": {"strategy": "joint", "model": CNN},
    "joint, task_il": {"strategy": "joint", "scenario": "task_il"},
    "joint, domain_il": {"strategy": "joint", "scenario": "domain_il"},
    "replay": {"strategy": "replay", "model": CNN},
    "replay, as many as the batch": {"strategy": "replay", "replay_batch": None},
    "replay, task_il": {"strategy": "replay", "scenario": "task_il"},
    "replay, permuted": {"strategy": "replay", "scenario": "domain_il", "stream": "permuted"},
    "derpp": {"strategy": "derpp", "model": CNN},
    "derpp, task_il": {"strategy": "derpp", "scenario": "task_il"},
    "derpp, domain_il": {"strategy": "derpp", "scenario": "domain_il"},
    "lwf": {"strategy": "lwf", "model": CNN},
    "lwf, task_il": {"strategy": "lwf", "scenario": "task_il"},
    "lwf, domain_il": {"strategy": "lwf", "scenario": "domain_il", "lwf_temperature": 3.0},
    "ewc": {"strategy": "ewc", "ewc_lambda": 20.0, "fisher_images": 60},
    "ewc, task_il": {"strategy": "ewc", "scenario": "task_il", "ewc_lambda": 20.0, "fisher_images": 60},
    "ewc, CNN": {"strategy": "ewc", "model": CNN, "ewc_lambda": 1.0, "fisher_images": 60},
    "l2": {"strategy": "l2", "model": CNN},
    "l2, domain_il": {"strategy": "l2", "scenario": "domain_il"},
}


def accuracies(done: Finished) -> np.ndarray[Any, Any]:
    """R as it is saved."""
    record = json.loads((done.folder / "outputs" / "stream.json").read_text())
    return np.array(record["accuracy"], dtype=float)


@pytest.mark.parametrize("name", CASES)
def test_a_stream_is_what_a_plain_loop_makes_of_it(bench: Bench, tmp_path: Path, name: str) -> None:
    config = bench.stream(seed=3, **CASES[name])
    done = bench.run(config, tmp_path)
    plain = PlainStream(config, bench.data()).run()
    expected = plain.model.state_dict()
    assert done.weights.keys() == expected.keys()
    for key, weight in done.weights.items():
        # Sums in another order, over some fifty steps of float32: 10^-6 of weights of about 0.1 was seen.
        torch.testing.assert_close(weight, expected[key], rtol=1e-4, atol=1e-5)
    trained = [each.metrics["train/accuracy"] for each in done.reports]
    assert trained == pytest.approx(plain.trained, abs=1e-12)
    np.testing.assert_allclose(accuracies(done), np.array(plain.R), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["replay, task_il", "derpp, task_il", "lwf, task_il", "ewc, task_il", "ewc, CNN", "l2, domain_il"]
)
def test_a_strategy_changes_what_is_learned_by_more_than_the_tolerance(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    done = bench.run(bench.stream(seed=3, **CASES[name]), tmp_path / "one")
    bare = bench.run(bench.stream(seed=3, **CASES[name] | {"strategy": "naive"}), tmp_path / "two")
    change = (done.weights["head.weight"] - bare.weights["head.weight"]).abs().max()
    assert float(change) > 1e-3
