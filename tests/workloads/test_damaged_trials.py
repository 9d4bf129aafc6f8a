"""Finished trials whose files were damaged: what is made again, what is kept, and that the numbers stay."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.workloads.small_trials import NOISE, TEN, Bench, Finished
from workloads.contract import AddedSet, DataConfig, EpochReport, EvaluationConfig, OODConfig, TrialConfig
from workloads.measurement.outputs import read_outputs
from workloads.protocols.folder import changing, examine, read_result
from workloads.run import prepare, rescore, run
from workloads.sealed import Damaged, read_sealed
from workloads.training.engine import Engine
from workloads.training.storage import write_json

MEASURED = EvaluationConfig(("ood", "calibration"), OODConfig(("msp", "energy")))


@pytest.fixture(scope="module")
def whole(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """A confirm trial that nothing happened to."""
    return bench.run(bench.trial(evaluation=MEASURED), tmp_path_factory.mktemp("whole"))


@pytest.fixture
def folder(whole: Finished, tmp_path: Path) -> Path:
    """A copy of its folder, to be damaged."""
    shutil.copytree(whole.folder, tmp_path / "trial")
    return tmp_path / "trial"


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs that are trained from now on."""
    epochs: list[int] = []
    train_epoch = Engine.train_epoch

    def counting(engine: Engine) -> dict[str, float]:
        found = train_epoch(engine)
        epochs.append(engine.epoch)
        return found

    monkeypatch.setattr(Engine, "train_epoch", counting)
    return epochs


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def delete(path: Path) -> None:
    path.unlink()


def files(folder: Path) -> dict[str, str]:
    """Every saved output with a hash of its content."""
    found = sorted((folder / "outputs").iterdir())
    return {each.name: hashlib.sha256(each.read_bytes()).hexdigest() for each in found}


OUTPUTS = ("index.json", "scores.npz", "reliability.json", "head.npz", "id_test.npz", "uniform.npz")


def test_an_undamaged_trial_is_only_read(bench: Bench, whole: Finished, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = bench.run(whole.config, folder)
    assert again.result == whole.result
    assert again.reports == whole.reports
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert examine(folder, whole.config.key, confirmed=True).damage == ()
    assert examine(folder, whole.config.key, confirmed=True).checkpoint == ""


@pytest.mark.parametrize("damage", [flip, cut, delete])
@pytest.mark.parametrize("name", ["result.json", *(f"outputs/{name}" for name in OUTPUTS)])
def test_a_trial_with_a_damaged_file_is_measured_again_without_training_to_the_same_numbers(
    bench: Bench,
    whole: Finished,
    folder: Path,
    trained: list[int],
    name: str,
    damage: Callable[[Path], None],
) -> None:
    damage(folder / name)
    found = examine(folder, whole.config.key, confirmed=True)
    assert len(found.damage) == 1
    assert found.damage[0].startswith(name)
    assert found.checkpoint == ""
    again = bench.run(whole.config, folder)
    assert trained == []
    assert again.metrics == whole.metrics
    assert again.reports == whole.reports
    assert files(folder) == files(whole.folder)
    assert examine(folder, whole.config.key, confirmed=True).damage == ()


@pytest.mark.parametrize("damage", [flip, cut, delete])
def test_without_a_whole_checkpoint_it_is_trained_again_to_the_same_numbers(
    bench: Bench, whole: Finished, folder: Path, trained: list[int], damage: Callable[[Path], None]
) -> None:
    damage(folder / "checkpoint.pt")
    delete(folder / "outputs" / "uniform.npz")
    found = examine(folder, whole.config.key, confirmed=True)
    assert found.damage == ("outputs/uniform.npz is missing or not readable (No such file or directory)",)
    assert found.checkpoint.startswith("checkpoint.pt ")
    again = bench.run(whole.config, folder)
    assert trained == [1, 2]
    assert again.metrics == whole.metrics
    assert files(folder) == files(whole.folder)
    assert all(torch.equal(weight, whole.weights[key]) for key, weight in again.weights.items())


@pytest.mark.parametrize("damage", [flip, cut, delete])
def test_a_damaged_model_alone_is_told_and_costs_no_training(
    bench: Bench, whole: Finished, folder: Path, trained: list[int], damage: Callable[[Path], None]
) -> None:
    damage(folder / "checkpoint.pt")
    found = examine(folder, whole.config.key, confirmed=True)
    assert found.damage == ()
    assert "checkpoint.pt" in found.checkpoint
    assert bench.run(whole.config, folder).result == whole.result
    assert trained == []


def test_a_missing_folder_and_another_trials_result_are_damage(
    bench: Bench, whole: Finished, folder: Path, tmp_path: Path
) -> None:
    gone = examine(tmp_path / "gone", whole.config.key, confirmed=True)
    assert gone.damage == ("its folder is missing",)
    assert gone.checkpoint
    assert examine(folder, "another", confirmed=True).damage == ("result.json is another trial's",)
    assert read_result(folder, "another") is None


def test_a_search_trial_keeps_no_model_and_none_is_missed(bench: Bench, tmp_path: Path) -> None:
    config = bench.trial(stage="search")
    bench.run(config, tmp_path)
    found = examine(tmp_path, config.key, confirmed=False)
    assert (found.damage, found.checkpoint) == ((), "")


def test_a_digit_of_a_result_that_changed_is_never_taken_for_a_number(
    bench: Bench, whole: Finished, folder: Path
) -> None:
    path = folder / "result.json"
    text = path.read_text()
    accuracy = json.dumps(whole.metrics["test/accuracy"])
    assert accuracy in text
    path.write_text(text.replace(accuracy, "0.99"))
    assert read_result(folder, whole.config.key) is None
    assert bench.run(whole.config, folder).metrics == whole.metrics


OTHERS: dict[str, Callable[[Bench], TrialConfig]] = {
    "a stream": lambda bench: bench.stream("replay"),
    "a stream learned at once": lambda bench: bench.stream("joint"),
    "a long tail": lambda bench: bench.tail("drw", evaluation=MEASURED),
    "a long tail in two stages": lambda bench: bench.tail("crt", evaluation=MEASURED),
}


@pytest.mark.parametrize("name", OTHERS)
def test_trials_of_other_protocols_are_measured_again_too(
    bench: Bench, tmp_path: Path, trained: list[int], name: str
) -> None:
    config = OTHERS[name](bench)
    whole = bench.run(config, tmp_path / "whole")
    trained.clear()
    for file in sorted((whole.folder / "outputs").iterdir())[-2:]:
        shutil.copytree(whole.folder, tmp_path / file.name)
        flip(tmp_path / file.name / "outputs" / file.name)
        again = bench.run(config, tmp_path / file.name)
        assert again.metrics == whole.metrics
        assert files(again.folder) == files(whole.folder)
    assert trained == []


def added_set(bench: Bench) -> AddedSet:
    alone = DataConfig(TEN.source, (0, 1, 2, 3, 4, 5), far_ood=("gaussian",), train_fraction=0.25)
    return AddedSet("gaussian", alone, prepare(alone, NOISE, bench.root).hash)


def rescored(bench: Bench, config: TrialConfig, folder: Path, *scores: str, sets: Any = None) -> Any:
    return rescore(config, scores, sets or {}, folder=folder, data_root=bench.root)


def test_what_was_added_to_a_trial_is_whole_with_it_and_stays_when_it_is_measured_again(
    bench: Bench, whole: Finished, folder: Path, trained: list[int]
) -> None:
    rescored(bench, whole.config, folder, "mls", sets={"strange": added_set(bench)})
    assert examine(folder, whole.config.key, confirmed=True).damage == ()
    assert bench.run(whole.config, folder).result == whole.result
    flip(folder / "outputs" / "reliability.json")
    assert bench.run(whole.config, folder).metrics == whole.metrics
    outputs = read_outputs(folder / "outputs")
    assert list(outputs.sets)[-1] == "strange"
    assert outputs.sets["strange"].kind == "added"
    metrics, _ = rescored(bench, whole.config, folder, "entropy")
    assert "ood/strange/entropy/auroc" in metrics
    assert trained == []


def test_an_added_set_that_is_damaged_or_of_another_model_does_not_stay(
    bench: Bench, whole: Finished, folder: Path
) -> None:
    rescored(bench, whole.config, folder, "mls", sets={"strange": added_set(bench)})
    flip(folder / "outputs" / "strange.npz")
    (damage,) = examine(folder, whole.config.key, confirmed=True).damage
    assert damage.startswith("outputs/strange.npz")
    bench.run(whole.config, folder)
    assert "strange" not in read_outputs(folder / "outputs").sets
    rescored(bench, whole.config, folder, "mls", sets={"strange": added_set(bench)})
    index = read_sealed(folder / "outputs" / "index.json")
    index["head"]["sha256"] = "0" * 64
    write_json(folder / "outputs" / "index.json", index)
    bench.run(whole.config, folder)
    assert "strange" not in read_outputs(folder / "outputs").sets


def test_a_rescoring_that_breaks_off_leaves_a_trial_that_is_whole(
    bench: Bench, whole: Finished, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("workloads.protocols.rescoring.write_arrays", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rescored(bench, whole.config, folder, "mls", sets={"strange": added_set(bench)})
    assert examine(folder, whole.config.key, confirmed=True).damage == ()
    rescored(bench, whole.config, folder, "mls", sets={"strange": added_set(bench)})
    flip(folder / "outputs" / "index.json")
    assert examine(folder, whole.config.key, confirmed=True).damage != ()


def test_a_change_of_some_outputs_hides_no_damage_of_the_others(whole: Finished, folder: Path) -> None:
    flip(folder / "outputs" / "uniform.npz")
    with changing(folder, ("scores.npz",)):
        flip(folder / "outputs" / "scores.npz")
    (damage,) = examine(folder, whole.config.key, confirmed=True).damage
    assert damage.startswith("outputs/uniform.npz")
    delete(folder / "result.json")
    with pytest.raises(Damaged), changing(folder, ("scores.npz",)):
        raise AssertionError("not reached")


def test_a_trial_that_is_measured_again_repeats_its_reports_once(
    bench: Bench, whole: Finished, folder: Path
) -> None:
    delete(folder / "result.json")
    reports: list[EpochReport] = []
    run(whole.config, reports.append, folder=folder, data_root=bench.root)
    assert reports == whole.reports
    assert [each.epoch for each in reports] == [1, 2]
