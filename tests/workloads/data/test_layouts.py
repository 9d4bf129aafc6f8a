"""Raw files in every layout: found, read in order, and named in every complaint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.workloads.data.making import encoded, pictures, write_images, write_parquet
from workloads.contract import DataMissing
from workloads.data.decoding import Wanted, decoded
from workloads.data.images import Part
from workloads.data.location import find
from workloads.data.readers import PartName

IMAGES = pictures(20)
LABELS = [i % 4 for i in range(20)]


def _decoded(folder: Path, part: PartName = "test", root: str = "root") -> Part:
    return decoded(find(str(folder), part, None), Wanted(folder.name, part), folder.parent / root)


@pytest.mark.parametrize("columns", [("image", "label"), ("img", "fine_label")])
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("place", ["test-00000-of-00001.parquet", "data/test-0.parquet", "valid-x.parquet"])
def test_parquet_files_give_every_image_and_label_in_order(
    tmp_path: Path, columns: tuple[str, str], plain: bool, place: str
) -> None:
    write_parquet(tmp_path / "set" / place, list(IMAGES), LABELS, columns=columns, plain=plain)
    part = _decoded(tmp_path / "set")
    np.testing.assert_array_equal(part.images, IMAGES)
    assert part.labels.tolist() == LABELS
    assert (part.origin.encoding, part.origin.conversion) == ("png", "none")


def test_several_parquet_files_are_one_part(tmp_path: Path) -> None:
    for i, (start, stop) in enumerate([(0, 9), (9, 20)]):
        write_parquet(
            tmp_path / "set" / f"test-{i:05d}-of-00002.parquet", list(IMAGES[start:stop]), LABELS[start:stop]
        )
    part = _decoded(tmp_path / "set")
    np.testing.assert_array_equal(part.images, IMAGES)
    assert part.labels.tolist() == LABELS


def test_class_names_in_the_metadata_say_how_many_classes_there_are(tmp_path: Path) -> None:
    file = tmp_path / "set" / "test-0.parquet"
    write_parquet(file, list(IMAGES), LABELS, names=["a", "b", "c", "d", "e"])
    assert _decoded(tmp_path / "set").num_classes == 5
    write_parquet(file, list(IMAGES), LABELS, names=["a", "b", "c"])
    with pytest.raises(
        ValueError, match=r"test-0\.parquet: row 3 \(from 0\): the label must be in 0\.\.2; got 3"
    ):
        _decoded(tmp_path / "set")


def test_overlap_columns_are_kept_by_the_source_they_name(tmp_path: Path) -> None:
    overlap = [i % 3 for i in range(20)]
    write_parquet(
        tmp_path / "set" / "test-0.parquet", list(IMAGES), LABELS, more={"cifar10_overlap": overlap}
    )
    assert {name: kept.tolist() for name, kept in _decoded(tmp_path / "set").overlaps.items()} == {
        "cifar10": overlap
    }


def test_a_set_without_labels_is_unlabelled(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "test-0.parquet", list(IMAGES), None)
    assert (_decoded(tmp_path / "set").labels == -1).all()


@pytest.mark.parametrize(
    ("broken", "message"),
    [(b"", "row 13"), (b"no image", "row 13"), (encoded(IMAGES[0])[:-40], "row 13")],
)
def test_a_damaged_image_in_the_middle_is_named_by_file_and_row(
    tmp_path: Path, broken: bytes, message: str
) -> None:
    images: list[bytes] = [encoded(image) for image in IMAGES]
    images[13] = images[17] = broken
    write_parquet(tmp_path / "set" / "test-0.parquet", images, LABELS)
    with pytest.raises(ValueError, match=rf"test-0\.parquet: {message} \(from 0\): must be an image"):
        _decoded(tmp_path / "set")
    assert not list((tmp_path / "root" / "decoded").glob("*")), "something half-made was left"


@pytest.mark.parametrize("label", [-2, None])
def test_a_label_that_is_none_of_the_classes_is_named(tmp_path: Path, label: int | None) -> None:
    labels: list[int | None] = [*LABELS]
    labels[5] = label
    write_parquet(tmp_path / "set" / "test-0.parquet", list(IMAGES), labels)
    with pytest.raises(ValueError, match=r"test-0\.parquet: row 5 \(from 0\): .*(got -2|got nothing)"):
        _decoded(tmp_path / "set")


def test_a_parquet_file_that_is_none_or_holds_no_images_is_named(tmp_path: Path) -> None:
    file = tmp_path / "set" / "test-0.parquet"
    write_parquet(file, list(IMAGES), LABELS, columns=("photo", "label"))
    with pytest.raises(
        ValueError, match=r"test-0\.parquet: must have a column image or img; got photo, label"
    ):
        _decoded(tmp_path / "set")
    write_parquet(file, [], [])
    with pytest.raises(ValueError, match="must hold images; got none"):
        _decoded(tmp_path / "set")
    file.write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match=r"test-0\.parquet: not a readable parquet file"):
        _decoded(tmp_path / "set")


def test_image_folders_number_the_classes_of_the_training_part_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_images(
        folder,
        {
            "train/cat/2.png": IMAGES[0],
            "train/ape/1.png": IMAGES[1],
            "train/bee/x/3.PNG": IMAGES[2],
            "train/readme.txt": b"no image",
            "val/cat/9.png": IMAGES[3],
            "val/bee/1.png": IMAGES[4],
        },
    )
    train, test = (_decoded(folder, part) for part in ("train", "test"))
    np.testing.assert_array_equal(train.images, IMAGES[[1, 2, 0]])
    assert train.labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(test.images, IMAGES[[4, 3]])
    assert test.labels.tolist() == [1, 2]
    assert train.num_classes == test.num_classes == 3
    write_images(folder, {"val/dog/1.png": IMAGES[5]})
    with pytest.raises(
        ValueError, match=r"dog/1\.png: the class must be one of the training part's 3; got 'dog'"
    ):
        _decoded(folder)


def test_images_alone_are_an_unlabelled_test_part_and_no_training_part(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_images(folder, {f"{i:02d}.png": image for i, image in enumerate(IMAGES)})
    part = _decoded(folder)
    np.testing.assert_array_equal(part.images, IMAGES)
    assert (part.labels == -1).all()
    with pytest.raises(DataMissing, match=r"its train part is not in .*set; looked for train-\*\.parquet"):
        find(str(folder), "train", None)


def test_class_folders_alone_are_a_labelled_test_part(tmp_path: Path) -> None:
    write_images(tmp_path / "set", {"b/1.png": IMAGES[0], "a/1.png": IMAGES[1]})
    part = _decoded(tmp_path / "set")
    np.testing.assert_array_equal(part.images, IMAGES[[1, 0]])
    assert part.labels.tolist() == [0, 1]


def test_tiny_imagenets_validation_part_takes_its_classes_from_its_list(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    write_images(
        folder,
        {
            "train/n01/images/a.png": IMAGES[0],
            "train/n02/images/b.png": IMAGES[1],
            "val/images/val_0.png": IMAGES[2],
            "val/images/val_1.png": IMAGES[3],
        },
    )
    (folder / "val" / "val_annotations.txt").write_text(
        "val_0.png\tn02\t0\t0\t9\t9\nval_1.png\tn01\t0\t0\t9\t9\n"
    )
    assert _decoded(folder).labels.tolist() == [1, 0]


def test_a_damaged_image_file_is_named_by_its_path(tmp_path: Path) -> None:
    write_images(tmp_path / "set", {"a.png": IMAGES[0], "b.png": b"\x89PNG nothing"})
    with pytest.raises(ValueError, match=r"set/b\.png: must be an image that can be decoded; got"):
        _decoded(tmp_path / "set")


def test_parquet_files_come_before_image_files(tmp_path: Path) -> None:
    write_images(tmp_path / "set", {"test/a/1.png": IMAGES[0]})
    assert find(str(tmp_path / "set"), "test", None).layout == "folder"
    write_parquet(tmp_path / "set" / "test-0.parquet", list(IMAGES), LABELS)
    assert find(str(tmp_path / "set"), "test", None).layout == "parquet"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="there is no such folder"):
        find(str(tmp_path / "nowhere"), "test", None)


def test_a_source_of_the_catalogue_needs_a_folder_of_sources() -> None:
    with pytest.raises(DataMissing, match=r"cifar10: needs raw files.*orchestrate data fetch cifar10"):
        find("cifar10", "test", None)
