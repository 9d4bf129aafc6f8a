"""Conformance of every data source: its entry, its facts, and what its loader gives."""

from __future__ import annotations

import importlib
import subprocess
import sys

import numpy as np
import pytest

from workloads.contract import DataConfig, NoiseConfig
from workloads.data.assembly import assemble
from workloads.data.catalogue import SOURCES
from workloads.data.images import SourceData
from workloads.data.sizes import planned_sizes

READABLE = sorted(name for name, entry in SOURCES.items() if entry.path)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_every_entry_has_a_loader_or_says_why_not_and_all_facts(name: str) -> None:
    entry = SOURCES[name]
    assert entry.name == name
    assert bool(entry.path) != bool(entry.missing)
    counts = [int(count) for count in str(entry.facts["class_counts"]).split(",")]
    assert len(counts) == entry.facts["num_classes"]
    assert sum(counts) == int(entry.facts["num_train"]) + int(entry.facts["num_test"])
    sizes = planned_sizes(DataConfig(name))
    assert sizes.num_test == entry.facts["num_test"]
    assert sizes.num_train + sizes.num_validation == entry.facts["num_train"]
    assert {"near_ood", "far_ood", "image_channels", "image_height", "image_width"} <= entry.facts.keys()


@pytest.mark.parametrize("name", READABLE)
def test_every_loader_gives_uint8_images_and_int64_labels_and_the_same_ones_again(name: str) -> None:
    module, _, function = str(SOURCES[name].path).partition(":")
    load = getattr(importlib.import_module(module), function)
    first, second = load(), load()
    assert isinstance(first, SourceData)
    for part, again in ((first.train, second.train), (first.test, second.test)):
        assert (part.images.dtype.name, part.labels.dtype.name) == ("uint8", "int64")
        assert part.images.ndim == 4
        assert len(part.images) == len(part.labels)
        assert np.unique(part.labels).tolist() == list(range(int(SOURCES[name].facts["num_classes"])))
        np.testing.assert_array_equal(part.images, again.images)
        np.testing.assert_array_equal(part.labels, again.labels)


@pytest.mark.parametrize("name", READABLE)
@pytest.mark.parametrize("id_classes", [(0, 1), (7, 2, 5), None])
@pytest.mark.parametrize("validation_fraction", [0.1, 0.2, 0.37])
def test_the_planned_sizes_are_those_that_preparing_finds(
    name: str, id_classes: tuple[int, ...] | None, validation_fraction: float
) -> None:
    data = DataConfig(name, id_classes=id_classes, validation_fraction=validation_fraction)
    planned, facts = planned_sizes(data), assemble(data, NoiseConfig(size=1)).facts
    found = (facts.num_train, facts.num_validation, facts.num_test)
    assert (planned.num_train, planned.num_validation, planned.num_test) == found


@pytest.mark.parametrize("name", READABLE)
def test_every_ood_set_in_the_catalogue_can_be_made(name: str) -> None:
    near, far = (tuple(str(SOURCES[name].facts[key]).split(",")) for key in ("near_ood", "far_ood"))
    data = DataConfig(name, id_classes=(0, 1, 2), near_ood=near, far_ood=far)
    facts = assemble(data, NoiseConfig(size=1)).facts
    kinds = {set_name: facts.sets[set_name]["kind"] for set_name in (*near, *far)}
    assert kinds == {**dict.fromkeys(near, "near"), **dict.fromkeys(far, "far")}


def test_the_catalogues_and_sizes_load_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, workloads.data.catalogue, workloads.data.sizes, workloads.evaluation.catalogue\n"
        "print([name for name in ('numpy', 'torch', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
