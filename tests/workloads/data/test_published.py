"""The files as their makers publish them, in small."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.workloads.data.making import pictures, write_images
from workloads.contract import DataMissing
from workloads.data.decoding import Wanted, decoded
from workloads.data.images import Part
from workloads.data.location import find
from workloads.data.published import read_idx, torchvision_class
from workloads.data.readers import PartName

GREY = pictures(6, (1, 28, 28))


def _idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">{array.ndim + 1}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def _decoded(name: str, part: PartName, sources: Path) -> Part:
    reader = find(name, part, sources)
    assert reader.layout == "torchvision"
    return decoded(reader, Wanted(name, part), sources / "root")


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("place", ["", "MNIST/raw/"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_are_read_packed_or_not_wherever_they_lie(tmp_path: Path, place: str, packed: bool) -> None:
    folder = tmp_path / "mnist" / place
    folder.mkdir(parents=True)
    for name, array in (("images-idx3", GREY[:, 0]), ("labels-idx1", np.array([3, 1, 4, 1, 5, 9], np.uint8))):
        content = _idx(array)
        ending = ".gz" if packed else ""
        (folder / f"t10k-{name}-ubyte{ending}").write_bytes(gzip.compress(content) if packed else content)
    part = _decoded("mnist", "test", tmp_path)
    np.testing.assert_array_equal(part.images, GREY)
    assert part.labels.tolist() == [3, 1, 4, 1, 5, 9]
    assert part.origin.encoding == "raw"
    with pytest.raises(DataMissing, match="its train part"):
        find("mnist", "train", tmp_path)


def test_a_label_out_of_range_is_named_by_its_place_among_all(tmp_path: Path) -> None:
    labels = np.zeros(1005, np.uint8)
    labels[1003] = 11
    (tmp_path / "mnist").mkdir()
    for name, array in (("images-idx3", np.zeros((1005, 28, 28), np.uint8)), ("labels-idx1", labels)):
        (tmp_path / "mnist" / f"t10k-{name}-ubyte").write_bytes(_idx(array))
    wanted = Wanted("mnist", "test", num_classes=10)
    with pytest.raises(ValueError, match=r"mnist: image 1003: the label must be in 0\.\.9; got 11"):
        decoded(find("mnist", "test", tmp_path), wanted, tmp_path / "root")


def test_emnist_is_turned_upright(tmp_path: Path) -> None:
    (tmp_path / "emnist").mkdir()
    for name, array in (("images-idx3", GREY[:, 0]), ("labels-idx1", np.zeros(6, np.uint8))):
        (tmp_path / "emnist" / f"emnist-balanced-test-{name}-ubyte").write_bytes(_idx(array))
    images = _decoded("emnist", "test", tmp_path).images
    np.testing.assert_array_equal(images, GREY.transpose(0, 1, 3, 2))


@pytest.mark.parametrize(
    "content", [b"", _idx(GREY[:, 0])[:-1], _idx(GREY[:, 0]) + b"x", _idx(np.zeros(4, np.uint8))]
)
def test_an_idx_file_that_is_not_whole_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x-ubyte").write_bytes(content)
    with pytest.raises(ValueError, match=r"x-ubyte: .*Put it there anew"):
        read_idx(tmp_path / "x-ubyte", 3)


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(_idx(GREY[:, 0]))[:-20])
    with pytest.raises(ValueError, match=r"x\.gz: not a readable IDX file"):
        read_idx(tmp_path / "x.gz", 3)


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five training batches of two images and a test batch of three, with checksums to match."""
    folder = tmp_path / "cifar10" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    images = pictures(13, (3, 32, 32))
    parts = {f"data_batch_{i + 1}": slice(2 * i, 2 * i + 2) for i in range(5)} | {"test_batch": slice(10, 13)}
    known = torchvision_class("cifar10")
    sums = {}
    for name, rows in parts.items():
        content = {"data": images[rows].reshape(-1, 3072), "labels": list(range(13))[rows]}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = _md5(folder / name)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["x"] * 10}))
    monkeypatch.setattr(known, "train_list", [[n, s] for n, s in sums.items() if n != "test_batch"])
    monkeypatch.setattr(known, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(known, "meta", {**known.meta, "md5": _md5(folder / "batches.meta")})
    return tmp_path


def test_cifar_batches_are_read_in_order(cifar: Path) -> None:
    images = pictures(13, (3, 32, 32))
    train, test = (_decoded("cifar10", part, cifar) for part in ("train", "test"))
    np.testing.assert_array_equal(train.images, images[:10])
    np.testing.assert_array_equal(test.images, images[10:])
    assert train.labels.tolist() == list(range(10))


def test_a_changed_cifar_batch_is_refused_before_it_is_unpickled(cifar: Path) -> None:
    (cifar / "cifar10" / "cifar-10-batches-py" / "test_batch").write_bytes(b"cos\nsystem\n")
    with pytest.raises(DataMissing, match=r"missing or\s+changed.*orchestrate data fetch cifar10"):
        _decoded("cifar10", "train", cifar)


def test_svhn_is_read_and_its_tens_are_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from scipy.io import savemat

    images = pictures(4, (3, 32, 32))
    path = tmp_path / "svhn" / "test_32x32.mat"
    path.parent.mkdir()
    savemat(path, {"X": images.transpose(2, 3, 1, 0), "y": np.array([[10], [1], [9], [2]])})
    known = torchvision_class("svhn")
    monkeypatch.setattr(known, "split_list", {"test": ["", "test_32x32.mat", _md5(path)]})
    part = _decoded("svhn", "test", tmp_path)
    np.testing.assert_array_equal(part.images, images)
    assert part.labels.tolist() == [0, 1, 9, 2]


def test_the_textures_of_split_1_are_read_and_brought_to_one_size(tmp_path: Path) -> None:
    folder = tmp_path / "textures" / "dtd" / "dtd"
    flat = {
        f"images/{kind}/{kind}_{i}.jpg": np.full((3, 40 + i, 60), 20 * i + 50, dtype=np.uint8)
        for kind in ("banded", "woven")
        for i in range(3)
    }
    write_images(folder, flat)
    for i, split in enumerate(("train", "val", "test")):
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / f"{split}1.txt").write_text(f"banded/banded_{i}.jpg\nwoven/woven_{i}.jpg\n")
    reader = find("textures", "train", tmp_path)
    part = decoded(reader, Wanted("textures", "train", fallback=(32, 32)), tmp_path / "root")
    assert part.images.shape == (4, 3, 32, 32)
    assert part.labels.tolist() == [0, 1, 0, 1]
    # JPEG keeps a flat image within a grey level.
    assert np.abs(part.images.astype(int).mean(axis=(1, 2, 3)) - [50, 50, 70, 70]).max() <= 1
    assert (part.origin.encoding, part.origin.conversion) == ("jpeg", "resize varied->32")
    assert len(_decoded("textures", "test", tmp_path)) == 2
