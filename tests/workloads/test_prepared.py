"""The prepared folder: made once, whole or not at all, repaired when damaged, and sealed for search."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from workloads.contract import DataConfig, DataFacts, DataMissing, NoiseConfig, SealedTest, Stage
from workloads.data import prepared
from workloads.data.assembly import Assembled, assemble
from workloads.data.prepared import PreparedData, folder, prepare, verify

DATA = DataConfig(
    "digits", id_classes=(0, 1, 2), near_ood=("held_out",), far_ood=("uniform", "pixel_permuted")
)
NOISE = NoiseConfig(sigmas=(0.25, 0.5), size=50)
SEALED = ("test.npy", "test_labels.npy", "held_out.npy", "uniform.npy", "pixel_permuted.npy")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    prepare(DATA, NOISE, root)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(original, tmp_path / "data"))


def _no_assembly(*_: object) -> Assembled:
    raise AssertionError("the data were made again")


def test_a_second_prepare_makes_nothing_and_gives_the_same_facts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared, "assemble", _no_assembly)
    assert prepare(DATA, NOISE, root) == assemble(DATA, NOISE).facts


def test_two_preparations_are_the_same_to_the_byte(root: Path, tmp_path: Path) -> None:
    prepare(DATA, NOISE, tmp_path / "again")
    first, second = folder(DATA, NOISE, root), folder(DATA, NOISE, tmp_path / "again")
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_nothing_but_the_finished_folder_is_left_behind(root: Path) -> None:
    assert [path.name for path in root.iterdir()] == [folder(DATA, NOISE, root).name]


@pytest.mark.parametrize(
    ("data", "noise"),
    [
        (dataclasses.replace(DATA, split_seed=1), NOISE),
        (dataclasses.replace(DATA, id_classes=(2, 1, 0)), NOISE),
        (dataclasses.replace(DATA, far_ood=("uniform",)), NOISE),
        (DATA, dataclasses.replace(NOISE, seed=1)),
        (DATA, dataclasses.replace(NOISE, sigmas=(0.25,))),
    ],
)
def test_other_settings_have_another_folder_and_another_hash(
    data: DataConfig, noise: NoiseConfig, root: Path
) -> None:
    assert folder(data, noise, root) != folder(DATA, NOISE, root)
    assert assemble(data, noise).facts.hash != assemble(DATA, NOISE).facts.hash


def test_another_format_version_has_another_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = folder(DATA, NOISE, root)
    monkeypatch.setattr(prepared, "FORMAT", prepared.FORMAT + 1)
    assert folder(DATA, NOISE, root) != before


def test_the_data_read_back_are_those_assembled(root: Path) -> None:
    made = assemble(DATA, NOISE)
    opened = PreparedData.open(DATA, NOISE, root, stage="confirm")
    for name, part in (
        ("train", opened.train()),
        ("validation", opened.validation()),
        ("test", opened.test()),
    ):
        np.testing.assert_array_equal(part.images, made.arrays[name][1])
        np.testing.assert_array_equal(part.labels, made.arrays[f"{name}_labels"][1])
    for name, images in {**opened.noise(), **opened.ood()}.items():
        np.testing.assert_array_equal(images, made.arrays[name][1])
    assert list(opened.noise()) == ["noise_0.25", "noise_0.5"]
    assert list(opened.ood()) == ["held_out", "uniform", "pixel_permuted"]
    assert opened.facts == made.facts


def test_images_are_mapped_read_only(root: Path) -> None:
    images = PreparedData.open(DATA, NOISE, root, stage="search").train().images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0, 0] = 1


def test_mean_and_std_are_those_of_the_training_images_in_0_to_1(root: Path) -> None:
    opened = PreparedData.open(DATA, NOISE, root, stage="search")
    pixels = opened.train().images.astype(np.float64) / 255
    assert opened.mean == pytest.approx((pixels.mean(),), abs=1e-12)
    assert opened.std == pytest.approx((pixels.std(),), abs=1e-12)


def test_facts_count_what_is_there(root: Path) -> None:
    opened = PreparedData.open(DATA, NOISE, root, stage="audit")
    facts = opened.facts
    assert (facts.num_train, facts.num_validation) == (len(opened.train()), len(opened.validation()))
    assert (facts.num_test, facts.num_classes, facts.image_shape) == (len(opened.test()), 3, (1, 8, 8))
    sizes = {name: len(images) for name, images in {**opened.noise(), **opened.ood()}.items()}
    assert {name: facts.sets[name]["size"] for name in sizes} == sizes
    assert all(len(str(each["hash"])) == 16 for each in facts.sets.values())


@pytest.mark.parametrize("stage", ["confirm", "audit"])
def test_confirm_and_audit_may_open_the_test(root: Path, stage: Stage) -> None:
    opened = PreparedData.open(DATA, NOISE, root, stage=stage)
    assert len(opened.test()) > 0
    assert len(opened.ood()) == 3


def test_search_is_refused_the_test_and_the_ood_sets(root: Path) -> None:
    opened = PreparedData.open(DATA, NOISE, root, stage="search")
    with pytest.raises(SealedTest, match="test images are sealed"):
        opened.test()
    with pytest.raises(SealedTest, match="OOD test sets are sealed"):
        opened.ood()


def test_search_works_with_the_test_files_deleted_and_is_still_refused_as_sealed(root: Path) -> None:
    for name in SEALED:
        (folder(DATA, NOISE, root) / name).unlink()
    opened = PreparedData.open(DATA, NOISE, root, stage="search")
    assert len(opened.train()) > len(opened.validation()) > 0
    assert len(opened.noise()) == 2
    with pytest.raises(SealedTest):
        opened.test()
    with pytest.raises(SealedTest):
        opened.ood()
    with pytest.raises(DataMissing, match=r"test\.npy is missing"):
        PreparedData.open(DATA, NOISE, root, stage="confirm")


def test_every_file_belongs_to_a_set_that_is_sealed_or_not(root: Path) -> None:
    names = {path.name for path in folder(DATA, NOISE, root).iterdir()}
    open_names = {"train.npy", "train_labels.npy", "validation.npy", "validation_labels.npy"}
    assert names == {*SEALED, *open_names, "noise_0.25.npy", "noise_0.5.npy", "facts.json"}


def test_opening_what_was_never_prepared_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="Run prepare"):
        PreparedData.open(DATA, NOISE, tmp_path, stage="search")


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("name", ["train.npy", "test_labels.npy", "facts.json"])
@pytest.mark.parametrize("damage", [Path.unlink, _truncate, lambda path: path.write_bytes(b"")])
def test_a_damaged_folder_is_made_again(root: Path, name: str, damage: object) -> None:
    assert callable(damage)
    target = folder(DATA, NOISE, root)
    before = (target / name).read_bytes()
    damage(target / name)
    if name == "facts.json":
        (target / name).write_text((target / name).read_text()[:-20] if (target / name).exists() else "")
    assert verify(DATA, NOISE, root) != []
    prepare(DATA, NOISE, root)
    assert (target / name).read_bytes() == before
    assert verify(DATA, NOISE, root) == []
    assert [path.name for path in root.iterdir()] == [target.name]


def test_an_empty_folder_in_the_way_is_replaced(tmp_path: Path) -> None:
    folder(DATA, NOISE, tmp_path).mkdir()
    prepare(DATA, NOISE, tmp_path)
    assert verify(DATA, NOISE, tmp_path) == []


def test_facts_that_are_json_but_not_facts_are_made_again(root: Path) -> None:
    path = folder(DATA, NOISE, root) / "facts.json"
    for text in ("[]", "{}", '{"facts": {}, "mean": [], "std": [], "files": {}}'):
        path.write_text(text)
        prepare(DATA, NOISE, root)
        assert json.loads(path.read_text())["facts"]["num_classes"] == 3


def test_verify_finds_a_changed_byte_that_the_size_does_not_show(root: Path) -> None:
    path = folder(DATA, NOISE, root) / "uniform.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert verify(DATA, NOISE, root) == [f"{path} does not hold what was written (its hash differs)"]


def test_a_failure_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[str] = []

    def disk_full(path: Path, array: object) -> None:
        if saved:
            raise OSError("No space left on device")
        saved.append(path.name)
        path.write_bytes(b"x")

    monkeypatch.setattr(np, "save", disk_full)
    with pytest.raises(OSError, match="No space"):
        prepare(DATA, NOISE, tmp_path)
    assert saved
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_away_once_it_is_old(tmp_path: Path) -> None:
    name = folder(DATA, NOISE, tmp_path).name
    old, young, other = (tmp_path / each for each in (f".{name}.old", f".{name}.young", ".other.old"))
    for left in (old, young, other):
        left.mkdir()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    os.utime(other, (two_days_ago, two_days_ago))
    prepare(DATA, NOISE, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([young.name, other.name, name])


def test_a_repair_never_takes_good_files_from_a_reader(root: Path) -> None:
    opened = PreparedData.open(DATA, NOISE, root, stage="search")
    mapped = opened.train().images
    before = mapped.copy()
    (folder(DATA, NOISE, root) / "test.npy").unlink()
    prepare(DATA, NOISE, root)
    np.testing.assert_array_equal(mapped, before)
    np.testing.assert_array_equal(opened.train().images, before)


def test_an_interrupted_repair_leaves_no_old_facts_over_new_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = folder(DATA, NOISE, root)
    facts = target / "facts.json"
    facts.write_text(facts.read_text().replace('"mean"', '"note": "of another version", "mean"'))
    (target / "test.npy").unlink()

    def interrupted(*_: object) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(DATA, NOISE, root)
    assert not facts.exists()
    prepare(DATA, NOISE, root)
    assert verify(DATA, NOISE, root) == []


@pytest.mark.parametrize("damage", ["nothing", "one file", "facts", "everything"])
def test_threads_that_finish_making_the_data_together_all_succeed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    target = folder(DATA, NOISE, tmp_path)
    if damage != "nothing":
        prepare(DATA, NOISE, tmp_path)
        lost = {"one file": ["train.npy"], "facts": ["facts.json"]}
        for name in lost.get(damage, [path.name for path in target.iterdir()]):
            (target / name).unlink()
    made, all_made = assemble(DATA, NOISE), threading.Barrier(4, timeout=60)

    def together(*_: object) -> Assembled:
        all_made.wait()
        return made

    monkeypatch.setattr(prepared, "assemble", together)
    outcomes: list[DataFacts | Exception] = []

    def work() -> None:
        try:
            outcomes.append(prepare(DATA, NOISE, tmp_path))
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [made.facts] * 4
    assert verify(DATA, NOISE, tmp_path) == []
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_two_processes_that_prepare_at_once_both_succeed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        facts = pool.starmap(prepare, [(DATA, NOISE, tmp_path)] * 2, chunksize=1)
    assert facts == [assemble(DATA, NOISE).facts] * 2
    assert verify(DATA, NOISE, tmp_path) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_opening_prepared_data_loads_neither_scikit_learn_nor_scipy_nor_torch(root: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from workloads.contract import DataConfig, NoiseConfig\n"
        "from workloads.data.prepared import PreparedData\n"
        f"opened = PreparedData.open({DATA!r}, {NOISE!r}, Path(sys.argv[1]), stage='confirm')\n"
        "opened.train(), opened.test(), opened.ood()\n"
        "print([name for name in ('sklearn', 'scipy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
