"""Trials share GPUs: really placed by Ray, on a GPU that Ray is told of and trials do not use."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from tests.orchestrator.execution.driver import STUDY, Driver

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]

LOSSES = """\
import json, os
from pathlib import Path
import ray
from torch.nn import functional as F
from workloads.losses.base import Loss
from workloads.training.device_memory import Gauge

# 20 of 80 GB: three fit into the nine tenths of a GPU that are used.
Gauge.read = lambda self: (20 * 10**9, 80 * 10**9)


class Works(Loss):
    least = 0.0

    steps = 0

    def value(self, output, targets):
        self.steps += 1
        if self.steps == 3:
            share = ray.get_runtime_context().get_assigned_resources()["GPU"]
            self.log(share)
            if share < self.least:
                raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")
        return F.cross_entropy(output.logits, targets)

    def log(self, share):
        line = {"loss": type(self).__name__, "share": share, "fits": share >= self.least,
                "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
        with Path(os.environ["PLACEMENT_LOG"]).open("a") as file:
            file.write(json.dumps(line) + "\\n")


class Needs(Works):
    least = 0.5
"""


def placed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, resources: str
) -> tuple[int, str, list[dict[str, Any]]]:
    """A study on a machine with 8 CPUs and one GPU: status, output, and where each attempt was."""
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", '{"GPU": 1, "CPU": 8}')
    monkeypatch.setenv("ORCHESTRATE_DEVICE", "cpu")
    monkeypatch.setenv("PLACEMENT_LOG", str(folder / "log"))
    (folder / "placed_losses.py").write_text(LOSSES)
    path = folder / "small.yaml"
    path.write_text(
        STUDY[: STUDY.index("arms:")] + "arms:\n"
        "  cross_entropy: {loss: 'placed_losses:Works', lr: 0.1}\n"
        "  needs: {loss: 'placed_losses:Needs', lr: 0.1}\n"
        "confirm: {seeds: [100, 101, 102, 103]}\n"
        f"resources: {resources}\n"
    )
    driver = Driver(path, folder / "out", python_path=folder)
    try:
        status, output = driver.finish(300)
    finally:
        driver.close()
    log = folder / "log"
    return status, output, [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_first_trials_have_a_whole_gpu_the_others_what_these_needed_and_twice_that_where_it_was_too_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, output, log = placed(tmp_path, monkeypatch, "{cpu: 1, gpu: auto}")
    assert status == 0, output
    shares = Counter((line["loss"], line["share"], line["fits"]) for line in log)
    assert shares == {
        ("Works", 1.0, True): 1,
        ("Works", 0.3333, True): 3,
        ("Needs", 1.0, True): 1,
        ("Needs", 0.3333, False): 3,
        ("Needs", 0.6666, True): 3,
    }
    assert {line["visible"] for line in log} == {"0"}, "which GPU it is, is Ray's to say"
    assert "it had 0.3333 of a GPU: another attempt gets 0.6666" in output
    record = StudyRecord.fold(read_events(tmp_path / "out" / "small" / "ledger.jsonl"))
    trials = record.trials.values()
    assert {(t.memory, t.device_memory) for t in trials} == {(20 * 10**9, 80 * 10**9)}
    assert Counter(t.attempts for t in trials) == {1: 5, 2: 3}
