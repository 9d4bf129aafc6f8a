"""The reference against pytorch-metric-learning and pytorch-ood, where they are installed.

Where a library means something else, a test says what, instead of a tolerance that would hide it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.workloads.losses import reference as ref
from tests.workloads.losses.reference_arrays import Array, Labels

ROUNDING = 1e-12
"""Relative; both sides are float64 and add up some hundred terms of like size."""

N, C, D = 12, 5, 4


# The library hands a tensor to SciPy, which NumPy 2 deprecates; the value is not affected.
ARRAY_WRAP = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")


@pytest.fixture(params=[0, 1, 2])
def features(request: pytest.FixtureRequest) -> tuple[Array, Array, Labels]:
    """X, W and y; every class occurs, and some angles are past pi - 1/2, where ArcFace has to fall back."""
    rng = np.random.default_rng(request.param)
    y = np.arange(N) % C
    W = rng.normal(size=(C, D))
    X = 2 * rng.normal(size=(N, D))
    X[:3] = 0.1 * X[:3] - 1.5 * W[y[:3]]
    return X, W, y


def library_value(loss: Any, X: Array, W: Array, y: Labels) -> float:
    """The value of one of the library's classification losses with the given class weights."""
    with torch.no_grad():
        loss.W = torch.nn.Parameter(torch.from_numpy(W.T.copy()))
        value: Tensor = loss(torch.from_numpy(X), torch.from_numpy(y))
    assert value.dtype == torch.float64
    return value.item()


@pytest.fixture(scope="module")
def losses() -> Any:
    return pytest.importorskip("pytorch_metric_learning.losses")


@pytest.fixture(scope="module")
def miners() -> Any:
    return pytest.importorskip("pytorch_metric_learning.miners")


@pytest.fixture(scope="module")
def distances() -> Any:
    return pytest.importorskip("pytorch_metric_learning.distances")


@pytest.fixture(scope="module")
def mean_reducer() -> Any:
    return pytest.importorskip("pytorch_metric_learning.reducers").MeanReducer()


def test_cosface_agrees(losses: Any, features: tuple[Array, Array, Labels]) -> None:
    X, W, y = features
    value = library_value(losses.CosFaceLoss(C, D, margin=0.35, scale=30), X, W, y)
    assert ref.cosface(ref.cos_of(X, W), y, s=30, m=0.35) == pytest.approx(value, rel=ROUNDING)


def test_arcface_agrees_in_degrees_and_only_with_the_linear_fallback(
    losses: Any, features: tuple[Array, Array, Labels]
) -> None:
    X, W, y = features
    c = ref.cos_of(X, W)
    value = library_value(losses.ArcFaceLoss(C, D, margin=math.degrees(0.5), scale=30), X, W, y)
    assert ref.arcface(c, y, s=30, m=0.5) == pytest.approx(value, rel=ROUNDING)
    assert ref.arcface(c, y, s=30, m=0.5, fallback="none") != pytest.approx(value, rel=1e-3)
    assert ref.arcface(c, y, s=30, m=0.5, fallback="easy") != pytest.approx(value, rel=1e-3)
    radians = library_value(losses.ArcFaceLoss(C, D, margin=0.5, scale=30), X, W, y)
    assert ref.arcface(c, y, s=30, m=math.radians(0.5)) == pytest.approx(radians, rel=ROUNDING)


@ARRAY_WRAP
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_l_softmax_agrees_at_the_end_of_an_annealing_that_the_library_lacks(
    losses: Any, features: tuple[Array, Array, Labels], m: int
) -> None:
    X, W, y = features
    value = library_value(losses.LargeMarginSoftmaxLoss(C, D, margin=m), X, W, y)
    assert ref.l_softmax(X, W, y, m=m, lam=0) == pytest.approx(value, rel=ROUNDING)
    if m > 1:
        assert ref.l_softmax(X, W, y, m=m, lam=5) < 0.8 * value
    # The annealing starts from plain cross-entropy, off by the 1e-9 of the margin that is left.
    plain = ref.cross_entropy(X @ W.T, y)
    assert ref.l_softmax(X, W, y, m=m, lam=1e9) == pytest.approx(plain, rel=1e-7)


@ARRAY_WRAP
@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_a_softmax_agrees_at_the_end_of_an_annealing_that_the_library_lacks(
    losses: Any, features: tuple[Array, Array, Labels], m: int
) -> None:
    X, W, y = features
    value = library_value(losses.SphereFaceLoss(C, D, margin=m), X, W, y)
    assert ref.a_softmax(X, W, y, m=m, lam=0) == pytest.approx(value, rel=ROUNDING)
    if m > 1:
        assert ref.a_softmax(X, W, y, m=m, lam=5) < 0.8 * value
    plain = ref.modified_softmax(X, W, y)
    assert ref.a_softmax(X, W, y, m=m, lam=1e9) == pytest.approx(plain, rel=1e-7)


def test_normface_and_the_modified_softmax_agree(
    losses: Any, distances: Any, features: tuple[Array, Array, Labels]
) -> None:
    X, W, y = features
    value = library_value(losses.NormalizedSoftmaxLoss(C, D, temperature=0.05), X, W, y)
    assert ref.normface(ref.cos_of(X, W), y, s=20) == pytest.approx(value, rel=ROUNDING)
    keeps_norm = distances.DotProductSimilarity(normalize_embeddings=False)
    modified = losses.NormalizedSoftmaxLoss(C, D, temperature=1.0, distance=keeps_norm)
    assert ref.modified_softmax(X, W, y) == pytest.approx(library_value(modified, X, W, y), rel=ROUNDING)


@pytest.mark.parametrize("normalise", [True, False])
def test_triplets_of_the_whole_batch_agree(
    losses: Any, distances: Any, features: tuple[Array, Array, Labels], normalise: bool
) -> None:
    X, _, y = features
    distance = distances.LpDistance(normalize_embeddings=normalise)
    loss = losses.TripletMarginLoss(margin=0.3, distance=distance)
    value = loss(torch.from_numpy(X), torch.from_numpy(y)).item()
    own = ref.triplet(X, y, margin=0.3, mining="batch_all", normalise=normalise)
    assert own == pytest.approx(value, rel=ROUNDING)


@pytest.mark.parametrize("normalise", [True, False])
def test_hardest_triplets_agree_with_a_mean_over_all_anchors(
    losses: Any,
    miners: Any,
    distances: Any,
    mean_reducer: Any,
    features: tuple[Array, Array, Labels],
    normalise: bool,
) -> None:
    X, y = torch.from_numpy(features[0]), torch.from_numpy(features[2])
    distance = distances.LpDistance(normalize_embeddings=normalise)
    triplets = miners.BatchHardMiner(distance=distance)(X, y)
    loss = losses.TripletMarginLoss(margin=0.3, distance=distance, reducer=mean_reducer)
    own = ref.triplet(X.numpy(), y.numpy(), margin=0.3, mining="batch_hard", normalise=normalise)
    assert own == pytest.approx(loss(X, y, triplets).item(), rel=ROUNDING)


def test_hardest_triplets_are_averaged_over_the_violating_anchors_by_the_library(
    losses: Any, miners: Any
) -> None:
    # Two pairs far apart and one point between: only 3 has a hinge, and Hermans et al. divide by all four.
    X = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1])
    distance = pytest.importorskip("pytorch_metric_learning.distances").LpDistance(normalize_embeddings=False)
    triplets = miners.BatchHardMiner(distance=distance)(X, y)
    value = losses.TripletMarginLoss(margin=0.5, distance=distance)(X, y, triplets).item()
    own = ref.triplet(X.numpy(), y.numpy(), margin=0.5, mining="batch_hard", normalise=False)
    assert (own, value) == (2.5 / 4, 2.5)


def test_semi_hard_triplets_agree_where_the_library_finds_one_for_every_pair(
    losses: Any, miners: Any, distances: Any, mean_reducer: Any
) -> None:
    # One positive an anchor, and always a negative farther away than it.
    X = torch.tensor([[0.0, 1.0], [0.8, 1.3], [2.0, 0.0], [2.5, 0.4], [0.0, -2.0], [1.0, -2.3]]).double()
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    distance = distances.LpDistance(normalize_embeddings=False)
    miner = miners.BatchEasyHardMiner(pos_strategy="easy", neg_strategy="semihard", distance=distance)
    loss = losses.TripletMarginLoss(margin=1.5, distance=distance, reducer=mean_reducer)
    triplets = miner(X, y)
    assert len(triplets[0]) == len(y)
    own = ref.triplet(X.numpy(), y.numpy(), margin=1.5, mining="semi_hard", normalise=False)
    assert own == pytest.approx(loss(X, y, triplets).item(), rel=ROUNDING)


def test_pairs_without_a_semi_hard_negative_are_dropped_by_the_library(
    losses: Any, miners: Any, distances: Any, mean_reducer: Any
) -> None:
    # 3-7 has no negative farther than 4. The library forgets it; FaceNet's rule takes the farthest, 3.
    X = torch.tensor([[0.0], [1.0], [3.0], [7.0]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1])
    distance = distances.LpDistance(normalize_embeddings=False)
    miner = miners.BatchEasyHardMiner(pos_strategy="easy", neg_strategy="semihard", distance=distance)
    value = losses.TripletMarginLoss(margin=1.5, distance=distance, reducer=mean_reducer)(X, y, miner(X, y))
    own = ref.triplet(X.numpy(), y.numpy(), margin=1.5, mining="semi_hard", normalise=False)
    # Hinges: 0 has 1 - 3 + 1.5, 1 has 1 - 2 + 1.5, 7 has 4 - 6 + 1.5, and 3 has 4 - 3 + 1.5.
    assert value.item() == pytest.approx(0.5 / 3)
    assert own == pytest.approx((0.5 + 2.5) / 4)


def test_logitnorm_and_cross_entropy_agree_with_pytorch_ood() -> None:
    library: Any = pytest.importorskip("pytorch_ood.loss")
    rng = np.random.default_rng(0)
    Z, y = 3 * rng.normal(size=(N, C)), rng.integers(0, C, size=N)
    tensors = torch.from_numpy(Z), torch.from_numpy(y)
    for tau in (0.04, 1.0):
        value = library.LogitNorm(t=tau)(*tensors).item()
        assert ref.logitnorm(Z, y, tau=tau) == pytest.approx(value, rel=ROUNDING)
    value = library.CrossEntropyLoss()(*tensors).item()
    assert ref.cross_entropy(Z, y) == pytest.approx(value, rel=ROUNDING)
