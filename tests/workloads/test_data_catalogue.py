"""Conformance of every data source: its entry, its facts, and what is said where it is not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workloads.contract import DataConfig, DataMissing, NoiseConfig
from workloads.data.catalogue import SOURCES
from workloads.data.location import find
from workloads.data.names import ood_problems
from workloads.data.prepared import prepare
from workloads.data.sizes import planned_sizes

IMAGES = sorted(name for name in SOURCES if name != "digits")


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_the_facts_of_every_entry_agree_with_each_other(name: str) -> None:
    entry = SOURCES[name]
    facts = entry.facts
    assert entry.name == name
    assert entry.path is not None
    every, test = (_numbers(str(facts[key])) for key in ("class_counts", "test_counts"))
    assert len(every) == len(test) == facts["num_classes"]
    if facts["num_classes"]:
        assert sum(test) == facts["num_test"]
        assert sum(every) == int(facts["num_train"]) + int(facts["num_test"])
    assert int(facts["num_test"]) > 0
    for key in ("near_ood", "far_ood"):
        named = [each for each in str(facts[key]).split(",") if each]
        assert ood_problems(name, named) == []
    if "mean" in facts:
        channels = int(facts["image_channels"])
        assert len(str(facts["mean"]).split(",")) == len(str(facts["std"]).split(",")) == channels


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


@pytest.mark.parametrize("name", sorted(n for n in SOURCES if SOURCES[n].facts["num_train"]))
def test_the_planned_sizes_add_up_to_the_published_ones(name: str) -> None:
    sizes = planned_sizes(DataConfig(name))
    assert sizes is not None
    assert sizes.num_test == SOURCES[name].facts["num_test"]
    assert sizes.num_train + sizes.num_validation == SOURCES[name].facts["num_train"]


def test_nothing_is_planned_of_a_folder() -> None:
    assert planned_sizes(DataConfig("./photographs")) is None


@pytest.mark.parametrize("name", IMAGES)
def test_every_set_of_image_files_says_how_to_get_it_where_it_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataMissing) as caught:
        find(name, "test", tmp_path)
    said = str(caught.value)
    assert str(tmp_path / name) in said
    assert str(SOURCES[name].facts["get"]) in said
    assert ("orchestrate data fetch" in said) == ("fetch" in SOURCES[name].facts)


@pytest.mark.parametrize("id_classes", [(0, 1), (7, 2, 5), None])
@pytest.mark.parametrize(("validation_fraction", "train_fraction"), [(0.1, 1.0), (0.2, 0.5), (0.37, 0.013)])
def test_the_planned_sizes_are_those_that_preparing_finds(
    id_classes: tuple[int, ...] | None, validation_fraction: float, train_fraction: float, tmp_path: Path
) -> None:
    data = DataConfig(
        "digits",
        id_classes=id_classes,
        validation_fraction=validation_fraction,
        train_fraction=train_fraction,
    )
    planned, facts = planned_sizes(data), prepare(data, NoiseConfig(size=1), tmp_path)
    assert planned is not None
    found = (facts.num_train, facts.num_validation, facts.num_test)
    assert (planned.num_train, planned.num_validation, planned.num_test) == found


def test_every_usual_ood_set_of_the_digits_can_be_made(tmp_path: Path) -> None:
    near, far = (tuple(str(SOURCES["digits"].facts[key]).split(",")) for key in ("near_ood", "far_ood"))
    data = DataConfig("digits", id_classes=(0, 1, 2), near_ood=near, far_ood=far)
    facts = prepare(data, NoiseConfig(size=1), tmp_path)
    kinds = {set_name: facts.sets[set_name]["kind"] for set_name in (*near, *far)}
    assert kinds == {**dict.fromkeys(near, "near"), **dict.fromkeys(far, "far")}


def test_the_catalogues_and_sizes_load_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, workloads.data.names, workloads.data.sizes, workloads.evaluation.catalogue\n"
        "print([name for name in ('numpy', 'torch', 'sklearn', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
