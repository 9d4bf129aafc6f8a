"""Pairs of ID and OOD scores on which rejection metrics can go wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def finite_scores() -> dict[str, tuple[Array, Array]]:
    """ID and OOD scores by what is special about them."""
    rng = np.random.default_rng(3)
    saturated = np.where(rng.random(400) < 0.5, 1.0, rng.random(400))
    return {
        "random": (rng.normal(1, 1, 500), rng.normal(0, 1, 300)),
        "heavily tied": (rng.integers(0, 6, 400) + 1.0, rng.integers(0, 6, 250) + 0.0),
        "saturated": (saturated, np.where(rng.random(200) < 0.1, 1.0, rng.random(200))),
        "all equal": (np.ones(30), np.ones(20)),
        "perfectly separated": (np.arange(10.0) + 100, np.arange(15.0)),
        "perfectly wrong": (np.arange(10.0), np.arange(15.0) + 100),
        "one of each": (np.array([0.5]), np.array([0.4])),
    }
