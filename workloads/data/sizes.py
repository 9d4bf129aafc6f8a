"""How many images each part of a data set will have, from the catalogue alone (no numpy, no file is read)."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.contract import DataConfig
from workloads.data.catalogue import SOURCES
from workloads.data.names import is_path


@dataclass(frozen=True)
class Sizes:
    """Images in each part, for the classes that are in-distribution."""

    num_train: int
    """After the validation split, and of the share that ``train_fraction`` keeps."""
    num_validation: int
    num_test: int
    train_counts: tuple[int, ...] = ()
    """Training images of each class."""


def share(count: int, fraction: float) -> int:
    """How many of ``count`` images of one class a stratified split takes: the nearest whole number (halves
    upwards), but always at least one, and at least one is left."""
    return min(max(int(count * fraction + 0.5), 1), count - 1)


def planned_sizes(data: DataConfig) -> Sizes | None:
    """The sizes that ``prepare`` will find for this configuration, where the files are those published.

    Returns: None for a folder, of which nothing is known before it is read.
    Raises: KeyError for an unknown source, IndexError for an unknown class.
    """
    if is_path(data.source):
        return None
    every, test = (
        [int(count) for count in str(SOURCES[data.source].facts[key]).split(",")]
        for key in ("class_counts", "test_counts")
    )
    classes = range(len(every)) if data.id_classes is None else data.id_classes
    before = [every[label] - test[label] for label in classes]
    validation = [share(count, data.validation_fraction) for count in before]
    train = [count - taken for count, taken in zip(before, validation, strict=True)]
    if data.train_fraction < 1.0:
        train = [share(count, data.train_fraction) for count in train]
    return Sizes(sum(train), sum(validation), sum(test[label] for label in classes), tuple(train))
