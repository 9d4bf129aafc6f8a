"""Image sets as folders of image files: ``train/<class>/*`` and ``test/<class>/*``, or images alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from workloads.data.images import Labels
from workloads.data.readers import TEST_NAMES, Loaded, PartName, unlabelled

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
_ANNOTATIONS = "val_annotations.txt"


def find(folder: Path, part: PartName) -> Loaded | None:
    """The part in ``<folder>/<part>/``, or, as a test part, all images below a folder without parts.

    A class is a folder directly below; classes are numbered in the order of their names in the training part.
    Tiny ImageNet's ``val/val_annotations.txt`` is read where it is there. An image that lies in no class's
    folder is unlabelled.
    """
    train = folder / "train"
    if part == "train":
        place: Path | None = train
    else:
        place = next((folder / name for name in TEST_NAMES if (folder / name).is_dir()), None)
        if place is None and not train.is_dir():
            place = folder
    if place is None or not place.is_dir():
        return None
    files = _images(place)
    if not files:
        return None
    classes = _classes(train if train.is_dir() else place)
    annotations = place / _ANNOTATIONS
    extra = (annotations,) if annotations.is_file() else ()

    def load() -> tuple[Sequence[Path], Labels]:
        return files, _labels(files, place, classes, annotations)

    return Loaded(
        layout="folder",
        files=tuple(sorted((*files, *extra))),
        base=place,
        load=load,
        size=len(files),
        note="folder " + "/".join(classes),
        num_classes=len(classes) or None,
    )


def _images(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())


def _classes(place: Path) -> list[str]:
    return sorted(each.name for each in place.iterdir() if each.is_dir() and not each.name.startswith("."))


def _labels(files: Sequence[Path], place: Path, classes: Sequence[str], annotations: Path) -> Labels:
    """The class of every file. Raises: ValueError for a class that the training part lacks."""
    number = {name: label for label, name in enumerate(classes)}
    stated: dict[str, str] = {}
    if annotations.is_file():
        lines = annotations.read_text(encoding="utf-8").splitlines()
        stated = {fields[0]: fields[1] for line in lines if len(fields := line.split()) >= 2}
    labels = unlabelled(len(files))
    for i, path in enumerate(files):
        below = path.relative_to(place).parts
        name = stated.get(path.name) if stated else below[0] if len(below) > 1 else None
        if name is None:
            continue
        if name not in number:
            raise ValueError(
                f"{path}: the class must be one of the training part's {len(classes)}; got {name!r}"
            )
        labels[i] = number[name]
    return np.asarray(labels, dtype=np.int64)
