"""The folder of raw sources, as a user keeps it: what is there, whether it is sound, and fetching more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.contract import DataMissing
from workloads.data.catalogue import SOURCES
from workloads.data.conversion import Raw
from workloads.data.decoding import check_label, pixels_at
from workloads.data.download import Progress, download, published
from workloads.data.images import UNLABELLED
from workloads.data.location import find, how_to_get
from workloads.data.names import is_path, must_be, path_of
from workloads.data.readers import Batch, Loaded, PartName, Reader

_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Status:
    """What of a source is there."""

    name: str
    folder: Path | None
    """None for what comes with a library."""
    layout: str | None
    """``parquet``, ``torchvision`` (the published files), ``folder`` or ``bundled``; None: none is."""
    num_train: int | None
    """Images of the training part; None: it is not there, or damaged."""
    num_test: int | None
    size_bytes: int
    hint: str
    """What is damaged, or how to get what is not there; empty where all is well."""


def status(name: str, sources: Path) -> Status:
    """What of a source is there; quick, because no image is read.

    Raises: ValueError for a name that is neither in the catalogue nor a path.
    """
    _require_known(name)
    found: dict[PartName, Reader] = {}
    counts: dict[PartName, int] = {}
    hint = ""
    for part in _parts(name):
        try:
            found[part] = find(name, part, sources)
            counts[part] = _count(name, part, found[part])
        except DataMissing as error:
            hint = hint or (str(error) if is_path(name) else how_to_get(name, sources / name))
        except ValueError as error:
            hint = str(error)
    files = {path for reader in found.values() for path in reader.files}
    return Status(
        name=name,
        folder=None if name == "digits" else path_of(name)[0] if is_path(name) else sources / name,
        layout=next((reader.layout for reader in found.values()), None),
        num_train=counts.get("train"),
        num_test=counts.get("test"),
        size_bytes=sum(path.stat().st_size for path in files),
        hint=hint,
    )


def check(name: str, sources: Path) -> list[str]:
    """Decode every image of a source and look at every label; what is wrong, in sentences.

    Raises: ValueError for a name that is neither in the catalogue nor a path.
    """
    _require_known(name)
    problems = []
    for part in _parts(name):
        try:
            problems += _faults(name, part, find(name, part, sources))
        except (DataMissing, ValueError) as error:
            problems.append(str(error))
    return problems


def fetch(name: str, sources: Path, progress: Callable[[Progress], None]) -> Path:
    """Download a source into ``sources/<name>``, unless it is there; returns that folder.

    Raises: ValueError for a name that is not in the catalogue, or files whose checksum is wrong; DataMissing
        for a source that has no published checksum; ConnectionError where the network fails, after which the
        same call goes on where this one stopped.
    """
    if name not in SOURCES:
        raise ValueError(must_be("a data source", name, SOURCES))
    folder = sources / name
    if name == "digits":
        raise ValueError("digits is never fetched: it comes with scikit-learn")
    if _intact(name, sources):
        return folder
    if "fetch" not in SOURCES[name].facts:
        raise DataMissing(f"{name}: {how_to_get(name, folder)} (source: {SOURCES[name].source})")
    download(published(name), folder, progress)
    return folder


def _intact(name: str, sources: Path) -> bool:
    """Whether every part is there, and published files have the content that torchvision expects."""
    try:
        for part in _parts(name):
            reader = find(name, part, sources)
            if isinstance(reader, Loaded) and reader.layout == "torchvision":
                reader.load()
    except (DataMissing, ValueError):
        return False
    return True


def _faults(name: str, part: PartName, reader: Reader) -> list[str]:
    stated = [] if is_path(name) else [int(n) for n in _published_counts(name, part)]
    num_classes = len(stated) or reader.num_classes
    problems: list[str] = []
    labels: Counter[int] = Counter()
    shapes: Counter[tuple[int, int, int]] = Counter()
    for batch in reader.batches():
        for row in range(len(batch)):
            try:
                check_label(batch, row, num_classes)
                shapes[_shape_of(batch, row)] += 1
            except ValueError as error:
                problems.append(str(error))
            labels[int(batch.labels[row])] += 1
    del labels[UNLABELLED]
    here = f"{name}, {part} part"
    if len(problems) > _MOST_PROBLEMS:
        problems = [*problems[:_MOST_PROBLEMS], f"{here}: {len(problems) - _MOST_PROBLEMS} more of this kind"]
    if is_path(name) and len(shapes) > 1:
        problems.append(
            f"{here}: images have {len(shapes)} shapes: as ID data it must be named {name}@<side>"
        )
    if empty := [label for label in range(num_classes or 0) if labels and not labels[label]]:
        problems.append(f"{here}: {len(empty)} classes have no image, the first is {empty[0]}")
    wrong = [label for label, count in enumerate(stated) if labels[label] not in (0, count)]
    if wrong:
        label = wrong[0]
        problems.append(
            f"{here}: {len(wrong)} classes do not have the published number of images: class {label} has "
            f"{labels[label]}, not {stated[label]}"
        )
    return problems


def _shape_of(batch: Batch, row: int) -> tuple[int, int, int]:
    raw: Raw = pixels_at(batch, row, None, None)[1]
    return raw.channels, raw.height, raw.width


def _published_counts(name: str, part: PartName) -> list[int]:
    every, test = (
        [int(count) for count in str(SOURCES[name].facts[key]).split(",") if count]
        for key in ("class_counts", "test_counts")
    )
    return test if part == "test" else [a - b for a, b in zip(every, test, strict=True)]


def _count(name: str, part: PartName, reader: Reader) -> int:
    # Published files are not opened to count: torchvision would read and hash them all.
    known = reader.layout in ("torchvision", "bundled") and not is_path(name)
    return int(SOURCES[name].facts[f"num_{part}"]) if known else reader.count()


def _parts(name: str) -> tuple[PartName, ...]:
    return ("train", "test") if is_path(name) or SOURCES[name].facts["num_train"] else ("test",)


def _require_known(name: str) -> None:
    if not is_path(name) and name not in SOURCES:
        raise ValueError(must_be("a data source", name, SOURCES))
