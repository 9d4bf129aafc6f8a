"""A small world of features for detectors, and each detector's formula written out image by image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.evaluation.detectors import ASH, FDBD, GEN, RMD, SCALE, SHE, Mahalanobis, ReAct, ViM
from workloads.evaluation.evidence import Detector, Evidence, Head

C, D, D_KEPT = 3, 12, 4
Array = npt.NDArray[Any]
Reference = Callable[[Evidence, Head, Evidence], list[float]]


def evidence(X: Array, head: Head, labels: Array | None = None, factor: float = 1.0) -> Evidence:
    Z = X.astype(np.float64) @ head.weight.T.astype(np.float64)
    if head.bias is not None:
        Z += head.bias
    # Read-only: a detector that writes to what it is given fails.
    features, logits = X.astype(np.float32), (factor * Z).astype(np.float64)
    features.setflags(write=False)
    logits.setflags(write=False)
    return Evidence(logits, features, labels)


def world(factor: float = 1.0) -> tuple[Evidence, Head, Evidence, Evidence]:
    """Features after a ReLU in three classes, a head that tells them apart, ID images and OOD images."""
    rng = np.random.default_rng(5)
    centres = np.zeros((C, D))
    for c in range(C):
        centres[c, 4 * c : 4 * c + 4] = 3.0

    def images(n: int) -> tuple[Array, Array]:
        labels = np.arange(n) % C
        X = centres[labels] + rng.normal(scale=rng.uniform(0.3, 1.0, D), size=(n, D))
        return np.maximum(X, 0).astype(np.float32), labels.astype(np.int64)

    W = (0.5 * (centres - centres.mean(axis=0)) + 0.1 * rng.normal(size=(C, D))).astype(np.float32)
    head = Head("linear", W, np.array([0.3, -0.2, 0.1], dtype=np.float32))
    (train, y), (known, _) = images(120), images(30)
    # Some training images are classified wrongly.
    y[::17] = (y[::17] + 1) % C
    unknown = (rng.exponential(size=(30, D)) * 0.7).astype(np.float32)
    return (
        evidence(train, head, y, factor),
        head,
        evidence(known, head, factor=factor),
        evidence(unknown, head, factor=factor),
    )


def energy(z: Array) -> float:
    return float(np.log(np.exp(z).sum()))


def linear(x: Array, head: Head) -> Array:
    assert head.bias is not None
    z: Array = head.weight.astype(np.float64) @ x + head.bias
    return z


def _moments(train: Evidence) -> tuple[list[Array], Array, Array, Array]:
    assert train.labels is not None
    X = train.features.astype(np.float64)
    means = [X[train.labels == c].mean(axis=0) for c in range(C)]
    within = sum(np.outer(x - means[c], x - means[c]) for x, c in zip(X, train.labels, strict=True))
    return means, np.asarray(within) / len(X), X.mean(axis=0), np.cov(X.T, bias=True)


def _mahalanobis(train: Evidence, head: Head, test: Evidence) -> list[float]:
    means, within, _, _ = _moments(train)
    inverse = np.linalg.inv(within)
    return [-min(float((x - m) @ inverse @ (x - m)) for m in means) for x in test.features.astype(float)]


def _rmd(train: Evidence, head: Head, test: Evidence) -> list[float]:
    _, _, mean, total = _moments(train)
    inverse = np.linalg.inv(total)
    background = [float((x - mean) @ inverse @ (x - mean)) for x in test.features.astype(float)]
    return [m + d0 for m, d0 in zip(_mahalanobis(train, head, test), background, strict=True)]


def _vim(train: Evidence, head: Head, test: Evidence) -> list[float]:
    assert head.bias is not None
    u = np.linalg.lstsq(head.weight.astype(float), -head.bias.astype(float), rcond=None)[0]
    X = train.features.astype(float) - u
    principal = np.linalg.svd(X, full_matrices=False)[2][:D_KEPT]

    def residual(x: Array) -> float:
        return float(np.linalg.norm(x - principal.T @ (principal @ x)))

    alpha = np.mean([z.max() for z in train.logits]) / np.mean([residual(x) for x in X])
    pairs = zip(test.features.astype(float), test.logits, strict=True)
    return [energy(z) - float(alpha) * residual(x - u) for x, z in pairs]


def _react(train: Evidence, head: Head, test: Evidence) -> list[float]:
    ordered = sorted(train.features.astype(float).ravel())
    place = 0.9 * (len(ordered) - 1)
    below = int(place)
    threshold = ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])
    return [energy(linear(np.minimum(x, threshold), head)) for x in test.features.astype(float)]


def _shaped(x: Array, percent: int, prune: bool) -> Array:
    kept = np.argsort(-x)[: D - round(D * percent / 100)]
    pruned = np.zeros(D)
    pruned[kept] = x[kept]
    shaped: Array = (pruned if prune else x) * np.exp(x.sum() / pruned.sum())
    return shaped


def _ash(train: Evidence, head: Head, test: Evidence) -> list[float]:
    return [energy(linear(_shaped(x, 90, True), head)) for x in test.features.astype(float)]


def _scale(train: Evidence, head: Head, test: Evidence) -> list[float]:
    return [energy(linear(_shaped(x, 85, False), head)) for x in test.features.astype(float)]


def _gen(train: Evidence, head: Head, test: Evidence) -> list[float]:
    scores = []
    for z in test.logits:
        p = sorted(np.exp(z) / np.exp(z).sum(), reverse=True)
        # 1 - p_j, added up from the others so that it keeps its digits.
        G = sum((p[j] * sum(p[:j] + p[j + 1 :])) ** 0.1 for j in range(2))
        scores.append(-float(np.log(G)))
    return scores


def _fdbd(train: Evidence, head: Head, test: Evidence) -> list[float]:
    W, mean = head.weight.astype(float), train.features.astype(float).mean(axis=0)
    scores = []
    for x in test.features.astype(float):
        z = linear(x, head)
        y = int(z.argmax())
        distances = [(z[y] - z[c]) / np.linalg.norm(W[y] - W[c]) for c in range(C) if c != y]
        scores.append(float(np.mean(distances) / np.linalg.norm(x - mean)))
    return scores


def _she(train: Evidence, head: Head, test: Evidence) -> list[float]:
    assert train.labels is not None
    rows = zip(train.features.astype(float), train.logits, train.labels, strict=True)
    correct = [(x, int(y)) for x, z, y in rows if z.argmax() == y]
    patterns = [np.mean([x for x, y in correct if y == c], axis=0) for c in range(C)]
    pairs = zip(test.features.astype(float), test.logits, strict=True)
    return [float(x @ patterns[z.argmax()]) for x, z in pairs]


DETECTORS: dict[str, tuple[Callable[[], Detector], Reference]] = {
    "Mahalanobis": (Mahalanobis, _mahalanobis),
    "RMD": (RMD, _rmd),
    "ViM": (lambda: ViM(d=D_KEPT), _vim),
    "ReAct": (ReAct, _react),
    "ASH": (ASH, _ash),
    "SCALE": (SCALE, _scale),
    "GEN": (lambda: GEN(M=2), _gen),
    "FDBD": (FDBD, _fdbd),
    "SHE": (SHE, _she),
}
THROUGH_THE_HEAD = ["ViM", "ReAct", "ASH", "SCALE", "FDBD"]
ANY_HEAD = ["Mahalanobis", "RMD", "GEN", "SHE"]
