"""From a data source to every array that a study needs: split, checked, hashed."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.catalogue import Value
from workloads.contract import DataConfig, DataFacts, DataMissing, NoiseConfig
from workloads.data.catalogue import SOURCES
from workloads.data.images import Images, Pixels, SourceData
from workloads.data.noise import noise_sets
from workloads.data.ood_sets import Known, make
from workloads.data.randomness import generator
from workloads.data.splits import select_classes, stratified


@dataclass(frozen=True)
class Assembled:
    """Everything that is prepared, still in memory."""

    facts: DataFacts
    mean: tuple[float, ...]
    std: tuple[float, ...]
    arrays: dict[str, tuple[str, npt.NDArray[Any]]]
    """(kind of the set, array) by file name without ending; labels end in ``_labels``."""


def assemble(data: DataConfig, noise: NoiseConfig) -> Assembled:
    """Read the source and make every set.

    Validation comes out of the source's training part only, stratified by class, by ``split_seed``; the test
    part is fixed by the source.

    Raises: ValueError for settings that name unknown or impossible sets; DataMissing where files are not
        there.
    """
    source = _load(data)
    classes = _id_classes(data, int(source.train.labels.max()) + 1)
    train, validation = stratified(
        select_classes(source.train, classes),
        data.validation_fraction,
        generator("validation split", data.split_seed),
    )
    test = select_classes(source.test, classes)
    _, channels, height, width = test.images.shape
    shape = (channels, height, width)
    labelled = {"train": train, "validation": validation, "test": test}
    unlabelled: dict[str, tuple[str, Pixels]] = {
        name: ("noise", images) for name, images in noise_sets(noise, shape).items()
    }
    known = Known(source, classes, test.images)
    unlabelled |= {name: ("near", make(name, known)) for name in data.near_ood}
    unlabelled |= {name: ("far", make(name, known)) for name in data.far_ood}
    sets = _describe(labelled, unlabelled)
    facts = DataFacts(
        hash=_digest(
            json.dumps([[name, each["kind"], each["hash"]] for name, each in sets.items()]).encode()
        ),
        num_train=len(train),
        num_validation=len(validation),
        num_test=len(test),
        num_classes=len(classes),
        image_shape=shape,
        sets=sets,
    )
    arrays: dict[str, tuple[str, npt.NDArray[Any]]] = {}
    for name, images in labelled.items():
        arrays |= {name: (name, images.images), f"{name}_labels": (name, images.labels)}
    pixels = train.images / 255.0
    std = pixels.std(axis=(0, 2, 3))
    return Assembled(
        facts=facts,
        mean=tuple(pixels.mean(axis=(0, 2, 3)).tolist()),
        # A constant channel would be divided by 0.
        std=tuple(np.where(std > 0.0, std, 1.0).tolist()),
        arrays=arrays | unlabelled,
    )


def _load(data: DataConfig) -> SourceData:
    """The source's content, after everything that can be said without reading it."""
    if data.source not in SOURCES:
        raise ValueError(_unknown("a data source", data.source, list(SOURCES)))
    entry = SOURCES[data.source]
    for key, names in (("near_ood", data.near_ood), ("far_ood", data.far_ood)):
        offered = str(entry.facts[key]).split(",")
        for name in names:
            if name not in offered:
                raise ValueError(_unknown(f"a {key} set of {data.source}", name, offered))
        if len(set(names)) < len(names):
            raise ValueError(f"{key} must name every set once; got {list(names)!r}")
    if entry.path is None:
        raise DataMissing(entry.missing)
    module, _, function = entry.path.partition(":")
    load: Callable[[], SourceData] = getattr(importlib.import_module(module), function)
    return load()


def _id_classes(data: DataConfig, num_classes: int) -> tuple[int, ...]:
    classes = tuple(range(num_classes)) if data.id_classes is None else data.id_classes
    if len(classes) < 2 or len(set(classes)) < len(classes) or not set(classes) <= set(range(num_classes)):
        raise ValueError(
            f"id_classes must be two or more different labels in 0..{num_classes - 1}; got {list(classes)!r}"
        )
    return classes


def _unknown(what: str, name: str, offered: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, offered, n=1)
    hint = f". Did you mean {close[0]!r}?" if close else ""
    return f"{what} must be one of {', '.join(offered)}; got {name!r}{hint}"


def _describe(
    labelled: dict[str, Images], unlabelled: dict[str, tuple[str, Pixels]]
) -> dict[str, dict[str, Value]]:
    """Kind, size and content hash of every set, by name."""
    sets: dict[str, dict[str, Value]] = {}
    for name, images in labelled.items():
        sets[name] = {
            "kind": name,
            "size": len(images),
            "hash": _digest(_content(images.images), _content(images.labels)),
        }
    for name, (kind, pixels) in unlabelled.items():
        sets[name] = {"kind": kind, "size": len(pixels), "hash": _digest(_content(pixels))}
    return sets


def _content(array: npt.NDArray[Any]) -> bytes:
    return f"{array.dtype.str}{list(array.shape)}".encode() + array.tobytes()


def _digest(*parts: bytes) -> str:
    """First 16 hex digits of the SHA-256 of the parts, one after the other."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
