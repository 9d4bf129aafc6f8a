"""DAR* against hand values and loops."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from workloads.evaluation.rejection_accuracy import acceptance_threshold, dar

Array = npt.NDArray[Any]


def _looped_threshold(scores: Array, correct: Array) -> float:
    named = [float(s) for s, c in zip(scores, correct, strict=True) if c]
    for threshold in sorted(set(named), reverse=True):
        if Fraction(sum(s >= threshold for s in named), len(named)) >= Fraction(95, 100):
            return threshold
    raise AssertionError("the lowest score accepts every image")


def _looped_share(scores: Array, correct: Array | None, threshold: float) -> float:
    right = 0
    for position, score in enumerate(scores):
        accepted = float(score) >= threshold
        known_and_named = correct is not None and bool(correct[position])
        right += (known_and_named and accepted) or (not known_and_named and not accepted)
    return right / len(scores)


def _cases() -> dict[str, tuple[Array, Array]]:
    rng = np.random.default_rng(5)
    return {
        "random": (rng.normal(size=311), rng.random(311) < 0.8),
        "heavily tied": (rng.integers(0, 7, 200) / 7, rng.random(200) < 0.7),
        "all equal": (np.ones(40), rng.random(40) < 0.5),
        "one correct": (rng.normal(size=9), np.arange(9) == 4),
        "all correct": (rng.normal(size=60), np.ones(60, dtype=bool)),
        "infinite": (np.array([np.inf, np.inf, 1.0, -np.inf]), np.array([True, True, False, True])),
    }


def test_twenty_images_worked_by_hand() -> None:
    # 20 named correctly (scores 1..20): 19 of them reach 2. Of the two wrong ones, 1.5 is rejected.
    clean = np.concatenate([np.arange(1.0, 21.0), [1.5, 30.0]])
    correct = np.array([True] * 20 + [False] * 2)
    assert acceptance_threshold(clean, correct) == 2.0
    corrupt = (np.array([1.0, 2.0, 3.0, 1.0]), np.array([True, True, False, False]))
    found = dar(clean, correct, {"corrupt": corrupt, "novel": (np.array([0.0, 1.9, 2.0]), None)})
    expected = {"clean": 20 / 22, "corrupt": 2 / 4, "novel": 2 / 3, "mean": (20 / 22 + 2 / 4 + 2 / 3) / 3}
    assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("images", "accepted"), [(1, 1), (19, 19), (20, 19), (21, 20), (39, 38), (40, 38)])
def test_the_threshold_accepts_the_fewest_images_that_are_95_percent(images: int, accepted: int) -> None:
    threshold = acceptance_threshold(np.arange(images), np.ones(images, dtype=bool))
    assert images - threshold == accepted


@pytest.mark.parametrize("case", sorted(_cases()))
def test_threshold_and_shares_agree_with_loops(case: str) -> None:
    scores, correct = _cases()[case]
    threshold = _looped_threshold(scores, correct)
    assert acceptance_threshold(scores, correct) == threshold
    others = {f"known {name}": pair for name, pair in _cases().items()}
    unknown = {f"unknown {name}": (values, None) for name, (values, _) in _cases().items()}
    found = dar(scores, correct, {**others, **unknown})
    expected = {"clean": _looped_share(scores, correct, threshold)}
    for name, (values, named) in {**others, **unknown}.items():
        expected[name] = _looped_share(values, named, threshold)
    assert found.pop("mean") == pytest.approx(sum(expected.values()) / len(expected), abs=1e-15)
    assert found == expected


def test_images_that_share_the_threshold_are_accepted_together() -> None:
    found = dar(np.array([0.5] * 30 + [0.9]), np.ones(31, dtype=bool), {"novel": (np.array([0.5]), None)})
    assert found == {"clean": 1.0, "novel": 0.0, "mean": 0.5}


def test_the_measure_depends_on_the_order_of_the_scores_alone() -> None:
    scores, correct = _cases()["random"]
    others = {"novel": (scores[::3], None), "corrupt": (scores[::2] - 0.1, correct[::2])}
    stretched = {name: (np.exp(3 * values), flags) for name, (values, flags) in others.items()}
    shuffle = np.random.default_rng(0).permutation(len(scores))
    assert dar(np.exp(3 * scores)[shuffle], correct[shuffle], stretched) == dar(scores, correct, others)


def test_clean_images_alone_have_a_mean() -> None:
    assert dar(np.array([1.0, 2.0]), np.array([True, True]), {}) == {"clean": 1.0, "mean": 1.0}


def test_input_that_says_nothing_is_refused() -> None:
    scores, correct = _cases()["random"]
    with pytest.raises(ValueError, match="needs a correctly classified clean image; got none of 311"):
        acceptance_threshold(scores, np.zeros(311, dtype=bool))
    with pytest.raises(ValueError, match=r"clean: correct must be bool.*got int64"):
        dar(scores, correct.astype(np.int64), {})
    with pytest.raises(ValueError, match="novel: scores must be numbers; got NaN"):
        dar(scores, correct, {"novel": (np.array([1.0, np.nan]), None)})
    with pytest.raises(ValueError, match=r"novel: .*got \[0\] and \[0\]"):
        dar(scores, correct, {"novel": (np.zeros(0), None)})
    with pytest.raises(ValueError, match=r"corrupt: .*got \[311\] and \[310\]"):
        dar(scores, correct, {"corrupt": (scores, correct[1:])})
    for name in ("clean", "mean"):
        with pytest.raises(ValueError, match=f"may not be called clean or mean; got '{name}'"):
            dar(scores, correct, {name: (scores, None)})
