"""Distance to the k-th nearest training image: exact, in blocks, the same on every machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.evaluation.evidence import DoesNotFit, Evidence, Floats, Head

Indices = npt.NDArray[np.intp]
Number = type[np.float32] | type[np.float64]

QUERIES = 256
"""Images worked on at a time."""
TRAINING_ROWS = 2**16
"""Training images that a product of matrices covers: with 256 queries, 128 MiB in float64."""
STRIDE = 16
"""Candidates are looked for in groups of so many: one comparison a number leaves one in 16 to sort."""
PAIRS = 2048
"""Differences taken at a time."""
_UNIT = {kind: float(np.finfo(kind).eps) / 2 for kind in (np.float32, np.float64)}
"""Largest relative error of one rounding."""


class KNN:
    """Minus the Euclidean distance to the k-th nearest training image, among normalised features.

    Exact: products of matrices, in float32 and where that is not enough in float64, only choose candidates,
    and a bound on their rounding proves that none is missed. The distance itself is the square root of the
    summed squares of differences in float64. It depends neither on the sizes of blocks nor on threads.

    A vector of zeros has no direction: it stays zero, at distance 1 from every other.

    Args:
        k: which neighbour, >= 1; with training images as queries, the image itself is the first.
        normalise: divide each image's features by their L2 norm.
    Raises: ValueError where k is not a whole number >= 1.
    Source: Sun et al. 2022 (arXiv 2204.06507).
    Differs from source: no 1e-10 is added to a norm, and the neighbours are exact.
    """

    def __init__(self, *, k: int = 50, normalise: bool = True) -> None:
        if int(k) != k or k < 1:
            raise ValueError(f"k must be a whole number >= 1; got {k!r}")
        self.k, self.normalise = int(k), bool(normalise)

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Keep the training images' features.

        Raises: DoesNotFit for fewer than k training images; ValueError for features that are not finite.
        """
        found = 0 if train is None else len(train)
        if train is None or found < self.k:
            raise DoesNotFit(f"knn needs k training images or more; got k = {self.k} and {found} images")
        self._train = self._prepared(train.feature_rows())
        self._longest = float(np.sqrt(np.square(self._train).sum(axis=1).max()))
        self._tables: dict[Number, npt.NDArray[Any]] = {}

    def __call__(self, evidence: Evidence) -> Floats:
        """Minus the distance, 0 or less, [images].

        Raises: ValueError where the images have more or fewer features than the training images.
        """
        distances = np.empty(len(evidence))
        types: list[Number] = [np.float32, np.float64]
        for start in range(0, len(distances), QUERIES):
            rows = slice(start, start + QUERIES)
            X = self._prepared(evidence.feature_rows(rows))
            if X.shape[1] != self._train.shape[1]:
                raise ValueError(f"knn was fitted on {self._train.shape[1]} features; got {X.shape[1]}")
            left = np.arange(len(X))
            for number in tuple(types):
                if not len(left):
                    break
                # What overflows is not proven.
                with np.errstate(over="ignore", invalid="ignore"):
                    found, proven = self._by_products(X[left], number)
                distances[start + left[proven]] = found[proven]
                # Features this close together keep float32 from proving anything: ask it no more.
                if number is np.float32 and 2 * proven.sum() < len(proven):
                    types = [np.float64]
                left = left[~proven]
            distances[start + left] = self._one_by_one(X[left])
        return -distances

    def _prepared(self, X: Floats) -> Floats:
        if not self.normalise:
            return X
        norms = np.sqrt(np.square(X).sum(axis=1, keepdims=True))
        return X / np.where(norms > 0.0, norms, 1.0)

    def _by_products(self, X: Floats, number: Number) -> tuple[Floats, npt.NDArray[np.bool_]]:
        """Distances to the k-th neighbour, and where they are proven; the others mean nothing.

        With every product t - 2 x t' within ``error`` of the truth, a training image is nearer than the k-th
        neighbour where it is below the k-th smallest product by more than twice that, and farther where it
        is above by as much; only those between are compared by their differences.
        """
        nearest, images = self._candidates(X, number)
        lengths = np.sqrt(np.square(X).sum(axis=1, keepdims=True)) / self._scale
        # Any order of summation of D + 1 products and the rounding of both factors; then that of the
        # differences, so that the k-th of the compared ones is the k-th of all to the last bit.
        rounding = _UNIT[number] * (2.0 * lengths + 1.0) + _UNIT[np.float64] * (lengths + 1.0) ** 2
        error = (X.shape[1] + 8) * rounding
        kth = nearest[:, [self.k - 1]]
        proven: npt.NDArray[np.bool_] = nearest[:, -1] > kth[:, 0] + 2.0 * error[:, 0]
        if nearest.shape[1] == len(self._train):
            proven[:] = True
        # The products of longer ones could overflow.
        proven &= lengths[:, 0] < np.sqrt(np.finfo(number).max) / 2
        nearer = (nearest < kth - 2.0 * error).sum(axis=1)
        between = (np.abs(nearest - kth) <= 2.0 * error) & proven[:, None]
        query, column = np.nonzero(between)
        distances = self._differences(X, query, images[query, column])
        order = np.lexsort((distances, query))
        starts = np.searchsorted(query, np.arange(len(X)))
        found = np.full(len(X), np.nan)
        found[proven] = distances[order[(starts + self.k - 1 - nearer)[proven]]]
        return found, proven

    def _candidates(self, X: Floats, number: Number) -> tuple[Floats, Indices]:
        """The smallest t - 2 x t' of each row of X and whose they are, smallest first."""
        kept = min(self.k + self.k // 4 + STRIDE, len(self._train))
        table = self._table(number)
        values, images = [], []
        Q = np.concatenate([X / self._scale, np.ones((len(X), 1))], axis=1).astype(number)
        for start in range(0, len(table), TRAINING_ROWS):
            products = Q @ table[start : start + TRAINING_ROWS].T
            chosen = _smallest(products, kept)
            values.append(np.take_along_axis(products, chosen, axis=1))
            images.append(chosen + start)
        every, whose = np.concatenate(values, axis=1).astype(np.float64), np.concatenate(images, axis=1)
        order = np.argsort(every, axis=1)[:, :kept]
        return np.take_along_axis(every, order, axis=1), np.take_along_axis(whose, order, axis=1)

    @property
    def _scale(self) -> float:
        """A power of two that brings the longest training vector to between 1/2 and 1, without rounding."""
        return float(2.0 ** np.ceil(np.log2(self._longest))) if self._longest > 0.0 else 1.0

    def _table(self, number: Number) -> npt.NDArray[Any]:
        """[-2t, |t|^2] of every training image, so that one product with [x, 1] gives |t|^2 - 2 x t'."""
        if number not in self._tables:
            T = self._train / self._scale
            rows = -(-len(T) // STRIDE) * STRIDE
            table = np.zeros((rows, T.shape[1] + 1), dtype=number)
            table[: len(T), :-1] = -2.0 * T
            table[: len(T), -1] = np.square(T).sum(axis=1)
            # Rows that only fill the last group are farther than any image can be.
            table[len(T) :, -1] = np.finfo(number).max
            self._tables[number] = table
        return self._tables[number]

    def _differences(self, X: Floats, queries: Indices, images: Indices) -> Floats:
        """Distances of pairs."""
        distances = np.empty(len(queries))
        for start in range(0, len(queries), PAIRS):
            part = slice(start, start + PAIRS)
            distances[part] = _norms(X[queries[part]] - self._train[images[part]])
        return distances

    def _one_by_one(self, X: Floats) -> Floats:
        """Without products: for rows with more neighbours at the k-th distance than there are candidates."""
        # A network whose features have died gives every image the same.
        different, back = np.unique(X, axis=0, return_inverse=True)
        found = np.empty(len(different))
        for i, x in enumerate(different):
            parts = range(0, len(self._train), PAIRS)
            distances = np.concatenate([_norms(x - self._train[start : start + PAIRS]) for start in parts])
            found[i] = np.partition(distances, self.k - 1)[self.k - 1]
        return found[back.ravel()]


def _norms(differences: Floats) -> Floats:
    # numpy sums each row of an array in the same order, wherever the row stands.
    norms: Floats = np.sqrt(np.square(differences).sum(axis=1))
    return norms


def _smallest(products: npt.NDArray[Any], kept: int) -> Indices:
    """Which columns of each row are the ``kept`` smallest, in any order: [rows, kept or all]."""
    groups = products.shape[1] // STRIDE
    if groups <= kept:
        return _part(products, kept)
    # The smallest numbers lie in the groups with the smallest minima. Column i is in group i mod groups.
    chosen = _part(products.reshape(len(products), STRIDE, groups).min(axis=1), kept)
    columns = (chosen[:, None, :] + np.arange(STRIDE)[:, None] * groups).reshape(len(products), -1)
    inside = _part(np.take_along_axis(products, columns, axis=1), kept)
    return np.take_along_axis(columns, inside, axis=1)


def _part(numbers: npt.NDArray[Any], kept: int) -> Indices:
    if numbers.shape[1] <= kept:
        return np.broadcast_to(np.arange(numbers.shape[1]), numbers.shape)
    return np.argpartition(numbers, kept - 1, axis=1)[:, :kept]
