"""How many images each part of a data set will have, from the catalogue alone (no numpy, no file is read)."""

from __future__ import annotations

from dataclasses import dataclass

from workloads.contract import DataConfig
from workloads.data.catalogue import SOURCES


@dataclass(frozen=True)
class Sizes:
    """Images in each part, for the classes that are in-distribution."""

    num_train: int
    """After the validation split."""
    num_validation: int
    num_test: int


def share(count: int, fraction: float) -> int:
    """How many of ``count`` images of one class a stratified split takes: the nearest whole number (halves
    upwards), but always at least one, and at least one is left."""
    return min(max(int(count * fraction + 0.5), 1), count - 1)


def planned_sizes(data: DataConfig) -> Sizes:
    """The sizes that ``prepare`` will find for this configuration.

    Raises: KeyError for an unknown source, IndexError for an unknown class.
    """
    facts = SOURCES[data.source].facts
    counts = [int(count) for count in str(facts["class_counts"]).split(",")]
    classes = range(len(counts)) if data.id_classes is None else data.id_classes
    test = [share(counts[label], float(facts["test_fraction"])) for label in classes]
    train = [counts[label] - taken for label, taken in zip(classes, test, strict=True)]
    validation = [share(count, data.validation_fraction) for count in train]
    return Sizes(sum(train) - sum(validation), sum(validation), sum(test))
