"""The distance to the k-th neighbour is that of a naive computation, to the last bit and in little memory."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neighbors import NearestNeighbors

from workloads.evaluation.evidence import DoesNotFit, Evidence, Head
from workloads.evaluation.scores import neighbours
from workloads.evaluation.scores.neighbours import KNN

Floats = npt.NDArray[np.float64]
HEAD = Head("linear", np.zeros((2, 1), dtype=np.float32))


def evidence_of(features: npt.NDArray[Any]) -> Evidence:
    return Evidence(np.zeros((len(features), 2)), features)


def scored(train: npt.NDArray[Any], queries: npt.NDArray[Any], k: int, normalise: bool = True) -> Floats:
    detector = KNN(k=k, normalise=normalise)
    detector.fit(evidence_of(train), HEAD)
    return detector(evidence_of(queries))


def naive(train: npt.NDArray[Any], queries: npt.NDArray[Any], k: int, normalise: bool = True) -> Floats:
    """Every difference, in float64."""
    T, Q = train.astype(np.float64), queries.astype(np.float64)
    if normalise:
        T, Q = (
            X / np.where(np.linalg.norm(X, axis=1) > 0, np.linalg.norm(X, axis=1), 1.0)[:, None]
            for X in (T, Q)
        )
    return -np.array([np.sort(np.sqrt(((T - q) ** 2).sum(axis=1)))[k - 1] for q in Q])


def clusters(spread: float, images: int, seed: int, dtype: Any = np.float32) -> npt.NDArray[Any]:
    generator = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(5, 33))
    drawn = centres[generator.integers(0, 5, images)] + spread * generator.normal(size=(images, 33))
    return np.asarray(drawn, dtype=dtype)


@pytest.mark.parametrize("spread", [1.0, 0.1, 1e-2, 1e-4, 1e-6, 0.0])
@pytest.mark.parametrize("k", [1, 7, 50])
def test_the_distance_is_the_naive_one_however_close_the_features_are(spread: float, k: int) -> None:
    train, queries = clusters(spread, 3001, 0), clusters(spread, 40, 1)
    # Of coordinates rounded to 1e-16, a distance of 1e-7 keeps nine digits: the naive one is no better.
    np.testing.assert_allclose(scored(train, queries, k), naive(train, queries, k), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15, 1e30])
def test_the_distance_of_features_as_they_are_is_the_naive_one_at_every_scale(scale: float) -> None:
    train = clusters(0.3, 2000, 0, np.float64) * scale
    queries = clusters(0.3, 30, 1, np.float64) * scale
    queries[::3] *= 1e45
    expected = naive(train, queries, 9, normalise=False)
    np.testing.assert_allclose(scored(train, queries, 9, normalise=False), expected, rtol=1e-12)


def test_a_query_too_long_for_float32_is_measured_all_the_same() -> None:
    train = np.concatenate([np.linspace(0.1, 1.0, 10), np.linspace(-1.0, -0.1, 190)])[:, None]
    # To float32 ten products are minus infinity and 190 infinity; to float64 all distances are the query's.
    assert scored(train, np.array([[1e45]]), 5, normalise=False).tolist() == [-1e45]


def test_the_distance_is_scikit_learns() -> None:
    train, queries = clusters(0.5, 1500, 0), clusters(0.5, 30, 1)
    T, Q = (X / np.linalg.norm(X.astype(np.float64), axis=1, keepdims=True) for X in (train, queries))
    found = NearestNeighbors(n_neighbors=20).fit(T).kneighbors(Q)[0][:, -1]
    # scikit-learn takes distances from products: squares that lose up to 1e-15 by cancellation.
    np.testing.assert_allclose(-scored(train, queries, 20), found, rtol=1e-12)


def test_the_kth_neighbour_of_a_hand_computed_row() -> None:
    train = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    query = np.array([[5.0, 0.0]])
    assert [scored(train, query, k)[0] for k in (1, 2, 3)] == [0.0, -np.sqrt(2.0), -2.0]


def test_a_vector_of_zeros_stays_zero_at_distance_one_from_every_other() -> None:
    train = np.array([[0.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    assert scored(train, np.zeros((1, 2)), 1).tolist() == [0.0]
    assert scored(train, np.zeros((1, 2)), 2).tolist() == [-1.0]
    assert scored(train, np.array([[1.0, 0.0]]), 1).tolist() == [-1.0]


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-6])
def test_block_sizes_do_not_change_a_bit(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    train, queries = clusters(spread, 3001, 0), clusters(spread, 50, 1)
    whole = scored(train, queries, 12)
    for name, size in (("QUERIES", 3), ("TRAINING_ROWS", 160), ("PAIRS", 7), ("STRIDE", 4)):
        monkeypatch.setattr(neighbours, name, size)
        np.testing.assert_array_equal(scored(train, queries, 12), whole)


@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-6])
def test_neither_products_nor_their_absence_change_a_bit(
    spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, queries = clusters(spread, 2000, 0), clusters(spread, 20, 1)
    mixed = scored(train, queries, 12)

    def proves_nothing(detector: KNN, X: Floats, number: Any) -> tuple[Floats, npt.NDArray[np.bool_]]:
        return np.full(len(X), np.nan), np.zeros(len(X), dtype=bool)

    monkeypatch.setattr(KNN, "_by_products", proves_nothing)
    np.testing.assert_array_equal(scored(train, queries, 12), mixed)


def test_float32_products_settle_spread_features_and_float64_those_close_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked_and_proven: dict[str, tuple[int, int]] = {}
    inner = KNN._by_products

    def counted(detector: KNN, X: Floats, number: Any) -> tuple[Floats, npt.NDArray[np.bool_]]:
        found, settled = inner(detector, X, number)
        asked, proven = asked_and_proven.get(number.__name__, (0, 0))
        asked_and_proven[number.__name__] = (asked + len(X), proven + int(settled.sum()))
        return found, settled

    monkeypatch.setattr(KNN, "_by_products", counted)
    scored(clusters(1.0, 3000, 0), clusters(1.0, 300, 1), 12)
    assert asked_and_proven == {"float32": (300, 300)}
    asked_and_proven.clear()
    scored(clusters(1e-4, 3000, 0), clusters(1e-4, 300, 1), 12)
    # The first block shows that float32 does not help; the second does not ask it.
    assert asked_and_proven == {"float32": (256, 0), "float64": (300, 300)}


def test_the_bound_on_rounding_holds() -> None:
    # Products of float32 whose terms cancel: the worst that the proof must cover.
    generator = np.random.default_rng(0)
    train = np.abs(generator.normal(size=(4000, 512)))
    queries = np.abs(generator.normal(size=(200, 512)))
    np.testing.assert_array_equal(scored(train, queries, 5), naive(train, queries, 5))


def test_more_neighbours_than_training_images_do_not_fit() -> None:
    with pytest.raises(DoesNotFit, match="k = 50 and 49 images"):
        KNN().fit(evidence_of(np.ones((49, 2))), HEAD)
    with pytest.raises(DoesNotFit, match="k = 50 and 0 images"):
        KNN().fit(None, HEAD)
    KNN().fit(evidence_of(np.ones((50, 2))), HEAD)


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_k_must_be_a_whole_number_from_one(k: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"k must be a whole number >= 1; got {k}")):
        KNN(k=k)


def test_every_training_image_can_be_the_kth_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = KNN._one_by_one
    left: list[int] = []

    def counted(detector: KNN, X: Floats) -> Floats:
        left.append(len(X))
        return inner(detector, X)

    monkeypatch.setattr(KNN, "_one_by_one", counted)
    train, queries = clusters(1.0, 37, 0), clusters(1.0, 9, 1)
    np.testing.assert_allclose(scored(train, queries, 37), naive(train, queries, 37), rtol=1e-14)
    assert left == [0]


def test_features_that_do_not_match_or_are_not_finite_are_refused() -> None:
    detector = KNN(k=1)
    with pytest.raises(ValueError, match="features must be finite"):
        detector.fit(evidence_of(np.array([[np.nan]])), HEAD)
    detector.fit(evidence_of(np.ones((2, 3))), HEAD)
    with pytest.raises(ValueError, match="fitted on 3 features; got 4"):
        detector(evidence_of(np.ones((2, 4))))
    assert detector(evidence_of(np.ones((0, 3)))).shape == (0,)


PROGRAM = """
import hashlib, resource
import numpy as np
from workloads.evaluation.evidence import Evidence, Head
from workloads.evaluation.scores.neighbours import KNN

generator = np.random.default_rng(0)
train, queries = (generator.normal(size=(n, {features})).astype(np.float32) for n in ({train}, {queries}))
detector = KNN()
head = Head("linear", np.zeros((2, {features}), np.float32))
detector.fit(Evidence(np.zeros((len(train), 2)), train), head)
found = detector(Evidence(np.zeros((len(queries), 2)), queries))
print(hashlib.sha256(found.tobytes()).hexdigest(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def in_a_process(threads: int, **sizes: int) -> tuple[str, float]:
    """The scores' hash, and the peak of resident memory in GiB."""
    environment = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(**sizes)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    digest, gibibytes = done.stdout.split()
    return digest, float(gibibytes)


def test_the_number_of_threads_does_not_change_a_bit() -> None:
    sizes = {"train": 3000, "queries": 300, "features": 100}
    assert in_a_process(1, **sizes)[0] == in_a_process(4, **sizes)[0]


@pytest.mark.slow
def test_fifty_thousand_training_images_of_512_features_need_less_than_four_gibibytes() -> None:
    # Memory does not depend on the number of queries but for their own features: a tenth shows it.
    assert in_a_process(2, train=50_000, queries=1_000, features=512)[1] < 4.0
