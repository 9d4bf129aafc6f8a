"""The bundled digits, and the OOD sets that go with them."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.datasets

from workloads.contract import DataConfig, DataMissing, NoiseConfig
from workloads.data import digits
from workloads.data.assembly import Assembled, assemble
from workloads.data.catalogue import SOURCES
from workloads.data.prepared import prepare
from workloads.data.stock import Stock

FAR = ("photo_patches", "uniform", "pixel_permuted", "phase_randomised", "blobs")
SIX = DataConfig("digits", id_classes=(0, 1, 2, 3, 4, 5), near_ood=("held_out",), far_ood=FAR)


NOWHERE = Path("no such folder")
"""The digits are neither read from a folder nor decoded into one."""


def _assembled(data: DataConfig) -> Assembled:
    return assemble(data, NoiseConfig(), Stock(data, NOWHERE))


@pytest.fixture(scope="module")
def six() -> Assembled:
    return _assembled(SIX)


def _set(assembled: Assembled, name: str) -> Any:
    (portion,) = (each for each in assembled.portions if each.name == name.removesuffix("_labels"))
    return portion.labels if name.endswith("_labels") else portion.array()


def test_grey_levels_0_to_16_become_0_to_255_and_every_image_is_there_once() -> None:
    source = digits.load()
    images = np.concatenate([source.train.images, source.test.images])
    raw = sklearn.datasets.load_digits()
    assert images.shape == (1797, 1, 8, 8)
    assert np.unique(images).tolist() == [int(level * 255 / 16 + 0.5) for level in range(17)]
    levels = np.rint(images[:, 0] * (16 / 255))
    ours = sorted(zip(levels.reshape(len(images), -1).tolist(), _labels(source), strict=True))
    theirs = sorted(zip(raw.data.tolist(), raw.target.tolist(), strict=True))
    assert ours == theirs


def _labels(source: Any) -> list[int]:
    labels: list[int] = np.concatenate([source.train.labels, source.test.labels]).tolist()
    return labels


def test_the_test_part_is_a_third_of_every_class() -> None:
    source = digits.load()
    every = np.bincount(_labels(source))
    assert np.abs(np.bincount(source.test.labels) - every / 3).max() <= 0.5


def test_the_catalogue_tells_the_truth_about_the_digits() -> None:
    source, facts = digits.load(), SOURCES["digits"].facts
    assert facts["num_train"] == len(source.train)
    assert facts["num_test"] == len(source.test)
    assert facts["class_counts"] == ",".join(str(count) for count in np.bincount(_labels(source)))
    shape = tuple(facts[f"image_{side}"] for side in ("channels", "height", "width"))
    assert source.train.images.shape[1:] == shape
    assert facts["num_classes"] == 10


def test_the_test_images_do_not_depend_on_the_split_seed_and_the_validation_images_do(
    six: Assembled, tmp_path: Path
) -> None:
    data = DataConfig("digits", id_classes=SIX.id_classes, split_seed=1)
    np.testing.assert_array_equal(_set(_assembled(data), "test"), _set(six, "test"))
    first, other = (prepare(each, NoiseConfig(), tmp_path).sets for each in (SIX, data))
    assert other["test"]["hash"] == first["test"]["hash"]
    assert other["validation"]["hash"] != first["validation"]["hash"]


def test_no_image_is_in_two_of_train_validation_test_and_held_out(six: Assembled) -> None:
    names = ("train", "validation", "test", "held_out")
    parts = [{image.tobytes() for image in _set(six, name)} for name in names]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 1797


def test_held_out_is_every_image_of_the_other_classes(six: Assembled) -> None:
    raw = sklearn.datasets.load_digits()
    wanted = raw.images[raw.target >= 6]
    levels = np.rint(_set(six, "held_out")[:, 0] * (16 / 255))
    flat = sorted(levels.reshape(len(levels), -1).tolist())
    assert flat == sorted(wanted.reshape(len(wanted), -1).tolist())


def test_id_classes_are_relabelled_in_their_order(six: Assembled) -> None:
    turned = _assembled(DataConfig("digits", id_classes=(5, 4, 3, 2, 1, 0)))
    # The split of a class does not depend on the others, so that the test part can be compared.
    np.testing.assert_array_equal(_set(turned, "test"), _set(six, "test"))
    np.testing.assert_array_equal(_set(turned, "test_labels"), 5 - _set(six, "test_labels"))


def test_the_far_sets_have_their_sizes_and_no_repeated_image(six: Assembled) -> None:
    test = len(_set(six, "test"))
    for name, size in zip(FAR, (1000, 1000, test, test, 1000), strict=True):
        images = _set(six, name)
        assert images.shape == (size, 1, 8, 8), name
        assert images.dtype == np.uint8, name
        assert len({image.tobytes() for image in images}) == size, name


def test_permuted_and_phase_randomised_sets_come_from_the_test_images_in_order(six: Assembled) -> None:
    test = _set(six, "test").reshape(len(_set(six, "test")), -1)
    permuted = _set(six, "pixel_permuted").reshape(test.shape)
    np.testing.assert_array_equal(np.sort(test, axis=1), np.sort(permuted, axis=1))
    energy = test.astype(float).std(axis=1)
    mixed = _set(six, "phase_randomised").reshape(test.shape).astype(float).std(axis=1)
    # Clipping takes part of the contrast away, more or less for every image alike.
    assert np.corrcoef(energy, mixed)[0, 1] > 0.5


def test_photo_patches_are_cut_from_both_photographs(six: Assembled) -> None:
    patches = _set(six, "photo_patches")
    for part, name in ((patches[:500], "china.jpg"), (patches[500:], "flower.jpg")):
        photograph = sklearn.datasets.load_sample_image(name)
        grey = np.rint(photograph @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
        cells = {
            grey[row : row + 8, column : column + 8].tobytes()
            for row in range(0, 424, 8)
            for column in range(0, 640, 8)
        }
        assert {patch.tobytes() for patch in part} <= cells


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (DataConfig("digits", near_ood=("held_out",)), "here all of them are"),
        (DataConfig("digits", near_ood=("held_uot",)), "Did you mean 'held_out'"),
        (DataConfig("digits", far_ood=("digits",)), "must not be the source itself; got 'digits'"),
        (DataConfig("digits", far_ood=("blobs", "blobs")), "every set once"),
        (DataConfig("digits", near_ood=("blobs",), far_ood=("blobs",)), "every set once"),
        (DataConfig("digits", train_fraction=0.0), r"train_fraction must be in \(0, 1\]; got 0.0"),
        (DataConfig("digits", train_fraction=1.5), r"train_fraction must be in \(0, 1\]; got 1.5"),
        (DataConfig("digits", normalisation="stated"), "must be computed for digits.*got 'stated'"),
        (DataConfig("digitz"), "Did you mean 'digits'"),
        (DataConfig("digits", id_classes=(0, 1, 10)), r"labels in 0\.\.9; got \[0, 1, 10\]"),
        (DataConfig("digits", id_classes=(0, 1, 1)), "different"),
        (DataConfig("digits", id_classes=(3,)), "two or more"),
        (DataConfig("digits", validation_fraction=1.0), r"in \(0, 1\)"),
    ],
)
def test_settings_that_cannot_be_are_refused(data: DataConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _assembled(data)


@pytest.mark.parametrize(
    ("load", "hidden"), [(digits.load, "load_digits"), (digits.load_photographs, "load_sample_image")]
)
def test_missing_files_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[], object], hidden: str
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError("no such file")

    monkeypatch.setattr(sklearn.datasets, hidden, gone)
    with pytest.raises(DataMissing, match="pip install"):
        load()


@pytest.mark.parametrize("load", [digits.load, digits.load_photographs])
def test_a_missing_scikit_learn_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, load: Callable[[], object]
) -> None:
    real = builtins.__import__

    def without_sklearn(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ModuleNotFoundError("No module named 'sklearn'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_sklearn)
    with pytest.raises(DataMissing, match=r"No module named 'sklearn'.*pip install"):
        load()
