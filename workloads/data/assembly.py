"""From the raw material to every set that a study needs: chosen, split and named; nothing is copied yet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from workloads.contract import DataConfig, NoiseConfig
from workloads.data.catalogue import SOURCES
from workloads.data.images import Labels, Origin, Part, Pixels, Rows, SourceData
from workloads.data.names import HELD_OUT, SYNTHETIC, set_name
from workloads.data.noise import noise_sets
from workloads.data.ood_sets import Known, held_out, make
from workloads.data.randomness import generator
from workloads.data.splits import select_classes, stratified
from workloads.data.stock import Stock


@dataclass(frozen=True)
class Portion:
    """One set, read block by block."""

    name: str
    kind: str
    """train, validation, test, noise, near or far."""
    parts: tuple[Rows, ...]
    """The images, one after the other."""
    origin: Origin
    labels: Labels | None = None
    dropped_overlap: int | None = None
    """Images left out because they show ID classes, where the files say which do."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Images, channels, height, width."""
        _, channels, height, width = self.parts[0].shape
        return sum(map(len, self.parts)), channels, height, width

    def blocks(self) -> Iterator[Pixels]:
        """The images in order, some at a time."""
        for part in self.parts:
            yield from part.blocks()

    def array(self) -> Pixels:
        """All of them in memory."""
        return np.concatenate(list(self.blocks()))


@dataclass(frozen=True)
class Assembled:
    """Every set of a study, train, validation and test first."""

    num_classes: int
    portions: tuple[Portion, ...]


def assemble(data: DataConfig, noise: NoiseConfig, stock: Stock) -> Assembled:
    """Make every set.

    Validation comes out of the source's training part only, stratified by class, by ``split_seed``; the test
    part is fixed by the source.

    Raises: ValueError for settings that are out of range, and for damaged files.
    """
    if not 0.0 < data.train_fraction <= 1.0:
        raise ValueError(f"train_fraction must be in (0, 1]; got {data.train_fraction!r}")
    stated_normalisation(data)
    source = stock.source()
    classes = _id_classes(data, source)
    train, test = (_chosen(data, part, classes, name) for part, name in _named(source))
    rest, validation = stratified(
        train.labels, data.validation_fraction, generator("validation split", data.split_seed)
    )
    if data.train_fraction < 1.0:
        _, kept = stratified(
            train.labels[rest], data.train_fraction, generator("train fraction", data.split_seed)
        )
        rest = rest[kept]
    known = Known(source, classes, test.rows)
    labelled = [
        Portion("train", "train", (train.rows_at(rest),), train.origin, train.labels[rest]),
        Portion(
            "validation", "validation", (train.rows_at(validation),), train.origin, train.labels[validation]
        ),
        Portion("test", "test", (test.rows,), test.origin, test.labels),
    ]
    made = [
        Portion(name, "noise", (Rows.every(images),), Origin("synthetic"))
        for name, images in noise_sets(noise, known.shape).items()
    ]
    names = [("near", name) for name in data.near_ood] + [("far", name) for name in data.far_ood]
    strange = [_ood(name, kind, known, stock, data) for kind, name in names]
    return Assembled(len(classes), (*labelled, *made, *strange))


def stated_normalisation(data: DataConfig) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The published mean and standard deviation of each channel, where the settings ask for them.

    Raises: ValueError where none are published for the source.
    """
    if data.normalisation == "computed":
        return None
    facts = SOURCES[data.source].facts if data.source in SOURCES else {}
    if "mean" not in facts:
        stated = [name for name, entry in SOURCES.items() if "mean" in entry.facts]
        raise ValueError(
            f"normalisation must be computed for {data.source}: mean and std are stated for "
            f"{', '.join(stated)}; got {data.normalisation!r}"
        )
    mean, std = (tuple(map(float, str(facts[key]).split(","))) for key in ("mean", "std"))
    return mean, std


@dataclass(frozen=True)
class _Chosen:
    """The ID images of one part."""

    rows: Rows
    labels: Labels
    origin: Origin

    def rows_at(self, index: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Rows:
        return Rows(self.rows.base, self.rows.index[index])


def _named(source: SourceData) -> tuple[tuple[Part, str], tuple[Part, str]]:
    return (source.train, "training"), (source.test, "test")


def _chosen(data: DataConfig, part: Part, classes: tuple[int, ...], name: str) -> _Chosen:
    index, labels = select_classes(part.labels, classes)
    empty = [
        label
        for label, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True)
        if not count
    ]
    if empty:
        raise ValueError(
            f"{data.source}: every ID class must have images in the {name} part; got none of class "
            f"{', '.join(map(str, empty[:10]))}{' ...' if len(empty) > 10 else ''}. id_classes chooses others"
        )
    return _Chosen(Rows(part.images, index), labels, part.origin)


def _id_classes(data: DataConfig, source: SourceData) -> tuple[int, ...]:
    for part, name in _named(source):
        if part.labels.min() < 0:
            raise ValueError(
                f"{data.source}: every image of the {name} part must have a label; got one without"
            )
    found = 1 + max(int(source.train.labels.max()), int(source.test.labels.max()))
    num_classes = source.train.num_classes or found
    classes = tuple(range(num_classes)) if data.id_classes is None else data.id_classes
    if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(range(num_classes)):
        raise ValueError(
            f"id_classes must be two or more different labels in 0..{num_classes - 1}; got {list(classes)!r}"
        )
    return classes


def _ood(name: str, kind: str, known: Known, stock: Stock, data: DataConfig) -> Portion:
    if name == HELD_OUT:
        return Portion(name, kind, tuple(held_out(known)), known.source.test.origin)
    if name in SYNTHETIC:
        origin = Origin("synthetic")
        if name == "photo_patches":
            origin = Origin("jpeg", "colour_to_grey" if known.shape[0] == 1 else "none")
        return Portion(name, kind, (Rows.every(make(name, known)),), origin)
    part = stock.ood(name, known.shape)
    overlap = part.overlaps.get(set_name(data.source))
    if overlap is None:
        return Portion(set_name(name), kind, (Rows.every(part.images),), part.origin)
    index = np.flatnonzero(overlap == 0)
    if not len(index):
        raise ValueError(f"the OOD set {name} must have images that show no class of {data.source}; got none")
    return Portion(
        set_name(name),
        kind,
        (Rows(part.images, index),),
        part.origin,
        dropped_overlap=len(overlap) - len(index),
    )
