"""What fitted rejection scores refuse, and in which words."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from tests.workloads.detector_formulas import (
    ANY_HEAD,
    DETECTORS,
    THROUGH_THE_HEAD,
    C,
    D,
    evidence,
    world,
)
from workloads.evaluation.detectors import ASH, FDBD, GEN, SCALE, SHE, Mahalanobis, ReAct, ViM
from workloads.evaluation.evidence import Detector, DoesNotFit, Evidence, Head
from workloads.head import HeadKind

every = pytest.mark.parametrize("name", DETECTORS)


@pytest.mark.parametrize("kind", ["cosine", "godin"])
@every
def test_a_head_that_is_not_linear_is_refused_by_those_that_go_through_it(name: str, kind: HeadKind) -> None:
    train, head, known, _ = world()
    detector, other = DETECTORS[name][0](), Head(kind, head.weight)
    if name in ANY_HEAD:
        detector.fit(train, other)
        assert np.isfinite(detector(known)).all()
        return
    with pytest.raises(DoesNotFit, match=f"{name} goes through a linear head.* {kind} head"):
        detector.fit(train, other)


@pytest.mark.parametrize("name", THROUGH_THE_HEAD)
def test_logits_that_are_not_the_heads_are_refused(name: str) -> None:
    train, head, _, _ = world()
    Z = train.Z
    for changed in (Z / np.linalg.norm(Z, axis=1, keepdims=True), Z - [0.0, 0.0, 0.5], -Z):
        with pytest.raises(DoesNotFit, match="up to one positive factor"):
            DETECTORS[name][0]().fit(replace(train, logits=changed), head)


@every
def test_missing_training_images_or_labels_are_refused_where_they_are_needed(name: str) -> None:
    train, head, _, _ = world()
    unlabelled = replace(train, labels=None)
    if name == "GEN":
        DETECTORS[name][0]().fit(None, head)
        return
    with pytest.raises(DoesNotFit, match=f"{name} is fitted to training images; got none"):
        DETECTORS[name][0]().fit(None, head)
    if name in ("Mahalanobis", "RMD", "SHE"):
        with pytest.raises(DoesNotFit, match=f"{name} needs the labels"):
            DETECTORS[name][0]().fit(unlabelled, head)
    else:
        DETECTORS[name][0]().fit(unlabelled, head)


@pytest.mark.parametrize("name", ["Mahalanobis", "RMD"])
def test_features_that_do_not_vary_are_refused(name: str) -> None:
    train, head, _, _ = world()
    with pytest.raises(DoesNotFit, match="needs features that vary"):
        DETECTORS[name][0]().fit(replace(train, features=np.ones_like(train.features)), head)


def test_vim_refuses_what_has_no_residual_or_no_positive_logits() -> None:
    train, head, _, _ = world()
    with pytest.raises(DoesNotFit, match="ViM keeps 1 to 11 of these 12 features' directions; got d = 12"):
        ViM(d=12).fit(train, head)
    few = Evidence(train.logits[:3], train.features[:3])
    with pytest.raises(DoesNotFit, match="4 directions do not explain"):
        ViM(d=4).fit(few, head)
    assert head.bias is not None
    low = replace(head, bias=head.bias - 100)
    with pytest.raises(DoesNotFit, match="mean largest logit, which must be > 0"):
        ViM(d=4).fit(evidence(train.features, low), low)


def test_fdbd_refuses_classes_with_equal_weights() -> None:
    train, head, _, _ = world()
    equal = replace(head, weight=head.weight[[0, 1, 1]])
    with pytest.raises(DoesNotFit, match="1 and 2 have equal weights"):
        FDBD().fit(evidence(train.features, equal), equal)


def test_she_refuses_a_class_of_which_no_image_is_right() -> None:
    train, head, _, _ = world()
    assert train.labels is not None
    wrong = replace(train, labels=np.where(train.labels == 2, 0, train.labels))
    with pytest.raises(DoesNotFit, match="none of 1 of 3 classes, the first of them 2"):
        SHE().fit(wrong, head)


@pytest.mark.parametrize("name", ["ASH", "SCALE"])
def test_negative_features_are_refused_by_those_that_divide_by_their_sum(name: str) -> None:
    train, head, known, _ = world()
    below = evidence(known.features - np.float32(0.5), head)
    with pytest.raises(DoesNotFit, match=rf"{name} needs features >= 0, as after a ReLU; got -0\.5"):
        DETECTORS[name][0]().fit(evidence(train.features - np.float32(0.5), head), head)
    detector = DETECTORS[name][0]()
    detector.fit(train, head)
    with pytest.raises(DoesNotFit, match="needs features >= 0"):
        detector(below)


@pytest.mark.parametrize("name", ["ASH", "SCALE"])
def test_a_percentile_that_keeps_no_feature_is_refused(name: str) -> None:
    train, head, _, _ = world()
    high: dict[str, Detector] = {"ASH": ASH(percentile=98), "SCALE": SCALE(percentile=98)}
    with pytest.raises(DoesNotFit, match=r"12 features / 0 kept.*a percentile of 98 is too high"):
        high[name].fit(train, head)


@pytest.mark.parametrize("make", [ASH, SCALE])
def test_a_percentile_whose_factor_leaves_float64_is_refused(make: Callable[..., Detector]) -> None:
    wide = Head("linear", np.ones((C, 1300), dtype=np.float32))
    train = evidence(np.ones((5, 1300)), wide)
    with pytest.raises(DoesNotFit, match=r"1300 features / 1 kept.*within exp\(600\)"):
        make(percentile=99.9).fit(train, wide)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ReAct(percentile=101), "a percentile must be within 0..100; got 101"),
        (lambda: ASH(percentile=-1), "a percentile must be within 0..100; got -1"),
        (lambda: SCALE(percentile=float("nan")), "a percentile must be within 0..100; got nan"),
        (lambda: GEN(gamma=0.0), "gamma must be > 0; got 0.0"),
        (lambda: GEN(M=0), "M must be >= 1; got 0"),
        (lambda: ViM(d=-1), "d must be >= 0; got -1"),
    ],
)
def test_parameters_out_of_range_are_refused(make: Callable[[], Detector], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("name", ["ReAct", "ASH", "SCALE"])
def test_a_missing_pytorch_ood_is_named_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train, head, _, _ = world()
    monkeypatch.setitem(sys.modules, "pytorch_ood.detector", None)
    with pytest.raises(DoesNotFit, match=r'pip install "orchestrate-losses\[detectors\]"'):
        DETECTORS[name][0]().fit(train, head)


def test_bad_shapes_and_values_are_refused() -> None:
    train, head, _, _ = world()
    assert train.labels is not None
    for changed, message in (
        (replace(train, features=train.features[:5]), r"features must have shape \[120 images"),
        (replace(train, features=np.full((120, D), np.nan)), "features must be finite"),
        (replace(train, labels=train.labels[:5]), r"labels must have shape \[120\]"),
        (replace(train, labels=train.labels + 1), r"labels must be in 0\.\.2; got 1\.\.3"),
    ):
        with pytest.raises(ValueError, match=message):
            Mahalanobis().fit(changed, head)
