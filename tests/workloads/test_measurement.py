"""What is measured of a confirmed model, end to end on the digits, and what is computed again without it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.contract import (
    AddedSet,
    DataConfig,
    EpochReport,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    OODConfig,
    RobustnessConfig,
    TrainingConfig,
    TrainingDiverged,
    TrialConfig,
    TrialResult,
)
from workloads.evaluation.evidence import Evidence
from workloads.evaluation.ood import rejection_metrics
from workloads.measurement.outputs import read_outputs
from workloads.measurement.subject import Subject
from workloads.run import prepare, rescore, run
from workloads.sealed import Damaged
from workloads.training.inference import Outputs

NOISE = NoiseConfig(size=40)
DATA = DataConfig("digits", (0, 1, 2, 3, 4, 5), near_ood=("held_out",), far_ood=("uniform", "blobs"))
ALL = EvaluationConfig(
    ("ood", "calibration", "geometry", "robustness"),
    OODConfig(("msp", "mls", "energy:T=tuned", "entropy", "odin", "gradnorm", "knn:k=5", "cosine", "godin")),
    robustness=RobustnessConfig(images=20, steps=2, epsilons=(8.0, 64.0), corruptions=("contrast",)),
)


def trial(root: Path, loss: str = "cross_entropy", evaluation: EvaluationConfig = ALL) -> TrialConfig:
    facts = prepare(DATA, NOISE, root)
    return TrialConfig(
        "arm",
        "confirm",
        "standard",
        7,
        loss,
        {},
        DATA,
        facts.hash,
        ModelConfig("mlp"),
        TrainingConfig(epochs=2, batch_size=64),
        NOISE,
        evaluation,
    )


def ran(config: TrialConfig, folder: Path, root: Path) -> TrialResult:
    reports: list[EpochReport] = []
    return run(config, reports.append, folder=folder, data_root=root)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrialConfig, Path, Path, TrialResult]:
    root = tmp_path_factory.mktemp("data")
    folder = tmp_path_factory.mktemp("trial")
    config = trial(root)
    return config, folder, root, ran(config, folder, root)


Measured = tuple[TrialConfig, Path, Path, TrialResult]


def test_every_evaluation_reports_and_every_number_is_finite(measured: Measured) -> None:
    metrics = measured[3].metrics
    assert {name.split("/")[0] for name in metrics} >= {
        "test",
        "ood",
        "selective",
        "tuned",
        "calibration",
        "geometry",
        "robustness",
    }
    assert np.isfinite(list(metrics.values())).all()


def test_rejection_metrics_are_those_of_the_saved_scores(measured: Measured) -> None:
    _, folder, _, result = measured
    scores = np.load(folder / "outputs" / "scores.npz")
    for label in ("msp", "energy-T_tuned", "odin", "knn-k5"):
        for name in ("held_out", "uniform", "blobs"):
            found = rejection_metrics(scores[f"{label}/id_test"], scores[f"{label}/{name}"])
            for metric, value in found.items():
                assert result.metrics[f"ood/{name}/{label}/{metric}"] == value
        far = [result.metrics[f"ood/{name}/{label}/auroc"] for name in ("uniform", "blobs")]
        # A mean of two numbers, added in either order.
        assert result.metrics[f"ood/far/{label}/auroc"] == pytest.approx(np.mean(far), rel=1e-15)


def test_scores_that_do_not_fit_the_head_are_noted_and_the_others_measured(measured: Measured) -> None:
    _, _, _, result = measured
    assert not [name for name in result.metrics if "/cosine/" in name or "/godin/" in name]
    assert any(note.startswith("score cosine: ") for note in result.notes)
    assert any(note.startswith("score godin: ") for note in result.notes)


def test_a_cosine_loss_is_measured_by_the_cosine_score_and_a_godin_head_by_its_own(tmp_path: Path) -> None:
    wanted = EvaluationConfig(("ood",), OODConfig(("msp", "cosine", "godin", "gradnorm")))
    cosine = ran(trial(tmp_path / "data", "cosface", wanted), tmp_path / "a", tmp_path / "data")
    assert "ood/uniform/cosine/auroc" in cosine.metrics
    godin = ran(trial(tmp_path / "data", "godin", wanted), tmp_path / "b", tmp_path / "data")
    assert "ood/uniform/godin/auroc" in godin.metrics
    assert "tuned/godin/epsilon" in godin.metrics
    assert any(note.startswith("score gradnorm: ") for note in godin.notes)


def test_what_a_study_does_not_ask_for_is_not_measured(tmp_path: Path) -> None:
    wanted = EvaluationConfig(("calibration",))
    metrics = ran(trial(tmp_path / "data", evaluation=wanted), tmp_path / "trial", tmp_path / "data").metrics
    kinds = {name.split("/")[0] for name in metrics}
    assert kinds >= {"test", "calibration"}
    assert not kinds & {"ood", "selective", "geometry", "robustness"}
    assert not (tmp_path / "trial" / "outputs" / "id_train.npz").exists()


def of_scores(metrics: Mapping[str, float], *labels: str) -> dict[str, float]:
    return {
        name: value
        for name, value in metrics.items()
        if name.split("/")[0] in ("ood", "selective", "tuned") and set(name.split("/")) & set(labels)
    }


@pytest.mark.parametrize("texts", [("msp", "energy:T=tuned"), ("knn:k=5", "gradnorm"), ("odin",)])
def test_rescoring_gives_the_stored_numbers_to_the_bit(measured: Measured, texts: tuple[str, ...]) -> None:
    config, folder, root, result = measured
    again, _ = rescore(config, texts, {}, folder=folder, data_root=root)
    labels = [text.replace(":T=tuned", "-T_tuned").replace(":k=", "-k") for text in texts]
    assert again == of_scores(result.metrics, *labels)
    assert again


def test_a_score_that_needs_training_images_asks_the_checkpoint_for_them(tmp_path: Path) -> None:
    few = EvaluationConfig(("ood",), OODConfig(("msp",)))
    config = trial(tmp_path / "data", evaluation=few)
    ran(config, tmp_path / "few", tmp_path / "data")
    later, _ = rescore(config, ["knn"], {}, folder=tmp_path / "few", data_root=tmp_path / "data")
    full = dataclasses.replace(config, evaluation=EvaluationConfig(("ood",), OODConfig(("msp", "knn"))))
    at_once = ran(full, tmp_path / "full", tmp_path / "data")
    assert later == of_scores(at_once.metrics, "knn")


def test_an_added_set_is_measured_as_it_would_have_been_from_the_start(tmp_path: Path) -> None:
    wanted = EvaluationConfig(("ood", "calibration", "geometry"), OODConfig(("msp", "knn:k=5", "odin")))
    config = trial(tmp_path / "data", evaluation=wanted)
    ran(config, tmp_path / "trial", tmp_path / "data")
    alone = dataclasses.replace(DATA, near_ood=(), far_ood=("gaussian",))
    facts = prepare(alone, NOISE, tmp_path / "data")
    added = {"strange": AddedSet("gaussian", alone, facts.hash)}
    later, _ = rescore(
        config, wanted.ood.scores, added, folder=tmp_path / "trial", data_root=tmp_path / "data"
    )
    wider = dataclasses.replace(DATA, far_ood=("uniform", "blobs", "gaussian"))
    full = dataclasses.replace(config, data=wider, data_hash=prepare(wider, NOISE, tmp_path / "data").hash)
    at_once = ran(full, tmp_path / "full", tmp_path / "data").metrics
    expected = {k.replace("gaussian", "strange"): v for k, v in at_once.items() if "gaussian" in k}
    assert expected
    assert {k: v for k, v in later.items() if "strange" in k} == expected
    # The set came later: the means of the study are those of its own sets.
    assert read_outputs(tmp_path / "trial" / "outputs").sets["strange"].kind == "added"


def test_a_changed_byte_of_a_saved_output_is_found(tmp_path: Path) -> None:
    few = EvaluationConfig(("ood",), OODConfig(("msp",)))
    config = trial(tmp_path / "data", evaluation=few)
    ran(config, tmp_path / "trial", tmp_path / "data")
    target = tmp_path / "trial" / "outputs" / "uniform.npz"
    content = bytearray(target.read_bytes())
    content[len(content) // 2] ^= 1
    target.write_bytes(bytes(content))
    with pytest.raises(Damaged, match=r"uniform\.npz does not hold what was written"):
        rescore(config, ["mls"], {}, folder=tmp_path / "trial", data_root=tmp_path / "data")


def test_the_index_lists_every_saved_file(measured: Measured) -> None:
    _, folder, _, _ = measured
    index = json.loads((folder / "outputs" / "index.json").read_text())
    kinds = {name: entry["kind"] for name, entry in index["sets"].items()}
    assert kinds == {
        "id_test": "test",
        "id_validation": "validation",
        "id_train": "train",
        "noise_0.25": "noise",
        "held_out": "near",
        "uniform": "far",
        "blobs": "far",
    }
    assert all((folder / "outputs" / entry["file"]).exists() for entry in index["sets"].values())


def test_an_evaluation_that_fails_is_noted_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("the plane is flat")

    monkeypatch.setattr("workloads.measurement.measure.measure_geometry", broken)
    result = ran(trial(tmp_path / "data"), tmp_path / "trial", tmp_path / "data")
    assert "geometry could not be measured: the plane is flat" in result.notes
    kinds = {name.split("/")[0] for name in result.metrics}
    assert {"ood", "calibration", "robustness"} <= kinds
    assert "geometry" not in kinds


def test_a_set_with_logits_that_are_not_finite_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Subject.evidence

    def evidence(self: Subject, images: Any, labels: Any = None) -> Evidence:
        said = told(self, images, labels)
        # Of the sets of 1,000 images, blobs are bright on black.
        if len(images) == 1000 and images.mean() > 100:
            said.logits[3] = np.nan
        return said

    monkeypatch.setattr(Subject, "evidence", evidence)
    few = EvaluationConfig(("ood", "calibration"), OODConfig(("msp", "odin")))
    result = ran(trial(tmp_path / "data", evaluation=few), tmp_path / "trial", tmp_path / "data")
    assert any(note.startswith("uniform: 0.1% of its logits rows are not finite") for note in result.notes)
    assert "ood/blobs/msp/auroc" in result.metrics
    assert not [name for name in result.metrics if "uniform" in name or name.startswith("ood/far/")]
    assert "ood/near/msp/auroc" in result.metrics
    again, _ = rescore(
        trial(tmp_path / "data", evaluation=few),
        ["mls"],
        {},
        folder=tmp_path / "trial",
        data_root=tmp_path / "data",
    )
    assert not [name for name in again if name.startswith("ood/far/")]


def test_a_trial_whose_test_logits_are_not_finite_has_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Subject.evidence

    def evidence(self: Subject, images: Any, labels: Any = None) -> Evidence:
        said = told(self, images, labels)
        if labels is not None:
            said.logits[0, 0] = np.inf
        return said

    monkeypatch.setattr(Subject, "evidence", evidence)
    with pytest.raises(TrainingDiverged, match="the logits of id_test must be finite"):
        ran(trial(tmp_path / "data"), tmp_path / "trial", tmp_path / "data")


def test_a_trial_whose_validation_logits_are_not_finite_has_diverged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: Any, loss: Any, normalise: Any, images: Any, precision: Any, active: Any) -> Outputs:
        return Outputs(np.full((len(images), 6), np.nan, np.float32), np.zeros((len(images), 4), np.float32))

    monkeypatch.setattr("workloads.protocols.trial.predict", broken)
    with pytest.raises(TrainingDiverged, match="the logits must be finite"):
        ran(trial(tmp_path / "data"), tmp_path / "trial", tmp_path / "data")
