"""Preparing from raw files: splits, OOD sets of any source, and what is recorded of each."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.data.making import encoded, pictures, write_images, write_parquet, write_set
from workloads.contract import DataConfig, DataFacts, DataMissing, NoiseConfig
from workloads.data import prepared
from workloads.data.names import SYNTHETIC
from workloads.data.prepared import PreparedData, prepare, verify

NOISE = NoiseConfig(size=5)
CIFAR = DataConfig("cifar10", id_classes=(0, 1, 2), validation_fraction=0.3)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A little cifar10 of 8x8 pixels, three of its classes."""
    write_set(tmp_path / "sources" / "cifar10")
    return tmp_path / "sources"


def _prepare(data: DataConfig, sources: Path) -> DataFacts:
    return prepare(data, NOISE, sources.parent / "root", sources)


def _open(data: DataConfig, sources: Path) -> PreparedData:
    _prepare(data, sources)
    return PreparedData.open(data, NOISE, sources.parent / "root", stage="confirm")


def _content(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> set[bytes]:
    return {image.tobytes() for image in images}


def test_every_training_image_is_in_train_or_validation_and_test_stays_apart(sources: Path) -> None:
    made = write_set(sources / "cifar10")
    opened = _open(CIFAR, sources)
    train, validation, test = opened.train(), opened.validation(), opened.test()
    assert np.bincount(train.labels).tolist() == [7, 7, 7]
    assert np.bincount(validation.labels).tolist() == [3, 3, 3]
    assert _content(train.images) | _content(validation.images) == _content(made["train"])
    np.testing.assert_array_equal(test.images, made["test"])
    assert test.labels.tolist() == [i % 3 for i in range(12)]


def test_a_share_of_the_training_images_leaves_validation_as_it_was(sources: Path) -> None:
    whole = _open(CIFAR, sources)
    part = _open(dataclasses.replace(CIFAR, train_fraction=0.43), sources)
    assert np.bincount(part.train().labels).tolist() == [3, 3, 3]
    assert _content(part.train().images) < _content(whole.train().images)
    np.testing.assert_array_equal(part.validation().images, whole.validation().images)


def test_the_split_seed_also_decides_which_share_is_kept(sources: Path) -> None:
    kept = []
    for seed in range(4):
        data = dataclasses.replace(CIFAR, split_seed=seed)
        whole = _open(data, sources).train()
        part = _content(_open(dataclasses.replace(data, train_fraction=0.43), sources).train().images)
        # By their places within a class: the images themselves differ by the validation split already.
        first_class = whole.images[whole.labels == 0]
        kept.append([image.tobytes() in part for image in first_class])
    assert all(sum(each) == 3 for each in kept)
    assert any(each != kept[0] for each in kept)


def test_mean_and_std_are_computed_unless_the_stated_ones_are_asked_for(sources: Path) -> None:
    opened = _open(CIFAR, sources)
    pixels = opened.train().images / 255
    # Whole-number sums against numpy's pairwise ones: rounding only.
    assert opened.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)).tolist(), abs=1e-12)
    assert opened.std == pytest.approx(pixels.std(axis=(0, 2, 3)).tolist(), abs=1e-12)
    # The arrays are the same ones: nothing is to be prepared for it.
    in_words = dataclasses.replace(CIFAR, normalisation="stated")
    stated = PreparedData.open(in_words, NOISE, sources.parent / "root", stage="search")
    assert stated.mean == (0.4914, 0.4822, 0.4465)
    assert stated.std == (0.2470, 0.2435, 0.2616)
    assert stated.facts.hash == opened.facts.hash


def test_a_channel_without_contrast_has_std_1(tmp_path: Path) -> None:
    images = pictures(12)
    images[:, 1] = 7
    for part in ("train", "test"):
        write_parquet(tmp_path / "flat" / f"{part}-0.parquet", list(images), [0, 1] * 6)
    opened = _open(DataConfig(str(tmp_path / "flat")), tmp_path / "sources")
    assert opened.std[1] == 1.0
    assert opened.mean[1] == 7 / 255


def test_a_second_prepare_reads_nothing_and_other_raw_files_never_give_old_arrays(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _prepare(CIFAR, sources)
    with monkeypatch.context() as patched:
        patched.delattr(prepared, "assemble")
        assert _prepare(CIFAR, sources) == first
    original = (sources / "cifar10").rename(sources / "kept")
    made = write_set(sources / "cifar10", seed=5)
    second = _prepare(CIFAR, sources)
    assert second.hash != first.hash
    np.testing.assert_array_equal(_open(CIFAR, sources).test().images, made["test"])
    shutil.rmtree(sources / "cifar10")
    original.rename(sources / "cifar10")
    with monkeypatch.context() as patched:
        patched.delattr(prepared, "assemble")
        assert _prepare(CIFAR, sources) == first
    # Without a hash, the data prepared last are opened; with one, those that it names.
    root = sources.parent / "root"
    for facts in (first, second):
        opened = PreparedData.open(CIFAR, NOISE, root, stage="confirm", data_hash=facts.hash)
        assert opened.facts == facts
        assert verify(CIFAR, NOISE, root, facts.hash) == []


def test_the_same_pixels_in_other_files_are_the_same_data_with_their_own_origin(sources: Path) -> None:
    made = write_set(sources / "cifar10")
    first = _prepare(CIFAR, sources)
    for part in ("train", "test"):
        images = [encoded(image, "BMP") for image in made[part]]
        labels = [i % 3 for i in range(len(images))]
        write_parquet(sources / "cifar10" / f"{part}-00000-of-00001.parquet", images, labels)
    second = _prepare(CIFAR, sources)
    assert second.hash == first.hash
    assert (first.sets["train"]["encoding"], second.sets["train"]["encoding"]) == ("png", "bmp")
    assert first.sets["train"]["source_hash"] != second.sets["train"]["source_hash"]


def test_raw_files_may_go_once_the_data_are_opened_by_their_hash(sources: Path) -> None:
    facts, root = _prepare(CIFAR, sources), sources.parent / "root"
    for gone in (sources, root / "decoded", root / "index"):
        shutil.rmtree(gone)
    opened = PreparedData.open(CIFAR, NOISE, root, stage="search", data_hash=facts.hash)
    assert len(opened.train()) == facts.num_train
    with pytest.raises(DataMissing, match="cifar10"):
        _prepare(CIFAR, sources)


def test_an_ood_set_of_another_shape_is_converted_and_its_origin_recorded(sources: Path) -> None:
    grey = write_set(sources / "mnist", train=0, shape=(1, 16, 16))["test"]
    same = write_set(sources / "svhn", train=0, seed=7)["test"]
    facts = _prepare(dataclasses.replace(CIFAR, far_ood=("mnist", "svhn")), sources)
    assert facts.sets["mnist"]["conversion"] == "resize 16->8, grey_to_colour"
    assert facts.sets["svhn"]["conversion"] == "none"
    assert {facts.sets[name]["encoding"] for name in ("train", "mnist", "svhn")} == {"png"}
    assert len({str(facts.sets[n]["source_hash"]) for n in ("train", "test", "mnist", "svhn")}) == 4
    ood = _open(dataclasses.replace(CIFAR, far_ood=("mnist", "svhn")), sources).ood()
    np.testing.assert_array_equal(ood["svhn"], same)
    assert ood["mnist"].shape == (len(grey), 3, 8, 8)
    assert (ood["mnist"][:, 0] == ood["mnist"][:, 2]).all()


def test_a_colour_set_is_made_grey_for_a_grey_source(sources: Path) -> None:
    write_set(sources / "mnist", classes=10, shape=(1, 8, 8))
    facts = _prepare(DataConfig("mnist", far_ood=("cifar10",)), sources)
    assert facts.image_shape == (1, 8, 8)
    assert facts.sets["cifar10"]["conversion"] == "colour_to_grey"


def test_every_synthetic_set_the_digits_and_what_is_held_out_go_with_any_source(sources: Path) -> None:
    names = ("held_out", "digits", *SYNTHETIC)
    data = dataclasses.replace(CIFAR, id_classes=(2, 0), near_ood=names[:2], far_ood=names[2:])
    made = write_set(sources / "cifar10")
    facts, ood = _prepare(data, sources), _open(data, sources).ood()
    assert list(ood) == list(names)
    assert all(images.shape[1:] == (3, 8, 8) for images in ood.values())
    left_out = [i for i in range(30) if i % 3 == 1], [i for i in range(12) if i % 3 == 1]
    expected = np.concatenate([made["train"][left_out[0]], made["test"][left_out[1]]])
    np.testing.assert_array_equal(ood["held_out"], expected)
    assert facts.sets["uniform"]["encoding"] == facts.sets["noise_0.25"]["encoding"] == "synthetic"
    assert facts.sets["digits"]["conversion"] == "grey_to_colour"
    assert facts.sets["photo_patches"]["encoding"] == "jpeg"


def test_large_photo_patches_are_as_many_as_the_photographs_hold(tmp_path: Path) -> None:
    write_set(tmp_path / "big", classes=2, train=3, test=1, shape=(3, 96, 96))
    facts = _prepare(DataConfig(str(tmp_path / "big"), far_ood=("photo_patches",)), tmp_path / "sources")
    # 427x640 pixels hold 4 x 6 squares of 96, of each of two photographs.
    assert facts.sets["photo_patches"]["size"] == 48


def test_images_that_show_id_classes_are_left_out_and_counted(sources: Path) -> None:
    images = pictures(9, seed=3)
    overlap = [0, 1, 0, 2, 0, 0, 1, 0, 0]
    file = sources / "tinyimagenet" / "test-0.parquet"
    write_parquet(file, list(images), [0] * 9, more={"cifar10_overlap": overlap, "cifar100_overlap": [1] * 9})
    data = dataclasses.replace(CIFAR, near_ood=("tinyimagenet",))
    facts = _prepare(data, sources)
    assert facts.sets["tinyimagenet"]["dropped_overlap"] == 3
    np.testing.assert_array_equal(_open(data, sources).ood()["tinyimagenet"], images[np.array(overlap) == 0])
    write_parquet(file, list(images), [0] * 9, more={"cifar10_overlap": [1] * 9})
    with pytest.raises(ValueError, match="tinyimagenet must have images that show no class of cifar10"):
        _prepare(data, sources)


def test_copies_of_training_images_are_counted_and_kept(sources: Path) -> None:
    made = write_set(sources / "cifar10")
    strange = pictures(6, seed=9)
    strange[1], strange[4] = made["train"][3], made["train"][3]
    write_parquet(sources / "svhn" / "test-0.parquet", list(strange), [0] * 6)
    test = made["test"].copy()
    test[5] = made["train"][8]
    write_parquet(sources / "cifar10" / "test-00000-of-00001.parquet", list(test), [i % 3 for i in range(12)])
    sets = _prepare(dataclasses.replace(CIFAR, far_ood=("svhn",), validation_fraction=0.01), sources).sets
    # One image a class is validation: seed 0 leaves images 3 and 8 in training.
    assert (sets["svhn"]["duplicates_of_train"], sets["svhn"]["size"]) == (2, 6)
    assert sets["test"]["duplicates_of_train"] == 1
    assert sets["validation"]["duplicates_of_train"] == 0


def test_a_folder_is_a_source_and_a_folder_of_photographs_an_ood_set(tmp_path: Path) -> None:
    images = pictures(12, (3, 10, 10))
    for part, rows in (("train", range(8)), ("test", range(8, 12))):
        write_images(tmp_path / "My set", {f"{part}/{'ab'[i % 2]}/{i:02d}.png": images[i] for i in rows})
    write_images(
        tmp_path / "photos", {"1.jpg": pictures(1, (3, 90, 70))[0], "2.png": pictures(1, (1, 30, 50))[0]}
    )
    data = DataConfig(str(tmp_path / "My set"), far_ood=(str(tmp_path / "photos"),))
    facts = _prepare(data, tmp_path / "no sources")
    assert (facts.num_classes, facts.image_shape, facts.num_test) == (2, (3, 10, 10), 4)
    photos = facts.sets["photos"]
    assert photos["kind"] == "far"
    assert photos["conversion"] == "resize varied->10, grey_to_colour 1 of 2"
    assert photos["encoding"] == "jpeg+png"
    assert (tmp_path / "root" / f"My_set-{facts.hash}").is_dir()


def test_a_folder_whose_images_differ_in_size_is_resized_only_when_asked(tmp_path: Path) -> None:
    images = {f"{i}.png": pictures(1, (3, 8 + i % 2, 8))[0] for i in range(4)}
    for part in ("train", "test"):
        write_images(tmp_path / "set", {f"{part}/{k}/{n}": i for k in "ab" for n, i in images.items()})
    with pytest.raises(ValueError, match=r"a/1\.png: must be like the first image.*name the source .*set@32"):
        _prepare(DataConfig(str(tmp_path / "set")), tmp_path)
    facts = _prepare(DataConfig(f"{tmp_path / 'set'}@6"), tmp_path)
    assert facts.image_shape == (3, 6, 6)
    assert facts.sets["train"]["conversion"] == "resize varied->6"


def test_a_catalogue_source_of_several_sizes_takes_its_stated_size(sources: Path) -> None:
    for part in ("train", "test"):
        images = [encoded(pictures(1, (3, 40 + i % 3, 50), i)[0]) for i in range(8)]
        write_parquet(sources / "textures" / f"{part}-0.parquet", images, [0, 1] * 4)
    facts = _prepare(DataConfig("textures", id_classes=(0, 1)), sources)
    assert facts.image_shape == (3, 32, 32)
    assert facts.sets["test"]["conversion"] == "resize varied->32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id_classes": None}, "none of class 3, 4, 5, 6, 7, 8, 9"),
        ({"id_classes": (0, 10)}, r"different labels in 0\.\.9; got \[0, 10\]"),
        ({"far_ood": ("cifar10",)}, "must not be the source itself"),
        ({"far_ood": ("svnh",)}, "Did you mean 'svhn'"),
        ({"source": "cifra10"}, "Did you mean 'cifar10'"),
        ({"source": "places365"}, "no training part"),
    ],
)
def test_settings_that_cannot_be_are_refused(sources: Path, change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _prepare(dataclasses.replace(CIFAR, **change), sources)  # type: ignore[arg-type]


def test_the_sources_own_files_under_another_name_are_no_ood_set(sources: Path) -> None:
    copy = shutil.copytree(sources / "cifar10", sources.parent / "copy")
    with pytest.raises(ValueError, match=r"must not be the source itself; .*copy has the same files"):
        _prepare(dataclasses.replace(CIFAR, far_ood=(str(copy),)), sources)


@pytest.mark.parametrize(("part", "label"), [("train", 10), ("test", 11)])
def test_a_label_out_of_range_is_named(sources: Path, part: str, label: int) -> None:
    labels = [i % 3 for i in range(20)]
    labels[4] = label
    write_parquet(sources / "cifar10" / f"{part}-00000-of-00001.parquet", list(pictures(20)), labels)
    with pytest.raises(
        ValueError, match=rf"parquet: row 4 \(from 0\): the label must be in 0\.\.9; got {label}"
    ):
        _prepare(CIFAR, sources)


def test_id_images_without_a_label_are_refused(sources: Path) -> None:
    write_parquet(sources / "cifar10" / "test-00000-of-00001.parquet", list(pictures(5)), None)
    with pytest.raises(ValueError, match="every image of the test part must have a label"):
        _prepare(CIFAR, sources)


def test_parts_of_two_shapes_or_two_layouts_are_no_source(sources: Path) -> None:
    file = sources / "cifar10" / "test-00000-of-00001.parquet"
    write_parquet(file, list(pictures(6, (3, 9, 9))), [0, 1, 2] * 2)
    with pytest.raises(ValueError, match=r"one shape; got \(3, 8, 8\) for training and \(3, 9, 9\)"):
        _prepare(CIFAR, sources)
    file.unlink()
    write_images(sources / "cifar10", {f"test/{i % 3}/{i}.png": pictures(1)[0] for i in range(6)})
    with pytest.raises(ValueError, match=r"must be in one layout.*got folder and parquet"):
        _prepare(CIFAR, sources)


def test_a_missing_part_says_where_it_was_looked_for(sources: Path) -> None:
    with pytest.raises(
        DataMissing, match=r"svhn: its test part is not in .*svhn.*orchestrate data fetch svhn"
    ):
        _prepare(dataclasses.replace(CIFAR, far_ood=("svhn",)), sources)
