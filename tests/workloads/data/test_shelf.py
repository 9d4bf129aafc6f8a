"""The folder of raw sources: what is there, what is wrong with it, and fetching."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.data.making import encoded, pictures, write_images, write_parquet, write_set
from tests.workloads.data.serving import serving
from workloads.contract import DataMissing
from workloads.data.download import Progress
from workloads.data.published import torchvision_class
from workloads.data.shelf import Status, check, fetch, status


def _quiet(_: Progress) -> None:
    """Nobody watches."""


def test_the_status_says_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    write_set(tmp_path / "cifar10")
    size = sum(path.stat().st_size for path in (tmp_path / "cifar10").iterdir())
    assert status("cifar10", tmp_path) == Status("cifar10", tmp_path / "cifar10", "parquet", 30, 12, size, "")
    write_set(tmp_path / "svhn", train=0)
    half = status("svhn", tmp_path)
    assert (half.num_train, half.num_test) == (None, 12)
    assert "orchestrate data fetch svhn" in half.hint
    nothing = status("lsun_c", tmp_path)
    assert (nothing.layout, nothing.size_bytes) == (None, 0)
    assert "No checksum of it is published" in nothing.hint
    assert str(tmp_path / "lsun_c") in nothing.hint


def test_the_status_of_bundled_and_of_other_folders(tmp_path: Path) -> None:
    assert status("digits", tmp_path).layout == "bundled"
    write_images(tmp_path / "photos", {"a.png": pictures(1)[0], "b.png": pictures(1)[0]})
    photos = status(str(tmp_path / "photos"), tmp_path)
    assert (photos.layout, photos.num_train, photos.num_test) == ("folder", None, 2)


def test_the_status_of_a_damaged_file_is_told_and_no_error(tmp_path: Path) -> None:
    write_set(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "test-00000-of-00001.parquet").write_bytes(b"PAR1")
    found = status("cifar10", tmp_path)
    assert (found.layout, found.num_train, found.num_test) == ("parquet", 30, None)
    assert "test-00000-of-00001.parquet: not a readable parquet file" in found.hint


def test_unknown_names_are_refused_everywhere(tmp_path: Path) -> None:
    for look in (status, check):
        with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
            look("cifar01", tmp_path)
    with pytest.raises(ValueError, match="Did you mean 'cifar10'"):
        fetch("cifar01", tmp_path, _quiet)


def test_a_sound_set_has_no_problems(tmp_path: Path) -> None:
    write_set(tmp_path / "set")
    assert check(str(tmp_path / "set"), tmp_path) == []
    assert check("digits", tmp_path) == []


def test_a_check_finds_every_damaged_image_and_label(tmp_path: Path) -> None:
    images: list[bytes] = [encoded(image) for image in pictures(40)]
    labels = [i % 10 for i in range(40)]
    images[7], labels[9], labels[21] = b"nothing", 10, 4
    write_parquet(tmp_path / "cifar10" / "test-0.parquet", images, labels)
    problems = check("cifar10", tmp_path)
    assert "its train part is not in" in problems[0]
    assert "row 7 (from 0): must be an image" in problems[1]
    assert "row 9 (from 0): the label must be in 0..9; got 10" in problems[2]
    assert problems[3].startswith("cifar10, test part: 10 classes do not have the published number of images")
    assert len(problems) == 4


def test_a_check_finds_classes_without_images_and_images_of_several_shapes(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    images = [encoded(image) for image in pictures(4)]
    write_parquet(folder / "train-0.parquet", images, [0, 1, 0, 1], names=["a", "b", "c"])
    images[3] = encoded(pictures(1, (3, 9, 8))[0])
    write_parquet(folder / "test-0.parquet", images, [0, 1, 2, 1], names=["a", "b", "c"])
    assert check(str(folder), tmp_path) == [
        f"{folder}, train part: 1 classes have no image, the first is 2",
        f"{folder}, test part: images have 2 shapes: as ID data it must be named {folder}@<side>",
    ]


def test_a_check_does_not_drown_in_its_findings(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set" / "test-0.parquet", [b"nothing"] * 100, None)
    problems = check(str(tmp_path / "set"), tmp_path)
    assert len(problems) == 22
    assert problems[-1].endswith("test part: 80 more of this kind")


def test_what_cannot_or_need_not_be_fetched_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        DataMissing, match=r"isun: No checksum of it is published.*put into .*isun .*iSUN\.tar"
    ):
        fetch("isun", tmp_path, _quiet)
    with pytest.raises(ValueError, match="it comes with scikit-learn"):
        fetch("digits", tmp_path, _quiet)
    write_set(tmp_path / "cifar10")
    assert fetch("cifar10", tmp_path, _quiet) == tmp_path / "cifar10"


def test_a_fetched_source_can_be_used_at_once_and_a_damaged_one_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = torchvision_class("mnist")
    with serving() as server:
        resources = []
        for name, _ in known.resources:
            array = pictures(10, (1, 28, 28))[:, 0] if "images" in name else np.arange(10, dtype=np.uint8)
            head = struct.pack(f">{array.ndim + 1}I", 0x0800 + array.ndim, *array.shape)
            server.files[name] = gzip.compress(head + array.tobytes())
            resources.append((name, hashlib.md5(server.files[name]).hexdigest()))
        monkeypatch.setattr(known, "mirrors", [server.url])
        monkeypatch.setattr(known, "resources", resources)
        folder = fetch("mnist", tmp_path, _quiet)
        assert status("mnist", tmp_path).layout == "torchvision"
        assert len(server.asked) == 4
        fetch("mnist", tmp_path, _quiet)
        assert len(server.asked) == 4
        damaged = next(folder.rglob("t10k-labels*"))
        damaged.write_bytes(damaged.read_bytes()[:-9])
        assert "not a readable IDX file" in check("mnist", tmp_path)[-1]
        fetch("mnist", tmp_path, _quiet)
        assert len(server.asked) == 5
    assert all("published number" in problem for problem in check("mnist", tmp_path))
