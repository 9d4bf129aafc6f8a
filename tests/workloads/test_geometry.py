"""Geometry against hand values, loops written from the formulas, and scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.neighbors import NearestCentroid

from workloads.evaluation.geometry import angles, etf_angle, logit_norms, neural_collapse

Array = npt.NDArray[Any]

# Sums over a few hundred images in another order: some hundred roundings of 1e-16.
ROUNDING = 1e-11
ANGLES = {"wc_intra", "w_inter", "c_inter", "wc_inter", "within_class"}
COLLAPSE = {"nc1", "nc2_equinorm", "nc2_equiangular", "nc2_w_equinorm", "nc2_w_equiangular", "nc3", "nc4"}


def _random(classes: int = 4, width: int = 7, seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Features, labels (classes of different sizes), weight and bias."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), 10 + 5 * np.arange(classes))
    rng.shuffle(labels)
    weight = rng.normal(size=(classes, width))
    features = rng.normal(size=(len(labels), width)) + 1.5 * weight[labels] + 0.7
    return features, labels, weight, rng.normal(size=classes)


def _rotation(width: int) -> Array:
    return np.asarray(np.linalg.qr(np.random.default_rng(8).normal(size=(width, width)))[0])


def _on_circle(degrees: list[float]) -> Array:
    return np.array([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def _frame(classes: int, width: int) -> Array:
    """A simplex equiangular tight frame of unit rows, turned out of the axes."""
    rows = np.eye(classes, width) - np.pad(
        np.full((classes, classes), 1 / classes), ((0, 0), (0, width - classes))
    )
    return np.asarray(rows @ _rotation(width) * math.sqrt(classes / (classes - 1)))


def _looped_angles(X: Array, y: Array, W: Array) -> dict[str, float]:
    def angle(u: Array, v: Array) -> float:
        cosine = float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))
        return math.acos(max(-1.0, min(1.0, cosine)))

    centres = {}
    for j in range(len(W)):
        own = [x / math.sqrt(float(x @ x)) for x, label in zip(X, y, strict=True) if label == j]
        if own:
            centres[j] = sum(own) / len(own)
    pairs = [(i, j) for i in range(len(W)) for j in range(len(W)) if i != j]
    found = {
        "wc_intra": [angle(centres[j], W[j]) for j in centres],
        "w_inter": [angle(W[i], W[j]) for i, j in pairs],
        "c_inter": [angle(centres[i], centres[j]) for i, j in pairs if i in centres and j in centres],
        "wc_inter": [angle(centres[j], W[i]) for i, j in pairs if j in centres],
        "within_class": [angle(x, centres[label]) for x, label in zip(X, y, strict=True)],
    }
    return {name: sum(values) / len(values) for name, values in found.items()}


def _looped_collapse(X: Array, y: Array, W: Array, b: Array) -> dict[str, float]:
    C, D = W.shape
    mu = np.array([X[y == c].mean(axis=0) for c in range(C)])
    m = mu - mu.mean(axis=0)
    within, between = np.zeros((D, D)), np.zeros((D, D))
    mismatches = 0
    for x, label in zip(X, y, strict=True):
        within += np.outer(x - mu[label], x - mu[label]) / len(X)
        logits = [float(W[c] @ x + b[c]) for c in range(C)]
        distances = [float(np.linalg.norm(x - mu[c])) for c in range(C)]
        mismatches += logits.index(max(logits)) != distances.index(min(distances))
    for c in range(C):
        between += np.outer(m[c], m[c]) / C
    found = {
        "nc1": float(np.trace(within @ np.linalg.pinv(between, rcond=1e-9, hermitian=True))) / C,
        "nc3": float(np.linalg.norm(W.T / np.linalg.norm(W) - m.T / np.linalg.norm(m), "fro") ** 2),
        "nc4": mismatches / len(X),
    }
    for name, rows in {"nc2": m, "nc2_w": W}.items():
        norms = [math.sqrt(float(row @ row)) for row in rows]
        mean = sum(norms) / C
        found[f"{name}_equinorm"] = math.sqrt(sum((n - mean) ** 2 for n in norms) / C) / mean
        found[f"{name}_equiangular"] = sum(
            abs(float(rows[i] @ rows[j]) / (norms[i] * norms[j]) + 1 / (C - 1))
            for i in range(C)
            for j in range(C)
            if i != j
        ) / (C * (C - 1))
    return found


def test_the_angles_of_a_plane_worked_by_hand() -> None:
    # Centres at 10, 100 and 150 degrees: pairs of equally far images, of unequal lengths but for the first.
    features = _on_circle([5, 15, 80, 120, 147, 153]) * np.array([[1], [9], [0.1], [4], [2], [3]])
    found = angles(
        features, np.array([0, 0, 1, 1, 2, 2]), _on_circle([0, 90, 180]) * np.array([[7], [1], [2]])
    )
    degrees = {name: math.degrees(value) for name, value in found.metrics.items()}
    assert degrees == pytest.approx(
        {
            "wc_intra": (10 + 10 + 30) / 3,
            "w_inter": (90 + 180 + 90) / 3,
            "c_inter": (90 + 140 + 50) / 3,
            "wc_inter": (80 + 170 + 100 + 80 + 150 + 60) / 6,
            "within_class": (5 + 20 + 3) / 3,
        },
        abs=1e-12,
    )
    assert found.notes == ()


@pytest.mark.parametrize(("classes", "width"), [(2, 5), (4, 7), (6, 3), (3, 200)])
def test_angles_agree_with_loops_over_arc_cosines(classes: int, width: int) -> None:
    X, y, W, _ = _random(classes, width)
    found = angles(X, y, W).metrics
    assert set(found) == ANGLES
    assert found == pytest.approx(_looped_angles(X, y, W), abs=ROUNDING)


def test_angles_do_not_change_with_rotation_order_or_length() -> None:
    X, y, W, _ = _random()
    turn = _rotation(X.shape[1])
    order = np.random.default_rng(1).permutation(len(X))
    lengths = np.random.default_rng(2).uniform(0.01, 100, size=(len(X), 1))
    changed = angles(((X * lengths) @ turn)[order], y[order], (W * lengths[: len(W)]) @ turn)
    assert changed.metrics == pytest.approx(angles(X, y, W).metrics, abs=ROUNDING)


def test_a_tiny_angle_keeps_its_digits() -> None:
    # The arc cosine of the dot product gives 0 here: 1 - 1e-18 is 1 in float64.
    weight = np.array([[1.0, 1e-9], [-1.0, 0.0]])
    found = angles(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([0, 1]), weight).metrics
    assert found["wc_intra"] == pytest.approx(0.5e-9, rel=1e-9)
    assert found["c_inter"] == math.pi


def test_a_class_without_images_is_left_out_where_its_centre_is_needed_and_named() -> None:
    X, y, W, _ = _random()
    X, y = X[y != 2], y[y != 2]
    found = angles(X, y, W)
    assert found.metrics == pytest.approx(_looped_angles(X, y, W), abs=ROUNDING)
    assert found.notes == ("class 2: without a usable image, left out of the angles with its centre",)


def test_directions_that_do_not_exist_are_left_out_and_named() -> None:
    # Class 0 cancels but for rounding, class 1 is a point with one image of zeros, class 2 has no row.
    X = np.concatenate([_on_circle([0, 120, 240]), [[0.0, 2.0], [0.0, 0.0], [3.0, 0.0]]])
    found = angles(X, np.array([0, 0, 0, 1, 1, 2]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    right = math.pi / 2
    expected = {
        "wc_intra": right,
        "w_inter": 0.0,
        "c_inter": right,
        "wc_inter": (right + 0 + 0) / 3,
        "within_class": 0,
    }
    assert found.metrics == pytest.approx(expected, abs=1e-15)
    assert found.notes == (
        "angles: 1 of 6 images have features of zeros: left out",
        "class 0: with features that cancel, left out of the angles with its centre",
        "class 2: with a classifier row of zeros, left out of the angles with it",
    )


def test_no_angle_at_all_is_absent_and_never_nan() -> None:
    found = angles(np.zeros((4, 3)), np.array([0, 0, 1, 1]), np.zeros((2, 3)))
    assert found.metrics == {}
    assert [note for note in found.notes if "absent" in note] == [
        f"{name}: absent, no angle is defined"
        for name in ("wc_intra", "w_inter", "c_inter", "wc_inter", "within_class")
    ]


@pytest.mark.parametrize("classes", [2, 3, 10, 100])
def test_the_angle_of_a_frame_is_that_of_its_rows(classes: int) -> None:
    frame = _frame(classes, classes + 1)
    found = angles(frame, np.arange(classes), frame).metrics
    # acos near -1 (two classes) is the square root of a rounding.
    assert found["w_inter"] == pytest.approx(etf_angle(classes), abs=1e-7)


def test_ten_classes_spread_by_96_degrees() -> None:
    assert math.degrees(etf_angle(10)) == pytest.approx(96.37937, abs=1e-5)


@pytest.mark.parametrize(("classes", "width"), [(2, 2), (3, 5), (10, 64)])
def test_a_collapsed_layer_measures_zero_everywhere(classes: int, width: int) -> None:
    frame = _frame(classes, width)
    labels = np.repeat(np.arange(classes), 3)
    found = neural_collapse(
        5.0 * frame[labels] + 0.3, labels, 2.0 * frame, -2.0 * frame @ np.full(width, 0.3)
    )
    assert set(found.metrics) == COLLAPSE
    # Norms and cosines, each a few roundings of 1e-16.
    assert found.metrics == pytest.approx(dict.fromkeys(COLLAPSE, 0.0), abs=1e-14)
    assert found.notes == ()


def test_neural_collapse_of_four_images_worked_by_hand() -> None:
    # Means -1 and 1, Sigma_W = 4, Sigma_B = 1. The bias turns x = 1 into class 0, whose mean is farther.
    X, y = np.array([[-3.0], [1.0], [-1.0], [3.0]]), np.array([0, 0, 1, 1])
    found = neural_collapse(X, y, np.array([[-1.0], [2.0]]), np.array([4.0, 0.0])).metrics
    root = math.sqrt(5)
    assert found == pytest.approx(
        {
            "nc1": 4 / 2,
            "nc2_equinorm": 0.0,
            "nc2_equiangular": 0.0,
            "nc2_w_equinorm": 0.5 / 1.5,
            "nc2_w_equiangular": 0.0,
            "nc3": (1 / math.sqrt(2) - 1 / root) ** 2 + (2 / root - 1 / math.sqrt(2)) ** 2,
            "nc4": 1 / 4,
        },
        abs=1e-15,
    )


@pytest.mark.parametrize(("classes", "width"), [(2, 5), (4, 7), (6, 3), (3, 200)])
def test_neural_collapse_agrees_with_loops_over_full_covariances(classes: int, width: int) -> None:
    X, y, W, b = _random(classes, width)
    expected = _looped_collapse(X, y, W, b)
    # In 200 dimensions the nearest mean never errs; elsewhere the two rules must disagree to be compared.
    assert expected["nc4"] > 0.0 or width == 200
    # The loops' pseudo-inverse squares the condition of the means.
    assert neural_collapse(X, y, W, b).metrics == pytest.approx(expected, rel=1e-9)


def test_the_nearest_class_centre_is_that_of_scikit_learn() -> None:
    X, y, W, b = _random()
    nearest = NearestCentroid().fit(X, y).predict(X)
    assert neural_collapse(X, y, W, b).metrics["nc4"] == (nearest != (X @ W.T + b).argmax(axis=1)).mean()


@pytest.mark.parametrize("offset", [1.0, 1e6])
def test_neural_collapse_does_not_change_with_rotation_order_or_offset(offset: float) -> None:
    X, y, W, b = _random()
    turn, shift = _rotation(X.shape[1]), np.full(X.shape[1], offset)
    order = np.random.default_rng(1).permutation(len(X))
    changed = neural_collapse((X + shift)[order] @ turn, y[order], W @ turn, b - W @ shift)
    # The offset takes log10(offset) of the 16 digits of every feature.
    assert changed.metrics == pytest.approx(neural_collapse(X, y, W, b).metrics, rel=1e-11 * offset)


def test_measures_without_a_bias_are_those_with_a_bias_of_zeros() -> None:
    X, y, W, b = _random()
    assert neural_collapse(X, y, W) == neural_collapse(X, y, W, 0.0 * b)
    assert neural_collapse(X, y, W) != neural_collapse(X, y, W, b)


def test_a_class_without_images_does_not_count_but_for_its_classifier_row() -> None:
    X, y, W, b = _random()
    b[2] = -1e9
    X, y = X[y != 2], y[y != 2]
    found = neural_collapse(X, y, W, b)
    expected = neural_collapse(X, np.where(y > 2, y - 1, y), W[[0, 1, 3]], b[[0, 1, 3]]).metrics
    own = {name: value for name, value in expected.items() if "_w_" not in name}
    assert {name: found.metrics[name] for name in own} == pytest.approx(own, abs=ROUNDING)
    whole = _looped_collapse(*_random())
    assert found.metrics["nc2_w_equinorm"] == pytest.approx(whole["nc2_w_equinorm"], abs=ROUNDING)
    assert found.notes == ("class 2: without an image, left out of nc1 to nc4 (nc2_w_* keep it)",)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_constant_features_have_no_neural_collapse_to_measure(value: float) -> None:
    _, y, W, b = _random()
    found = neural_collapse(np.full((len(y), W.shape[1]), value), y, W, b)
    assert set(found.metrics) == {"nc2_w_equinorm", "nc2_w_equiangular"}
    assert found.notes == ("nc1, nc2_equinorm, nc2_equiangular, nc3, nc4: absent, the class means coincide",)


def test_a_single_class_and_a_classifier_of_zeros_are_absent_with_a_note() -> None:
    X, _, W, b = _random()
    assert neural_collapse(X, np.ones(len(X), dtype=np.int64), 0 * W, b).notes == (
        "class 0, 2, 3: without an image, left out of nc1 to nc4 (nc2_w_* keep it)",
        "nc2_w_equinorm, nc2_w_equiangular: absent, every vector is zero",
        "nc1, nc2_equinorm, nc2_equiangular, nc3, nc4: absent, one class has images",
    )


def test_means_on_a_line_leave_the_angle_of_the_middle_one_undefined() -> None:
    # Means -2, 0, 2 along one of two axes; the spread is along the other, where no means differ.
    X = np.array([[-2.0, 1], [-2, -1], [0, 1], [0, -1], [2, 1], [2, -1]])
    found = neural_collapse(X, np.array([0, 0, 1, 1, 2, 2]), np.zeros((3, 2)))
    mean = 4 / 3
    assert found.metrics == pytest.approx(
        {"nc1": 0.0, "nc2_equinorm": math.sqrt((2 * (2 - mean) ** 2 + mean**2) / 3) / mean, "nc4": 4 / 6},
        abs=1e-15,
    )
    assert found.notes == (
        "nc2_w_equinorm, nc2_w_equiangular: absent, every vector is zero",
        "nc1: the 3 class means span 1 of 2 dimensions; no other one counts",
        "nc2_equiangular: absent, a vector is zero and has no direction",
        "nc3: absent, the classifier rows are zeros",
    )


def test_single_precision_features_are_measured_in_double() -> None:
    X, y, W, b = (part.astype(np.float32) if part.dtype == np.float64 else part for part in _random())
    expected = neural_collapse(X.astype(np.float64), y, W.astype(np.float64), b.astype(np.float64))
    assert neural_collapse(X, y, W, b) == expected


def test_logit_norms_worked_by_hand() -> None:
    assert logit_norms(np.array([[3.0, 4.0], [0.0, -1.0]])) == {"mean": 3.0, "std": 2.0}


def test_input_that_cannot_be_measured_is_refused() -> None:
    X, y, W, b = _random()
    for measure in (angles, neural_collapse):
        with pytest.raises(ValueError, match=r"got \[70, 7\], \[69\] and \[4, 7\]"):
            measure(X, y[1:], W)
        with pytest.raises(ValueError, match=r"labels must be in 0\.\.2; got 0\.\.3"):
            measure(X, y, W[:3])
        with pytest.raises(ValueError, match="features and weight must be finite"):
            measure(np.where(X > 2, np.nan, X), y, W)
        with pytest.raises(ValueError, match="two or more of them; got 1"):
            measure(X, 0 * y, W[:1])
    with pytest.raises(ValueError, match=r"shape \[4\], one a class; got \[3\]"):
        neural_collapse(X, y, W, b[:3])
    with pytest.raises(ValueError, match="two or more of them; got 1"):
        etf_angle(1)
    with pytest.raises(ValueError, match=r"got \[0, 3\]"):
        logit_norms(np.zeros((0, 3)))
