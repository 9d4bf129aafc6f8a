"""Whole trials through the one door, on the bundled digits: results, outputs, resume, repetition."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workloads.contract import (
    AugmentationConfig,
    DataConfig,
    DataFacts,
    DataMissing,
    EpochReport,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    OODConfig,
    TrainingConfig,
    TrainingDiverged,
    TrialConfig,
    TrialResult,
)
from workloads.data.prepared import folder as data_folder
from workloads.evaluation.calibration import calibration_metrics, fit_temperature
from workloads.evaluation.ood import rejection_metrics
from workloads.evaluation.scores import score
from workloads.machine import processor_name
from workloads.run import prepare, run
from workloads.training.checkpoint import read_checkpoint
from workloads.training.engine import Engine

DATA = DataConfig(
    "digits", id_classes=(0, 1, 2), near_ood=("held_out",), far_ood=("uniform", "pixel_permuted")
)
NOISE = NoiseConfig(sigmas=(0.1, 0.25), size=60)
TRAINING = TrainingConfig(
    epochs=5, batch_size=64, lr=0.03, checkpoint_every=2, augmentation=AugmentationConfig(crop=1)
)
ARMS: dict[str, dict[str, Any]] = {
    "cross_entropy": {},
    "logitnorm": {"tau": 0.3},
    "hem": {"threshold": "batch"},
}


class Interrupted(Exception):
    pass


class Scaled(nn.Module):
    """A user's loss with a parameter, made with random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(1 + torch.rand(3))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.scale * logits, labels)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def facts(root: Path) -> DataFacts:
    return prepare(DATA, NOISE, root)


@pytest.fixture
def trial(facts: DataFacts) -> Callable[..., TrialConfig]:
    def make(
        loss: str = "cross_entropy", stage: Any = "search", seed: int = 0, **training: Any
    ) -> TrialConfig:
        return TrialConfig(
            arm="arm",
            stage=stage,
            protocol="standard",
            seed=seed,
            loss=loss,
            loss_params=ARMS.get(loss, {}),
            data=DATA,
            data_hash=facts.hash,
            model=ModelConfig("small_cnn_8x8", {"width": 4}),
            training=dataclasses.replace(TRAINING, **training),
            noise=NOISE,
            evaluation=EvaluationConfig(ood=OODConfig(("msp", "energy"))),
        )

    return make


def ignore(_: EpochReport) -> None:
    pass


def files(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with a hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def outputs(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in files(folder).items() if name.startswith("outputs")}


def interrupt_after(epoch: int) -> Callable[[EpochReport], None]:
    def report(each: EpochReport) -> None:
        if each.epoch == epoch:
            raise Interrupted

    return report


def test_a_search_trial_reports_every_epoch_and_learns(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    reports: list[EpochReport] = []
    config = trial(epochs=12, lr=0.1, augmentation=AugmentationConfig())
    result = run(config, reports.append, folder=tmp_path, data_root=root)
    assert [each.epoch for each in reports] == list(range(1, 13))
    assert set(result.metrics) == {
        "train/loss",
        "train/forward_passes",
        "train/accuracy",
        "train/lr",
        "loss/logit_norm",
        "validation/accuracy",
        "validation/nll",
        "validation/ece_15",
        "validation/logit_norm",
        "noise/fpr95",
        "noise/auroc",
        "noise/logit_norm",
    }
    assert dict(reports[-1].metrics) == dict(result.metrics)
    assert reports[-1].metrics["train/loss"] < 0.2 * reports[0].metrics["train/loss"]
    assert result.metrics["validation/accuracy"] > 0.9
    # 3x3 convolutions 1-4-8-16, batch norm, head 16-3
    assert result.parameters == 36 + 288 + 1152 + 2 * 28 + 16 * 3 + 3
    assert result.environment == {"device": processor_name(), "torch": torch.__version__}
    assert result.train_seconds > 0
    assert result.evaluation_seconds > 0
    assert list(files(tmp_path)) == ["result.json"]


def test_a_search_trial_needs_no_test_file(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    own = tmp_path / "data"
    prepare(DATA, NOISE, own)
    for path in data_folder(DATA, NOISE, own).iterdir():
        if not path.name.startswith(("train", "validation", "noise", "facts")):
            path.unlink()
    sealed = run(trial(), ignore, folder=tmp_path / "a", data_root=own)
    complete = run(trial(), ignore, folder=tmp_path / "b", data_root=root)
    assert sealed.metrics == complete.metrics


def test_a_confirm_trial_measures_what_its_saved_outputs_say(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    result = run(trial(stage="confirm"), ignore, folder=tmp_path, data_root=root)
    saved = tmp_path / "outputs"
    index = json.loads((saved / "index.json").read_text())["sets"]
    assert {name: each["kind"] for name, each in index.items()} == {
        "id_test": "test",
        "id_validation": "validation",
        "id_train": "train",
        "noise_0.1": "noise",
        "noise_0.25": "noise",
        "held_out": "near",
        "uniform": "far",
        "pixel_permuted": "far",
    }
    arrays = {}
    for name, each in index.items():
        assert hashlib.sha256((saved / each["file"]).read_bytes()).hexdigest() == each["sha256"]
        arrays[name] = dict(np.load(saved / each["file"]))
        assert len(arrays[name]["logits"]) == len(arrays[name]["features"]) == each["size"]
        assert ("labels" in arrays[name]) == name.startswith("id_")

    head = np.load(saved / "head.npz")
    test, validation = arrays["id_test"], arrays["id_validation"]
    assert test["logits"].dtype == test["features"].dtype == np.float32
    again = test["features"] @ head["weight"].T + head["bias"]
    np.testing.assert_allclose(again, test["logits"], atol=1e-4)

    metrics = result.metrics
    assert metrics["test/accuracy"] == (test["logits"].argmax(1) == test["labels"]).mean()
    assert metrics["validation/accuracy"] == (validation["logits"].argmax(1) == validation["labels"]).mean()
    temperature = fit_temperature(validation["logits"], validation["labels"])
    assert metrics["calibration/temperature"] == temperature
    for suffix, t in (("", 1.0), ("_ts", temperature)):
        for name, value in calibration_metrics(test["logits"], test["labels"], t, 15).items():
            assert metrics[f"calibration/{name}{suffix}"] == value

    for name in ("msp", "energy"):
        known = score(name, test["logits"])
        each = {
            s: rejection_metrics(known, score(name, arrays[s]["logits"]))
            for s in index
            if s in DATA.near_ood + DATA.far_ood
        }
        for metric in ("fpr95_id_positive", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out"):
            for member in each:
                assert metrics[f"ood/{member}/{name}/{metric}"] == each[member][metric]
            assert metrics[f"ood/near/{name}/{metric}"] == each["held_out"][metric]
            far = (each["uniform"][metric] + each["pixel_permuted"][metric]) / 2
            assert metrics[f"ood/far/{name}/{metric}"] == pytest.approx(far, abs=1e-15)

    scores = np.load(saved / "scores.npz")
    measured = set(index) - {"id_validation", "id_train"}
    assert set(scores) == {f"{label}/{name}" for label in ("msp", "energy") for name in measured}
    for label, name in (key.split("/") for key in scores):
        assert scores[f"{label}/{name}"].dtype == np.float64
        assert (scores[f"{label}/{name}"] == score(label, arrays[name]["logits"])).all()

    diagrams = json.loads((saved / "reliability.json").read_text())
    assert diagrams["temperature"] == temperature
    assert sum(diagrams["before"]["count"]) == sum(diagrams["after"]["count"]) == len(test["labels"])


def test_a_confirm_trial_keeps_its_model(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    config = trial(stage="confirm")
    run(config, ignore, folder=tmp_path, data_root=root)
    kept = read_checkpoint(tmp_path / "checkpoint.pt", config.key, torch.device("cpu"))
    assert kept is not None
    weight = kept.engine["model"]["head.weight"].numpy()
    assert (weight == np.load(tmp_path / "outputs" / "head.npz")["weight"]).all()
    assert read_checkpoint(tmp_path / "checkpoint.pt", trial().key, torch.device("cpu")) is None


@pytest.mark.parametrize("loss", [*ARMS, f"{__name__}:Scaled"])
@pytest.mark.parametrize("epoch", [1, 3, 5])
def test_an_interrupted_trial_goes_on_to_the_same_result_to_the_bit(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path, loss: str, epoch: int
) -> None:
    config = trial(loss, stage="confirm")
    expected: list[EpochReport] = []
    whole = run(config, expected.append, folder=tmp_path / "whole", data_root=root)
    with pytest.raises(Interrupted):
        run(config, interrupt_after(epoch), folder=tmp_path / "parts", data_root=root)
    torch.rand(7)
    got: list[EpochReport] = []
    resumed = run(config, got.append, folder=tmp_path / "parts", data_root=root)
    assert got == expected
    assert resumed.metrics == whole.metrics
    assert outputs(tmp_path / "parts") == outputs(tmp_path / "whole")


def test_a_resumed_trial_trains_only_what_its_checkpoint_lacks(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[int] = []
    train_epoch = Engine.train_epoch

    def counting(engine: Engine) -> dict[str, float]:
        metrics = train_epoch(engine)
        trained.append(engine.epoch)
        return metrics

    monkeypatch.setattr(Engine, "train_epoch", counting)
    with pytest.raises(Interrupted):
        run(trial(), interrupt_after(3), folder=tmp_path, data_root=root)
    run(trial(), ignore, folder=tmp_path, data_root=root)
    assert trained == [1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign"])
def test_a_damaged_or_foreign_checkpoint_is_ignored(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path, damage: str
) -> None:
    config = trial()
    expected = run(config, ignore, folder=tmp_path / "whole", data_root=root)
    left = trial(seed=9) if damage == "foreign" else config
    with pytest.raises(Interrupted):
        run(left, interrupt_after(3), folder=tmp_path / "parts", data_root=root)
    checkpoint = tmp_path / "parts" / "checkpoint.pt"
    content = bytearray(checkpoint.read_bytes())
    if damage == "truncated":
        del content[len(content) // 2 :]
    elif damage == "flipped":
        content[len(content) // 2] ^= 8
    checkpoint.write_bytes(content)
    assert run(config, ignore, folder=tmp_path / "parts", data_root=root).metrics == expected.metrics


def test_a_finished_trial_repeats_its_reports_and_trains_nothing(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first: list[EpochReport] = []
    second: list[EpochReport] = []
    result = run(trial(), first.append, folder=tmp_path, data_root=root)
    monkeypatch.setattr(Engine, "train_epoch", interrupt_after(0))
    assert run(trial(), second.append, folder=tmp_path, data_root=tmp_path / "gone") == result
    assert second == first


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "other"}'])
def test_a_result_that_is_damaged_or_another_trials_is_replaced(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "result.json").write_text(content)
    result = run(trial(epochs=1), ignore, folder=tmp_path, data_root=root)
    record = json.loads((tmp_path / "result.json").read_text())
    assert record["key"] == trial(epochs=1).key
    assert TrialResult(**{**record["result"], "notes": ()}) == result


def test_a_result_does_not_depend_on_what_the_process_ran_before(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    config = trial("hem", stage="confirm", seed=3)
    for loss in ARMS:
        run(trial(loss, seed=1), ignore, folder=tmp_path / loss, data_root=root)
    torch.set_num_threads(2)
    here = run(config, ignore, folder=tmp_path / "here", data_root=root)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    code = (
        "import json, pathlib, sys\n"
        "from workloads.contract import TrialConfig\n"
        "from workloads.run import run\n"
        "config = TrialConfig.from_dict(json.loads(sys.argv[1]))\n"
        "run(config, lambda _: None, folder=pathlib.Path(sys.argv[2]), data_root=pathlib.Path(sys.argv[3]))\n"
    )
    arguments = [json.dumps(config.to_dict()), str(tmp_path / "there"), str(root)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)
    record = json.loads((tmp_path / "there" / "result.json").read_text())
    assert record["result"]["metrics"] == here.metrics
    assert outputs(tmp_path / "there") == outputs(tmp_path / "here")


def test_every_loss_starts_from_the_same_weights_and_sees_the_same_batches(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    # At rate 0 the weights stay, while batch norm's running means follow every batch that was seen.
    def left(name: str, config: TrialConfig) -> dict[str, str]:
        run(config, ignore, folder=tmp_path / name, data_root=root)
        return {k: v for k, v in outputs(tmp_path / name).items() if k.endswith("npz")}

    losses = [*ARMS, f"{__name__}:Scaled"]
    seen = [left(f"{n}", trial(loss, stage="confirm", lr=0.0)) for n, loss in enumerate(losses)]
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert left("seed", trial(stage="confirm", lr=0.0, seed=1)) != seen[0]


def test_how_often_it_reports_and_saves_does_not_change_the_result(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    often = run(trial(), ignore, folder=tmp_path / "a", data_root=root)
    reports: list[EpochReport] = []
    config = trial(evaluate_every=2, checkpoint_every=100)
    seldom = run(config, reports.append, folder=tmp_path / "b", data_root=root)
    assert [each.epoch for each in reports] == [2, 4, 5]
    assert seldom.metrics == often.metrics


def test_a_users_own_loss_is_trained_with_its_parameters(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    config = trial(f"{__name__}:Scaled", stage="confirm")
    result = run(config, ignore, folder=tmp_path, data_root=root)
    kept = read_checkpoint(tmp_path / "checkpoint.pt", config.key, torch.device("cpu"))
    assert kept is not None
    assert kept.engine["loss"]["module.scale"].shape == (3,)
    plain = run(trial(), ignore, folder=tmp_path / "plain", data_root=root)
    assert result.parameters == plain.parameters + 3


def test_a_trial_that_diverges_says_when(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    with pytest.raises(TrainingDiverged, match=r"epoch \d of 5.* at lr 1e\+30"):
        run(trial("torch.nn:MultiMarginLoss", lr=1e30), ignore, folder=tmp_path, data_root=root)
    assert not (tmp_path / "result.json").exists()


def test_other_data_than_were_planned_with_are_refused(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(trial(), data_hash="0" * 16)
    with pytest.raises(DataMissing, match=f"no prepared data in .*{'0' * 16}"):
        run(config, ignore, folder=tmp_path, data_root=root)


def test_a_protocol_that_is_not_there_yet_is_refused(
    trial: Callable[..., TrialConfig], root: Path, tmp_path: Path
) -> None:
    config = dataclasses.replace(trial(), protocol="segmentation")  # type: ignore[arg-type]
    known = "protocol must be one of standard, long_tailed, continual; got 'segmentation'"
    with pytest.raises(ValueError, match=known):
        run(config, ignore, folder=tmp_path, data_root=root)
