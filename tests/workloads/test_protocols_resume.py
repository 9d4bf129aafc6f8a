"""Trials of several stages that are interrupted after every epoch end as undisturbed ones do, to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workloads.small_trials import CNN, Bench, Interrupted
from workloads.contract import AugmentationConfig, SkipConfig
from workloads.protocols.trial import Trial
from workloads.training.strategies.replay import Replay

# Three epochs a task and a checkpoint every two: at a task's end, between checkpoints, and right after one.
LONG: dict[str, Any] = {"epochs": 3, "checkpoint_every": 2}
VARIED = AugmentationConfig(flip=True, crop=1, erasing=0.5)
STREAMS: dict[str, dict[str, Any]] = {
    "naive": {},
    "joint": {"strategy": "joint"},
    "replay": {"strategy": "replay", "augmentation": VARIED, "model": CNN},
    "replay in task_il": {"strategy": "replay", "scenario": "task_il"},
    "replay in domain_il": {"strategy": "replay", "scenario": "domain_il"},
    "replay that is counted": {"strategy": "replay", "counts": "task", "loss": "hem_plus"},
    "replay with a mean of weights": {"strategy": "replay", "ema_decay": 0.9, "model": CNN},
    "replay with a learned scale": {
        "strategy": "replay",
        "loss": "normface",
        "loss_params": {"learn_s": True, "lr_scale": 1.0},
    },
    "replay of images that sat out": {"strategy": "replay", "skip": SkipConfig("random", share=0.3)},
    "replay with a scale by the batch": {"strategy": "replay", "loss": "adacos"},
    "derpp": {"strategy": "derpp", "augmentation": VARIED},
    "derpp in task_il": {"strategy": "derpp", "scenario": "task_il", "loss": "meln", "lr": 0.01},
    "ewc": {"strategy": "ewc", "ewc_lambda": 10.0},
    "ewc of permuted images": {"strategy": "ewc", "scenario": "domain_il", "stream": "permuted"},
    "l2": {"strategy": "l2", "model": CNN},
    "lwf": {"strategy": "lwf", "model": CNN},
    "lwf in task_il": {"strategy": "lwf", "scenario": "task_il", "loss": "meln", "lr": 0.01},
    "bf16": {"strategy": "lwf", "model": CNN, "precision": "bf16"},
    "muon": {"strategy": "replay", "model": CNN, "optimizer": "muon", "lr": 0.01},
    "a schedule with warm-up": {"schedule": "cosine", "warmup_epochs": 1, "clip_grad_norm": 1.0},
    "reports now and then": {"strategy": "replay", "evaluate_every": 3},
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_interrupted_after_every_report_ends_as_an_undisturbed_one(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    config = bench.stream(**LONG | STREAMS[name])
    whole = bench.run(config, tmp_path / "whole")
    reported = [each.epoch for each in whole.reports]
    every = config.training.evaluate_every
    assert reported == list(range(every, (3 if STREAMS[name].get("strategy") == "joint" else 9) + 1, every))
    parts = bench.run_in_parts(config, tmp_path / "parts", reported)
    assert parts.reports == whole.reports
    assert parts.metrics == whole.metrics
    stream = "outputs/stream.json"
    assert (parts.folder / stream).read_bytes() == (whole.folder / stream).read_bytes()
    assert all(torch.equal(weight, whole.weights[key]) for key, weight in parts.weights.items())


TAILS: dict[str, dict[str, Any]] = {
    "crt": {"method": "crt", "model": CNN, "augmentation": VARIED},
    "crt with a mean of weights": {"method": "crt", "ema_decay": 0.9},
    "crt with a learned scale": {"method": "crt", "loss": "normface", "loss_params": {"learn_s": True}},
    "crt of a GODIN head": {"method": "crt", "loss": "godin", "model": CNN},
    "drw": {"method": "drw", "drw_from": 0.5},
    "resampling": {"method": "resampling"},
    "logit_adjustment": {"method": "logit_adjustment"},
}


@pytest.mark.parametrize("name", TAILS)
def test_a_long_tailed_trial_interrupted_after_every_report_ends_as_an_undisturbed_one(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    config = bench.tail(**LONG | {"crt_epochs": 3} | TAILS[name])
    epochs = 6 if TAILS[name]["method"] == "crt" else 3
    whole = bench.run(config, tmp_path / "whole")
    assert len(whole.reports) == epochs
    parts = bench.run_in_parts(config, tmp_path / "parts", range(1, epochs + 1))
    assert parts.reports == whole.reports
    assert parts.metrics == whole.metrics
    for file in ("head.npz", "id_test.npz"):
        assert (parts.folder / "outputs" / file).read_bytes() == (
            whole.folder / "outputs" / file
        ).read_bytes()


def test_what_a_resumed_stream_replays_is_what_it_would_have(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[torch.Tensor] = []
    images = Replay.images

    def noting(strategy: Replay, batch: Any) -> torch.Tensor:
        shown.append(images(strategy, batch))
        return shown[-1]

    monkeypatch.setattr(Replay, "images", noting)
    config = bench.stream("replay", epochs=2, checkpoint_every=1, augmentation=VARIED)
    bench.run(config, tmp_path / "whole")
    whole = list(shown)
    shown.clear()
    bench.run_in_parts(config, tmp_path / "parts", range(1, 7))
    assert len(shown) == len(whole)
    assert all(torch.equal(a, b) for a, b in zip(shown, whole, strict=True))


def test_a_stream_that_ended_is_measured_again_where_its_result_was_lost(
    bench: Bench, tmp_path: Path
) -> None:
    config = bench.stream("replay")
    whole = bench.run(config, tmp_path)
    stream = json.loads((tmp_path / "outputs" / "stream.json").read_text())
    (tmp_path / "result.json").unlink()
    assert bench.run(config, tmp_path).metrics == whole.metrics
    assert json.loads((tmp_path / "outputs" / "stream.json").read_text()) == stream


@pytest.mark.parametrize("strategy", ["replay", "lwf", "ewc"])
def test_a_stream_that_was_killed_before_it_could_write_goes_on_from_what_was_written_last(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    config = bench.stream(strategy, **LONG)
    whole = bench.run(config, tmp_path / "whole")
    save = Trial._save
    for crash in range(6):
        written: list[int] = []

        def dying(trial: Trial, crash: int = crash, written: list[int] = written) -> None:
            if len(written) == min(crash, 1):
                raise Interrupted
            written.append(trial.epoch)
            save(trial)

        with monkeypatch.context() as patch:
            patch.setattr(Trial, "_save", dying)
            with pytest.raises(Interrupted):
                bench.run(config, tmp_path / "parts")
    parts = bench.run(config, tmp_path / "parts")
    assert parts.reports == whole.reports
    assert parts.metrics == whole.metrics
