"""Image sets in the files that their makers published, as torchvision lays them out."""

from __future__ import annotations

import gzip
import importlib
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.contract import DataMissing
from workloads.data.catalogue import SOURCES
from workloads.data.images import Labels
from workloads.data.readers import Loaded, PartName

_IDX = {
    "mnist": ("train", "t10k"),
    "fashionmnist": ("train", "t10k"),
    "kmnist": ("train", "t10k"),
    "emnist": ("emnist-balanced-train", "emnist-balanced-test"),
}
"""Beginnings of the file names of the two parts."""

_FOLDERS = {
    "cifar10": ("cifar-10-batches-py", "data_batch_*", "test_batch"),
    "cifar100": ("cifar-100-python", "train", "test"),
    "svhn": (".", "train_32x32.mat", "test_32x32.mat"),
    "stl10": ("stl10_binary", "train_[Xy].bin", "test_[Xy].bin"),
}
"""Folder, and the files of the two parts, where torchvision reads whole arrays."""


def find(name: str, folder: Path, part: PartName) -> Loaded | None:
    """The part of the catalogue's source ``name`` below ``folder``, if its published files are there."""
    second = part == "test"
    if name in _IDX:
        return _idx(name, folder, _IDX[name][second])
    if name in _FOLDERS:
        below, *patterns = _FOLDERS[name]
        files = sorted((folder / below).glob(patterns[second]))
        if not files:
            return None
        return Loaded("torchvision", tuple(files), folder, partial(_arrays, name, folder, part), note=name)
    if name == "textures" and (folder / "dtd" / "dtd" / "images").is_dir():
        files = sorted((folder / "dtd" / "dtd").glob("images/*/*.jpg"))
        lists = sorted((folder / "dtd" / "dtd" / "labels").glob("*1.txt"))
        return Loaded(
            "torchvision", (*files, *lists), folder, partial(_textures, folder, part), note=f"dtd {part}"
        )
    if name == "places365" and second and (folder / "val_256").is_dir() and _has_lists(folder):
        files = sorted((folder / "val_256").glob("*.jpg"))
        return Loaded("torchvision", tuple(files), folder, partial(_places, folder), note="places365 val")
    return None


def torchvision_class(name: str) -> Any:
    """The class of torchvision that knows the files of a source. Raises: DataMissing without torchvision."""
    try:
        return getattr(importlib.import_module("torchvision.datasets"), str(SOURCES[name].facts["fetch"]))
    except ImportError as error:
        raise DataMissing(f"{name}: its files are read with torchvision ({error})") from error


def _made(name: str, folder: Path, **options: Any) -> Any:
    try:
        return torchvision_class(name)(folder, download=False, **options)
    except (RuntimeError, OSError) as error:
        first = str(error).split(". ")[0]
        raise DataMissing(
            f"{folder}: the published files of {name} are there, but torchvision finds one missing or "
            f"changed ({first}). Get them anew: orchestrate data fetch {name}"
        ) from error


def _arrays(name: str, folder: Path, part: PartName) -> tuple[npt.NDArray[np.uint8], Labels]:
    if name.startswith("cifar"):
        cifar = _made(name, folder, train=part == "train")
        return cifar.data, np.asarray(cifar.targets, dtype=np.int64)
    made = _made(name, folder, split=part)  # [N, 3, H, W]
    return np.asarray(made.data).transpose(0, 2, 3, 1), np.asarray(made.labels, dtype=np.int64)


def _textures(folder: Path, part: PartName) -> tuple[Sequence[Path], Labels]:
    splits = [
        _made("textures", folder, split=split) for split in (["train", "val"], ["test"])[part == "test"]
    ]
    files = [Path(path) for split in splits for path in split._image_files]
    return files, np.concatenate([np.asarray(split._labels, dtype=np.int64) for split in splits])


def _places(folder: Path) -> tuple[Sequence[Path], Labels]:
    made = _made("places365", folder, split="val", small=True)
    return [Path(path) for path, _ in made.imgs], np.asarray(made.targets, dtype=np.int64)


def _has_lists(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("categories_places365.txt", "places365_val.txt"))


def _idx(name: str, folder: Path, beginning: str) -> Loaded | None:
    """The two files of a part in the IDX format, compressed or not, anywhere below ``folder``."""
    found = []
    for ending in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        matches = sorted(folder.rglob(f"{beginning}-{ending}")) or sorted(
            folder.rglob(f"{beginning}-{ending}.gz")
        )
        if not matches:
            return None
        found.append(matches[0])
    images, labels = found

    # Not by torchvision's class: that needs the files unpacked, and these few lines spare loading torch.
    def load() -> tuple[npt.NDArray[np.uint8], Labels]:
        pixels, numbers = read_idx(images, 3), read_idx(labels, 1)
        if len(pixels) != len(numbers):
            raise ValueError(
                f"{labels}: must hold a label for each of {len(pixels)} images; got {len(numbers)}"
            )
        # EMNIST is published with rows and columns exchanged.
        upright = pixels.transpose(0, 2, 1) if name == "emnist" else pixels
        return upright, numbers.astype(np.int64)

    return Loaded("torchvision", (images, labels), folder, load, note=f"idx {name}")


def read_idx(path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    """An array of bytes in the IDX format: magic number 0x0800 + dimensions, sizes, content; big-endian.

    Raises: ValueError where the file is not that, or not whole.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        magic, *shape = struct.unpack_from(f">{dimensions + 1}I", content)
    except (OSError, EOFError, struct.error) as error:
        raise ValueError(f"{path}: not a readable IDX file ({error}). Put it there anew") from error
    wanted = 4 * (dimensions + 1) + int(np.prod(shape))
    if magic != 0x0800 + dimensions or len(content) != wanted:
        raise ValueError(
            f"{path}: an IDX file of {dimensions} dimensions must start with {0x0800 + dimensions} and hold "
            f"{wanted} bytes; got {magic} and {len(content)} bytes. Put it there anew"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=4 * (dimensions + 1)).reshape(shape)
