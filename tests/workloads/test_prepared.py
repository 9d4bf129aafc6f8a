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
from typing import IO, Any

import numpy as np
import pytest

from workloads.contract import DataConfig, DataFacts, DataMissing, NoiseConfig, SealedTest, Stage
from workloads.data import index, prepared
from workloads.data.assembly import Assembled, assemble
from workloads.data.prepared import PreparedData, folder, prepare, verify
from workloads.data.stock import Stock

DATA = DataConfig(
    "digits", id_classes=(0, 1, 2), near_ood=("held_out",), far_ood=("uniform", "pixel_permuted")
)
NOISE = NoiseConfig(sigmas=(0.25, 0.5), size=50)
HASH = "d98eccdc4f95e182"
"""Of DATA and NOISE, as the first version of this package found it."""
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


def _assembled(root: Path) -> Assembled:
    return assemble(DATA, NOISE, Stock(DATA, root))


def _left(root: Path) -> list[str]:
    """What is in a root beside the index."""
    return sorted(path.name for path in root.iterdir() if path.name != "index")


def _no_assembly(*_: object) -> Assembled:
    raise AssertionError("the data were made again")


def test_a_second_prepare_makes_nothing_and_gives_the_same_facts(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = PreparedData.open(DATA, NOISE, root, stage="search").facts
    monkeypatch.setattr(prepared, "assemble", _no_assembly)
    assert prepare(DATA, NOISE, root) == facts
    assert facts.hash == HASH


FAR = ("photo_patches", "uniform", "pixel_permuted", "phase_randomised", "blobs")


@pytest.mark.parametrize(
    ("data", "expected", "mean", "std"),
    [
        (
            DataConfig("digits", id_classes=(0, 1, 2, 3, 4, 5), near_ood=("held_out",), far_ood=FAR),
            "2d4d0ad3f8683927",
            0.305739873804193,
            0.377082402855547,
        ),
        (DataConfig("digits"), "9f6587292660ba27", 0.3065411657363676, 0.37606798370441524),
    ],
)
def test_the_digits_are_those_of_the_first_version_to_the_byte(
    tmp_path: Path, data: DataConfig, expected: str, mean: float, std: float
) -> None:
    assert prepare(data, NoiseConfig(), tmp_path).hash == expected
    opened = PreparedData.open(data, NoiseConfig(), tmp_path, stage="search")
    # Training takes both in single precision, where they must be the same to the bit.
    assert np.float32(opened.mean[0]) == np.float32(mean)
    assert np.float32(opened.std[0]) == np.float32(std)


def test_two_preparations_are_the_same_to_the_byte(root: Path, tmp_path: Path) -> None:
    prepare(DATA, NOISE, tmp_path / "again")
    first, second = folder(DATA, NOISE, root), folder(DATA, NOISE, tmp_path / "again")
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


def test_nothing_but_the_finished_folder_is_left_behind(root: Path) -> None:
    assert _left(root) == [f"digits-{HASH}"]


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
    facts = prepare(data, noise, root)
    assert facts.hash != HASH
    assert folder(data, noise, root) != folder(DATA, NOISE, root)


def test_settings_with_the_same_content_share_a_folder(root: Path) -> None:
    in_full = dataclasses.replace(DATA, train_fraction=1.0, normalisation="computed")
    facts = prepare(in_full, NOISE, root)
    assert facts.hash == HASH
    assert _left(root) == [f"digits-{HASH}"]


def test_another_format_version_does_not_trust_the_index(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FORMAT", index.FORMAT + 1)
    with pytest.raises(DataMissing, match="Run prepare"):
        folder(DATA, NOISE, root)


def test_data_are_opened_by_their_hash_without_any_index(root: Path) -> None:
    shutil.rmtree(root / "index")
    with pytest.raises(DataMissing, match="Run prepare"):
        PreparedData.open(DATA, NOISE, root, stage="search")
    opened = PreparedData.open(DATA, NOISE, root, stage="search", data_hash=HASH)
    assert opened.facts.hash == HASH
    with pytest.raises(DataMissing, match=r"no prepared data in .*digits-0000"):
        PreparedData.open(DATA, NOISE, root, stage="search", data_hash="0000")


@pytest.mark.parametrize("content", ["", "[]", '{"entries": 3}', '{"entries": [{"raw": {}, "facts": {}}]}'])
def test_a_damaged_index_costs_a_preparation_and_nothing_else(root: Path, content: str) -> None:
    (path,) = (root / "index").iterdir()
    path.write_text(content)
    assert prepare(DATA, NOISE, root).hash == HASH
    assert folder(DATA, NOISE, root).name == f"digits-{HASH}"
    assert _left(root) == [f"digits-{HASH}"]


def test_the_data_read_back_are_those_assembled(root: Path) -> None:
    made = {portion.name: portion for portion in _assembled(root).portions}
    opened = PreparedData.open(DATA, NOISE, root, stage="confirm")
    for name, part in (
        ("train", opened.train()),
        ("validation", opened.validation()),
        ("test", opened.test()),
    ):
        np.testing.assert_array_equal(part.images, made[name].array())
        np.testing.assert_array_equal(part.labels, made[name].labels)
    for name, images in {**opened.noise(), **opened.ood()}.items():
        np.testing.assert_array_equal(images, made[name].array())
    assert list(opened.noise()) == ["noise_0.25", "noise_0.5"]
    assert list(opened.ood()) == ["held_out", "uniform", "pixel_permuted"]


def test_what_is_written_to_mapped_images_never_reaches_the_file(root: Path) -> None:
    opened = PreparedData.open(DATA, NOISE, root, stage="search")
    images = opened.train().images
    assert isinstance(images, np.memmap)
    images[0] = 77
    assert (opened.train().images[0] != 77).any()
    assert verify(DATA, NOISE, root) == []


def test_torch_takes_mapped_images_without_a_copy_and_without_a_warning(root: Path) -> None:
    import torch

    images = PreparedData.open(DATA, NOISE, root, stage="search").train().images
    tensor = torch.from_numpy(images)
    assert tensor.data_ptr() == images.ctypes.data


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
    assert _left(root) == [target.name]


def test_an_empty_folder_in_the_way_is_replaced(tmp_path: Path) -> None:
    (tmp_path / f"digits-{HASH}").mkdir()
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
    opened: list[str] = []
    real = Path.open

    def disk_full(path: Path, mode: str = "r", **others: Any) -> IO[Any]:
        if mode == "wb":
            if opened:
                raise OSError("No space left on device")
            opened.append(path.name)
        return real(path, mode, **others)

    monkeypatch.setattr(Path, "open", disk_full)
    with pytest.raises(OSError, match="No space"):
        prepare(DATA, NOISE, tmp_path)
    assert opened == ["train.npy"]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept_away_once_it_is_old(tmp_path: Path) -> None:
    old, young, other = (tmp_path / each for each in (".digits.old", ".digits.young", ".other.old"))
    for left in (old, young, other):
        left.mkdir()
    two_days_ago = time.time() - 2 * 24 * 3600
    os.utime(old, (two_days_ago, two_days_ago))
    os.utime(other, (two_days_ago, two_days_ago))
    prepare(DATA, NOISE, tmp_path)
    assert _left(tmp_path) == [young.name, other.name, f"digits-{HASH}"]


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
    target = tmp_path / f"digits-{HASH}"
    if damage != "nothing":
        prepare(DATA, NOISE, tmp_path)
        lost = {"one file": ["train.npy"], "facts": ["facts.json"]}
        for name in lost.get(damage, [path.name for path in target.iterdir()]):
            (target / name).unlink()
    made, all_made = _assembled(tmp_path), threading.Barrier(4, timeout=60)

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
    assert [getattr(outcome, "hash", outcome) for outcome in outcomes] == [HASH] * 4
    assert verify(DATA, NOISE, tmp_path) == []
    assert _left(tmp_path) == [target.name]


def test_two_processes_that_prepare_at_once_both_succeed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        facts = pool.starmap(prepare, [(DATA, NOISE, tmp_path)] * 2, chunksize=1)
    assert [each.hash for each in facts] == [HASH] * 2
    assert verify(DATA, NOISE, tmp_path) == []
    assert _left(tmp_path) == [f"digits-{HASH}"]


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
