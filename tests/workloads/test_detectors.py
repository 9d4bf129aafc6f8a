"""Fitted rejection scores against the papers' formulas and against other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_ood import detector as pytorch_ood
from sklearn.covariance import EmpiricalCovariance

from tests.workloads.detector_formulas import (
    D_KEPT,
    DETECTORS,
    THROUGH_THE_HEAD,
    C,
    D,
    energy,
    evidence,
    world,
)
from workloads.evaluation.detectors import FDBD, GEN, RMD, Mahalanobis, ViM
from workloads.evaluation.evidence import Evidence, Floats, Head

every = pytest.mark.parametrize("name", DETECTORS)


@every
def test_each_detector_is_its_papers_formula(name: str) -> None:
    make, reference = DETECTORS[name]
    train, head, known, unknown = world()
    detector = make()
    detector.fit(train, head)
    for test in (known, unknown):
        # Both sides in float64; condition numbers here are below 1e3.
        np.testing.assert_allclose(detector(test), reference(train, head, test), rtol=1e-10)


@every
def test_images_of_the_classes_score_higher_than_others(name: str) -> None:
    train, head, known, unknown = world()
    detector = DETECTORS[name][0]()
    detector.fit(train, head)
    wins = detector(known)[:, None] > detector(unknown)[None, :]
    # Mahalanobis ranks this plain case at 0.92; ASH, which keeps a tenth of these few features, at 0.69. A
    # turned sign gives 1 minus that.
    assert wins.mean() > (0.65 if name == "ASH" else 0.9)


@every
def test_a_score_does_not_depend_on_the_other_images(name: str) -> None:
    train, head, known, _ = world()
    detector = DETECTORS[name][0]()
    detector.fit(train, head)
    together = detector(known)
    assert together.dtype == np.float64
    assert together.shape == (len(known),)
    for part in (slice(0, 1), slice(1, 8), slice(8, None)):
        alone = detector(Evidence(known.logits[part], known.features[part]))
        # A matrix product may add in another order for another number of rows.
        np.testing.assert_allclose(alone, together[part], rtol=1e-12)


@pytest.mark.parametrize("name", ["ReAct", "ASH", "SCALE", "FDBD", "ViM"])
def test_one_factor_on_all_logits_is_taken_over_into_the_head(name: str) -> None:
    make, reference = DETECTORS[name]
    train, head, known, _ = world(factor=2.5)
    detector = make()
    detector.fit(train, head)
    assert head.bias is not None
    scaled = replace(head, weight=2.5 * head.weight, bias=2.5 * head.bias)
    # 2.5 times a float32 weight is rounded to float32 in the reference.
    np.testing.assert_allclose(detector(known), reference(train, scaled, known), rtol=1e-6)


@pytest.mark.parametrize("name", THROUGH_THE_HEAD)
def test_logits_rounded_by_a_16_bit_product_are_still_the_heads(name: str) -> None:
    train, head, known, _ = world()
    detector = DETECTORS[name][0]()
    detector.fit(replace(train, logits=train.logits.astype(np.float16)), head)
    assert np.isfinite(detector(known)).all()


@pytest.mark.parametrize("case", ["fewer images than features", "constant features"])
def test_a_singular_covariance_is_pseudo_inverted_as_by_scikit_learn(case: str) -> None:
    train, head, known, unknown = world()
    X, y = train.features.copy(), train.labels
    assert y is not None
    if case == "constant features":
        X[:, [2, 7]] = 1.25
    else:
        X, y = X[:9], y[:9]
    train = evidence(X, head, y)
    means = np.stack([X[y == c].astype(float).mean(axis=0) for c in range(C)])
    within = EmpiricalCovariance(assume_centered=True).fit(X - means[y])
    whole = EmpiricalCovariance().fit(X.astype(float))
    for test in (known, unknown):
        F = test.features.astype(float)
        nearest = np.min([within.mahalanobis(F - m) for m in means], axis=0)
        for detector, expected in ((Mahalanobis(), -nearest), (RMD(), whole.mahalanobis(F) - nearest)):
            detector.fit(train, head)
            # The smallest variance kept is 1e-3 of the largest or more.
            np.testing.assert_allclose(detector(test), expected, rtol=1e-9, atol=1e-9)


def test_a_class_without_training_images_is_passed_over_by_mahalanobis() -> None:
    train, head, known, _ = world()
    assert train.labels is not None
    rows = train.labels != 1
    two = Evidence(train.logits[rows], train.features[rows], train.labels[rows])
    merged = replace(two, labels=np.minimum(two.labels, 1) if two.labels is not None else None)
    first, second = Mahalanobis(), Mahalanobis()
    first.fit(two, head)
    second.fit(merged, head)
    np.testing.assert_array_equal(first(known), second(known))


def _library_scores(name: str, train: Evidence, head: Head, test: Evidence) -> Floats:
    W, b = torch.from_numpy(head.weight), torch.tensor(head.bias)
    layer = torch.nn.Linear(D, C)
    layer.weight.data, layer.bias.data = W, b
    made: dict[str, Callable[[], Any]] = {
        "Mahalanobis": lambda: pytorch_ood.Mahalanobis(None),
        "RMD": lambda: pytorch_ood.RMD(None),
        "ViM": lambda: pytorch_ood.ViM(None, d=D_KEPT, w=W, b=b),
        "FDBD": lambda: pytorch_ood.fDBD(None, layer),
        "SHE": lambda: pytorch_ood.SHE(None, layer),
    }
    library = made[name]()
    library.fit_features(torch.tensor(train.features), torch.tensor(train.labels))
    with torch.no_grad():
        scores = -library.predict_features(torch.tensor(test.features)).numpy().astype(np.float64)
    # Its scatter matrices are not divided by N, and Mahalanobis is halved there.
    n = len(train)
    return np.asarray(scores * {"Mahalanobis": 2 * n, "RMD": n}.get(name, 1))


@pytest.mark.parametrize("name", ["Mahalanobis", "RMD", "ViM", "FDBD", "SHE"])
def test_a_plain_case_agrees_with_pytorch_ood_to_float32(name: str) -> None:
    train, head, known, _ = world()
    detector = DETECTORS[name][0]()
    detector.fit(train, head)
    # float32 there, 6e-8, times a condition number below 1e3 and distances of up to 110.
    expected = _library_scores(name, train, head, known)
    np.testing.assert_allclose(detector(known), expected, rtol=1e-4, atol=2e-3)


def test_gen_ranks_images_that_are_all_sure_beyond_rounding() -> None:
    gaps = np.array([20.0, 40.0, 80.0, 700.0, 20000.0])
    _, head, _, _ = world()
    scores = GEN(gamma=0.1)(Evidence(np.stack([gaps, np.zeros(5)], axis=1), np.zeros((5, 1))))
    GEN().fit(None, head)
    # Two classes: G = 2 (p q)^gamma, with q = exp(-gap) p, and p = 1 to 2e-9.
    np.testing.assert_allclose(scores, 0.1 * gaps - np.log(2), rtol=1e-8)


@pytest.mark.parametrize(("features", "d"), [(12, 6), (767, 383), (768, 512), (2048, 1000)])
def test_vim_chooses_its_directions_by_the_number_of_features(features: int, d: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, features)).astype(np.float32)
    head = Head("linear", rng.normal(size=(C, features)).astype(np.float32))
    train = evidence(np.concatenate([X, 0.01 * np.eye(features)[:, ::-1]]), head)
    chosen, given = ViM(), ViM(d=d)
    chosen.fit(train, head)
    given.fit(train, head)
    np.testing.assert_array_equal(chosen(train), given(train))


def test_vim_takes_a_singular_value_of_w_at_the_rounding_of_float32_for_zero() -> None:
    train, head, known, _ = world()
    centred = head.weight.astype(np.float64) - head.weight.mean(axis=0, dtype=np.float64)
    scores = []
    for dtype in (np.float64, np.float32):
        rounded = replace(head, weight=centred.astype(dtype))
        detector = ViM(d=D_KEPT)
        detector.fit(evidence(train.features, rounded), rounded)
        scores.append(detector(evidence(known.features, rounded)))
    # The weights differ by 6e-8; a third singular value of that size would move u by some 1e6.
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


def test_fdbd_of_an_image_on_the_training_mean_is_finite_and_high() -> None:
    _, head, known, _ = world()
    level = evidence(np.repeat(known.features[:1], 4, axis=0), head)
    detector = FDBD()
    detector.fit(level, head)
    scores = detector(evidence(np.concatenate([level.features[:1], known.features[1:]]), head))
    assert np.isfinite(scores).all()
    assert scores[0] > 1e6 > scores[1:].max()


@pytest.mark.parametrize("name", ["ASH", "SCALE"])
def test_an_image_without_any_activation_has_the_energy_of_the_bias(name: str) -> None:
    train, head, known, _ = world()
    detector = DETECTORS[name][0]()
    detector.fit(train, head)
    silent = known.features.copy()
    silent[4] = 0.0
    scores = detector(evidence(silent, head))
    assert head.bias is not None
    assert scores[4] == pytest.approx(energy(head.bias.astype(float)), rel=1e-14)
    np.testing.assert_allclose(np.delete(scores, 4), np.delete(detector(known), 4), rtol=1e-12)
