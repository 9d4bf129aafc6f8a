"""Real image sets, where they stand beside the checkout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SHARED
from workloads.contract import DataConfig, NoiseConfig
from workloads.data.prepared import PreparedData, prepare

SOURCES = SHARED / "data"
NOISE = NoiseConfig(size=5)


@pytest.mark.shared
def test_cifar10_has_its_known_mean_and_its_known_neighbours(tmp_path: Path) -> None:
    data = DataConfig(
        "cifar10", validation_fraction=0.1, near_ood=("cifar100", "tinyimagenet"), far_ood=("mnist", "svhn")
    )
    facts = prepare(data, NOISE, tmp_path, SOURCES)
    assert (facts.num_train, facts.num_validation, facts.num_test) == (45_000, 5_000, 10_000)
    opened = PreparedData.open(data, NOISE, tmp_path, stage="confirm")
    # Known of all 50,000 training images; of 45,000 the mean varies by .2454 / sqrt(45,000) / 3 = .0004.
    assert opened.mean == pytest.approx((0.4913, 0.4821, 0.4465), abs=0.001)
    assert opened.std == pytest.approx((0.2452, 0.2428, 0.2606), abs=0.001)
    assert np.bincount(opened.train().labels).tolist() == [4500] * 10
    tiny = facts.sets["tinyimagenet"]
    assert (tiny["size"], tiny["dropped_overlap"]) == (4250, 750)
    # One test image of CIFAR-100 is, to the pixel, a training image of CIFAR-10.
    assert facts.sets["cifar100"]["duplicates_of_train"] == 1
    assert facts.sets["mnist"]["conversion"] == "resize 28->32, grey_to_colour"
    assert (facts.sets["mnist"]["encoding"], facts.sets["svhn"]["encoding"]) == ("png", "jpeg")


@pytest.mark.shared
@pytest.mark.parametrize("name", ["mnist", "fashionmnist"])
def test_the_stated_constants_of_grey_sets_are_those_of_real_images(name: str, tmp_path: Path) -> None:
    data = DataConfig(name)
    prepare(data, NOISE, tmp_path, SOURCES)
    computed = PreparedData.open(data, NOISE, tmp_path, stage="search")
    stated = PreparedData.open(DataConfig(name, normalisation="stated"), NOISE, tmp_path, stage="search")
    # 9,600 of the 60,000 images: their mean varies by a hundredth of the spread between images' means.
    assert computed.mean == pytest.approx(stated.mean, abs=0.003)
    assert computed.std == pytest.approx(stated.std, abs=0.003)
