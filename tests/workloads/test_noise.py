"""The Gaussian-noise validation set."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from workloads.contract import NoiseConfig
from workloads.data.noise import noise_sets

SHAPE = (1, 8, 8)


def test_the_sets_are_named_by_sigma_in_the_given_order() -> None:
    sets = noise_sets(NoiseConfig(sigmas=(0.5, 0.25, 1), size=3), (3, 4, 5))
    assert list(sets) == ["noise_0.5", "noise_0.25", "noise_1.0"]
    assert all(images.shape == (3, 3, 4, 5) and images.dtype == np.uint8 for images in sets.values())


@pytest.mark.parametrize("sigma", [0.05, 0.25, 1.0])
def test_every_grey_level_is_as_frequent_as_the_clipped_gaussian_says(sigma: float) -> None:
    images = noise_sets(NoiseConfig(sigmas=(sigma,), mean=0.4, size=4000), SHAPE)[f"noise_{sigma}"]
    edges = (np.arange(257) - 0.5) / 255.0
    edges[0], edges[-1] = -np.inf, np.inf
    expected = np.diff(norm.cdf(edges, loc=0.4, scale=sigma))
    found = np.bincount(images.ravel(), minlength=256) / images.size
    # 256,000 draws: five standard errors of each level's share.
    assert (np.abs(found - expected) < 5 * np.sqrt(expected / images.size) + 1e-5).all()


def test_no_image_is_ever_repeated_within_or_between_sigmas() -> None:
    sets = noise_sets(NoiseConfig(sigmas=(0.25, 0.26), size=1000), SHAPE)
    assert len({image.tobytes() for images in sets.values() for image in images}) == 2000


def test_the_draws_of_two_sigmas_are_unrelated() -> None:
    sets = noise_sets(NoiseConfig(sigmas=(0.1, 0.11), size=500), SHAPE)
    together = np.corrcoef(sets["noise_0.1"].ravel(), sets["noise_0.11"].ravel())[0, 1]
    # One stream scaled twice would correlate at .99; chance is 1 / sqrt(32,000) = .006.
    assert abs(together) < 0.03


def test_a_set_depends_on_seed_and_sigma_and_on_no_other_sigma() -> None:
    alone = noise_sets(NoiseConfig(sigmas=(0.25,), size=10), SHAPE)["noise_0.25"]
    beside = noise_sets(NoiseConfig(sigmas=(0.5, 0.25), size=10), SHAPE)["noise_0.25"]
    reseeded = noise_sets(NoiseConfig(sigmas=(0.25,), size=10, seed=1), SHAPE)["noise_0.25"]
    np.testing.assert_array_equal(alone, beside)
    assert (alone != reseeded).any()


def test_global_random_state_is_neither_read_nor_changed() -> None:
    np.random.seed(1)
    first = noise_sets(NoiseConfig(size=5), SHAPE)["noise_0.25"]
    after = np.random.random()
    np.random.seed(2)
    second = noise_sets(NoiseConfig(size=5), SHAPE)["noise_0.25"]
    np.testing.assert_array_equal(first, second)
    np.random.seed(1)
    assert np.random.random() == after


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (NoiseConfig(sigmas=()), "one or more different numbers"),
        (NoiseConfig(sigmas=(0.25, 0.25)), "different"),
        (NoiseConfig(sigmas=(0.0,)), "must be > 0; got 0.0"),
        (NoiseConfig(sigmas=(float("nan"),)), "must be > 0"),
        (NoiseConfig(size=0), ">= 1; got 0"),
        (NoiseConfig(sigmas=(1e-6,), mean=0.4), "repeats images"),
    ],
)
def test_settings_that_make_no_noise_set_are_refused(noise: NoiseConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        noise_sets(noise, SHAPE)
