"""Rejection scores that look at the head's input and weights too."""

from __future__ import annotations

import numpy as np

from workloads.evaluation.evidence import DoesNotFit, Evidence, Floats, Head
from workloads.evaluation.scores.logits import positive

SMALLEST_NORM = 1e-6
"""The cosine head keeps norms at least this long; so do the cosines here."""
ROWS = 256
"""Images worked on at a time."""
MISFIT = 0.01
"""Largest difference between the logits and what the head's formula says, as a share of the logits: well
above the rounding of any type the features may have been kept in, well below what another formula gives."""


class GradNorm:
    """L1 norm of the gradient on W of the cross-entropy against a uniform target.

    With p = softmax(Z / T) and the loss sum_c -log p_c, the gradient on a logit is (C p_c - 1) / T, so, one
    image at a time, without a backward pass:

    - linear head, Z = XW' + b: ||x||_1 sum_c |C p_c - 1| / T;
    - cosine head, Z_c = s cos_c: sum_c |C p_c - 1| s ||x^ - cos_c w^_c||_1 / (|w_c| T), with x^ and w^_c the
      normalised x and w_c, since a step along w_c itself changes nothing. s is read off the logits.

    Where a loss adds a constant to each class (logit adjustment), the gradient is the same; where it
    multiplies all logits of a linear head by one number (T2FNorm), the norm is less by that number, and the
    ranking the same.

    Args:
        T: temperature, in units of the logits, > 0.
    Raises: ValueError where T is not > 0, or not finite.
    Source: Huang et al. 2021 (arXiv 2110.00218).
    Differs from source: the sum, not the mean over classes, as in its code; the cosine head is new.
    """

    def __init__(self, *, T: float = 1.0) -> None:
        self.T = positive("T", T)

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Keep the head.

        Raises: DoesNotFit for a GODIN head, or a cosine head with a class weight of no length.
        """
        if head.kind == "godin":
            raise DoesNotFit("gradnorm needs a linear or a cosine head; got a godin head")
        self._W = np.asarray(head.weight, dtype=np.float64)
        self._cosine = head.kind == "cosine"
        if self._cosine and lengths(self._W).min() < SMALLEST_NORM:
            raise DoesNotFit(f"gradnorm needs class weights longer than {SMALLEST_NORM:g}; got a shorter one")

    def __call__(self, evidence: Evidence) -> Floats:
        """The norm of each image's gradient, [images].

        Raises: DoesNotFit where the logits are not those of the head, but for the numbers above.
        """
        Z = evidence.Z
        if not self._cosine:
            self._check_linear(evidence)
        scores = np.empty(len(Z))
        for start in range(0, len(Z), ROWS):
            rows = slice(start, start + ROWS)
            X = features_for(self._W, evidence, rows)
            pull = np.abs(Z.shape[1] * _softmax(Z[rows] / self.T) - 1.0)
            push = self._through_cosines(X, Z[rows]) if self._cosine else np.abs(X).sum(axis=1, keepdims=True)
            scores[rows] = (pull * push).sum(axis=1) / self.T
        return scores

    def _through_cosines(self, X: Floats, Z: Floats) -> Floats:
        """L1 norm of the gradient of each logit on its class weight, [images, classes]."""
        x, w = directions(X), directions(self._W)
        cosines = x @ w.T
        squares = np.square(cosines).sum(axis=1)
        # An image without a direction has no gradient, whatever s is.
        s = np.divide((Z * cosines).sum(axis=1), squares, out=np.zeros(len(X)), where=squares > 0.0)[:, None]
        if (np.abs(Z - s * cosines).max(axis=1) > MISFIT * np.abs(Z).max(axis=1)).any():
            raise DoesNotFit("gradnorm needs logits that are a multiple of the cosines; got others")
        turns = [np.abs(x - cosines[:, [c]] * w[c]).sum(axis=1) for c in range(len(w))]
        norms: Floats = np.abs(s) * np.stack(turns, axis=1) / lengths(self._W)[:, 0]
        return norms

    def _check_linear(self, evidence: Evidence) -> None:
        rows = slice(0, 4 * ROWS)
        H, Z = features_for(self._W, evidence, rows) @ self._W.T, evidence.Z[rows]
        H, Z = H - H.mean(axis=0), Z - Z.mean(axis=0)
        factor = (H * Z).sum() / max((H * H).sum(), np.finfo(np.float64).tiny)
        if np.abs(Z - factor * H).max() > MISFIT * np.abs(Z).max():
            raise DoesNotFit("gradnorm needs logits that are a multiple of XW' plus constants; got others")


class CosineMax:
    """The largest cosine of the angle between x and a class weight: the maximum logit without its scale.

    An image whose features are all zero has no direction; its cosines are 0.

    Source: Techapanurak et al. 2020 (arXiv 1905.10628).
    Differs from source: its scale, a function of the image, belongs to the head and is left out.
    """

    def fit(self, train: Evidence | None, head: Head) -> None:
        """Keep the directions of the class weights.

        Raises: DoesNotFit where the head is not a cosine head.
        """
        if head.kind != "cosine":
            raise DoesNotFit(f"cosine needs a cosine head; got a {head.kind} head")
        self._w = directions(np.asarray(head.weight, dtype=np.float64))

    def __call__(self, evidence: Evidence) -> Floats:
        """The largest cosine, -1 to 1, [images]."""
        scores = np.empty(len(evidence))
        for start in range(0, len(scores), ROWS):
            rows = slice(start, start + ROWS)
            scores[rows] = (directions(features_for(self._w, evidence, rows)) @ self._w.T).max(axis=1)
        return scores


def features_for(W: Floats, evidence: Evidence, rows: slice) -> Floats:
    """Some rows of the features, float64.

    Raises: ValueError where they are not as many as a class weight has.
    """
    X = evidence.feature_rows(rows)
    if X.shape[1] != W.shape[1]:
        raise ValueError(f"the head has {W.shape[1]} features; got {X.shape[1]}")
    return X


def lengths(rows: Floats) -> Floats:
    """The L2 norm of each row: [rows, 1]."""
    norms: Floats = np.sqrt(np.square(rows).sum(axis=1, keepdims=True))
    return norms


def directions(rows: Floats) -> Floats:
    """Each row divided by its length, or by SMALLEST_NORM where that is longer."""
    scaled: Floats = rows / np.maximum(lengths(rows), SMALLEST_NORM)
    return scaled


def _softmax(Z: Floats) -> Floats:
    p: Floats = np.exp(Z - Z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p
