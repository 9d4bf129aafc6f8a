"""Scores that look at features: against automatic differentiation and naive loops."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F

from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.evidence import Detector, DoesNotFit, Evidence, Head
from workloads.evaluation.scores import features as module
from workloads.evaluation.scores.features import CosineMax, GradNorm
from workloads.head import HeadKind

Floats = npt.NDArray[np.float64]
CLASSES, FEATURES, IMAGES = 6, 9, 23


@pytest.fixture(name="W")
def weight() -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(CLASSES, FEATURES)).astype(np.float32)


@pytest.fixture(name="X")
def features() -> Floats:
    return np.random.default_rng(1).normal(size=(IMAGES, FEATURES)) * 2.0


def cosine_logits(X: Floats, W: npt.NDArray[np.float32], s: float) -> Floats:
    return np.asarray(s * F.normalize(torch.tensor(X)) @ F.normalize(torch.tensor(W).double()).T)


def gradient_norms(kind: HeadKind, X: Floats, W: npt.NDArray[np.float32], T: float, s: float) -> list[float]:
    """By automatic differentiation in float64, one image at a time."""
    found = []
    for x in torch.tensor(X):
        weight = torch.tensor(W).double().requires_grad_()
        if kind == "cosine":
            Z = s * F.normalize(weight) @ F.normalize(x, dim=0)
        else:
            Z = weight @ x + torch.linspace(-1, 1, CLASSES, dtype=torch.float64)
        (-torch.log_softmax(Z / T, dim=0)).sum().backward()  # type: ignore[no-untyped-call]
        assert weight.grad is not None
        found.append(float(weight.grad.abs().sum()))
    return found


@pytest.mark.parametrize("T", [0.5, 1.0, 100.0])
def test_gradnorm_of_a_linear_head_is_the_gradient_on_its_weight(
    T: float, W: npt.NDArray[np.float32], X: Floats
) -> None:
    b = np.linspace(-1, 1, CLASSES)
    detector = GradNorm(T=T)
    detector.fit(None, Head("linear", W, b.astype(np.float32)))
    found = detector(Evidence(X @ W.T.astype(np.float64) + b, X))
    # Sums of some fifty rounded products.
    np.testing.assert_allclose(found, gradient_norms("linear", X, W, T, 1.0), rtol=1e-12)


@pytest.mark.parametrize("T", [0.5, 1.0, 100.0])
@pytest.mark.parametrize("s", [1.0, 16.0])
def test_gradnorm_of_a_cosine_head_is_the_gradient_through_its_normalisation(
    T: float, s: float, W: npt.NDArray[np.float32], X: Floats
) -> None:
    detector = GradNorm(T=T)
    detector.fit(None, Head("cosine", W))
    found = detector(Evidence(cosine_logits(X, W, s), X))
    np.testing.assert_allclose(found, gradient_norms("cosine", X, W, T, s), rtol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_feature_scores_do_not_depend_on_which_images_stand_together(
    kind: HeadKind, W: npt.NDArray[np.float32], X: Floats, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z = X @ W.T.astype(np.float64) if kind == "linear" else cosine_logits(X, W, 8.0)
    detectors: list[Detector] = [GradNorm(), CosineMax()] if kind == "cosine" else [GradNorm()]
    monkeypatch.setattr(module, "ROWS", 5)
    for detector in detectors:
        detector.fit(None, Head(kind, W))
        whole = detector(Evidence(Z, X))
        assert whole.dtype == np.float64
        # Products of matrices of other shapes may sum in another order.
        np.testing.assert_allclose(detector(Evidence(Z[::-1], X[::-1])), whole[::-1], rtol=1e-13)


def test_gradnorm_of_logits_that_rounding_changed_is_nearly_the_same(
    W: npt.NDArray[np.float32], X: Floats
) -> None:
    Z = cosine_logits(X, W, 16.0)
    detector = GradNorm()
    detector.fit(None, Head("cosine", W))
    rounded = detector(Evidence(Z.astype(np.float16), X.astype(np.float16)))
    # Half precision keeps three digits; p changes by the error of Z, which is up to 0.008.
    np.testing.assert_allclose(rounded, detector(Evidence(Z, X)), rtol=0.05)


def test_an_image_without_features_has_no_gradient_and_cosines_of_zero(W: npt.NDArray[np.float32]) -> None:
    nothing = Evidence(np.zeros((1, CLASSES)), np.zeros((1, FEATURES)))
    for detector in (GradNorm(), CosineMax()):
        detector.fit(None, Head("cosine", W))
        assert detector(nothing).tolist() == [0.0]


def test_gradnorm_takes_class_constants_and_one_factor_but_no_other_logits(
    W: npt.NDArray[np.float32], X: Floats
) -> None:
    H = X @ W.T.astype(np.float64)
    detector = GradNorm()
    detector.fit(None, Head("linear", W))
    for Z in (H, H * 3.0, H + np.linspace(-2, 2, CLASSES)):
        detector(Evidence(Z, X))
    for Z in (H / np.linalg.norm(W, axis=1), np.abs(H), np.random.default_rng(5).normal(size=H.shape)):
        with pytest.raises(DoesNotFit, match="a multiple of XW' plus constants"):
            detector(Evidence(Z, X))


def test_gradnorm_refuses_angles_in_place_of_cosines(W: npt.NDArray[np.float32], X: Floats) -> None:
    detector = GradNorm()
    detector.fit(None, Head("cosine", W))
    angles = np.pi - np.arccos(cosine_logits(X, W, 1.0))
    with pytest.raises(DoesNotFit, match="a multiple of the cosines"):
        detector(Evidence(10.0 * angles, X))


def test_cosine_is_the_largest_cosine_of_a_naive_loop(W: npt.NDArray[np.float32], X: Floats) -> None:
    detector = CosineMax()
    detector.fit(None, Head("cosine", W))
    expected = [max(float(x @ w / np.sqrt((x @ x) * (w @ w))) for w in W.astype(np.float64)) for x in X]
    np.testing.assert_allclose(detector(Evidence(cosine_logits(X, W, 5.0), X)), expected, rtol=1e-13)


def test_a_head_that_a_score_is_not_defined_for_does_not_fit(W: npt.NDArray[np.float32]) -> None:
    with pytest.raises(DoesNotFit, match="gradnorm needs a linear or a cosine head; got a godin head"):
        GradNorm().fit(None, Head("godin", W))
    for kind in ("linear", "godin"):
        with pytest.raises(DoesNotFit, match=f"cosine needs a cosine head; got a {kind} head"):
            CosineMax().fit(None, Head(kind, W))
    with pytest.raises(DoesNotFit, match="class weights longer than 1e-06"):
        GradNorm().fit(None, Head("cosine", np.zeros_like(W)))


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.full((IMAGES, FEATURES), np.nan), "features must be finite"),
        (np.zeros(IMAGES), "features must have shape"),
        (np.zeros((IMAGES, FEATURES + 1)), "the head has 9 features; got 10"),
    ],
)
def test_features_that_the_head_cannot_take_are_refused(
    features: npt.NDArray[Any], message: str, W: npt.NDArray[np.float32], X: Floats
) -> None:
    for detector in (GradNorm(), CosineMax()):
        detector.fit(None, Head("cosine", W))
        with pytest.raises(ValueError, match=message):
            detector(Evidence(cosine_logits(X, W, 5.0), features))


def test_a_gradnorm_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="T must be > 0 and finite; got 0"):
        GradNorm(T=0)


OWN = [each for each in SCORES.values() if each.path.startswith("workloads.evaluation.scores.")]


@pytest.mark.parametrize("entry", OWN, ids=lambda entry: entry.name)
def test_the_catalogue_says_what_a_scores_class_takes(entry: Any) -> None:
    path, _, attribute = entry.path.partition(":")
    taken = inspect.signature(getattr(importlib.import_module(path), attribute)).parameters
    assert {key: each.default for key, each in entry.parameters.items()} == {
        key: each.default for key, each in taken.items()
    }
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in taken.values())
