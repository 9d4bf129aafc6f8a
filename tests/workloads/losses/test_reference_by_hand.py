"""The reference against printed numbers, properties, and what can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar

from tests.workloads.losses import reference as ref
from tests.workloads.losses.reference_arrays import Array
from tests.workloads.losses.worked_values import INPUTS

PRINTED = 5e-7
"""Half a unit of the last of the six decimals that a printed number has."""


@pytest.mark.parametrize("tau", [1.0, 0.2])
@pytest.mark.parametrize("C", [2, 3, 10])
def test_no_direction_of_the_logits_beats_the_floor_of_logitnorm(C: int, tau: float) -> None:
    y = np.array([1])

    def loss(z: Array) -> float:
        return ref.logitnorm(z[None], y, tau=tau)

    floor = ref.logitnorm_floor(C, tau)
    # From some starts the search leaps to where the loss hardly changes, so the best of five counts.
    starts = [np.random.default_rng(seed).normal(size=C) for seed in range(5)]
    found = [minimize(loss, start, tol=1e-10).fun for start in starts]
    # The 1e-7 in the norm keeps the attained loss above the floor, by about 1e-7 / ||Z||.
    assert floor <= min(found) == pytest.approx(floor, rel=1e-5)
    assert loss(np.eye(C)[1] - 1 / C) == pytest.approx(floor, rel=1e-6)
    assert ref.logitnorm_bound_of_the_paper(C, tau) < floor


def test_the_floor_and_the_papers_bound_are_the_printed_numbers() -> None:
    assert ref.logitnorm_floor(10, 1.0) == pytest.approx(1.419869, abs=PRINTED)
    assert ref.logitnorm_bound_of_the_paper(10, 1.0) == pytest.approx(0.796614, abs=PRINTED)


@pytest.mark.parametrize(("C", "corrected", "source"), [(10, 2.101003, 2.679016), (100, 3.628650, 4.377873)])
def test_the_arcgrad_scales_are_the_printed_numbers(C: int, corrected: float, source: float) -> None:
    gap = 0.3
    assert gap * ref.arcgrad_scale(C, gap) == pytest.approx(corrected, abs=PRINTED)
    assert gap * ref.arcgrad_scale(C, gap, expression="source") == pytest.approx(source, abs=PRINTED)


@pytest.mark.parametrize("C", [3, 10, 100, 1000])
def test_the_corrected_arcgrad_scale_is_where_the_loss_is_steepest(C: int) -> None:
    gap, step = 0.3, 1e-6

    def slope(s: float) -> float:
        """`|dL/dgap|` of one sample whose other angles are all farther by the gap, from the loss itself."""

        def loss(g: float) -> float:
            angles = np.full((1, C), 1.0 + g)
            angles[0, 0] = 1.0
            return ref.arcgrad(np.cos(angles), np.array([0]), s=s)

        return (loss(gap - step) - loss(gap + step)) / (2 * step)

    best = minimize_scalar(lambda s: -slope(s), bounds=(0.1, 50), method="bounded").x
    # The slope is flat at its maximum: an error of 1e-9 in it moves the argument by about 1e-4.
    assert ref.arcgrad_scale(C, gap) == pytest.approx(best, rel=1e-3)
    reached = slope(ref.arcgrad_scale(C, gap, expression="source")) / slope(ref.arcgrad_scale(C, gap))
    assert 0.92 <= reached <= 0.96


@pytest.mark.parametrize(
    ("N", "mu"), [(50_000, 0.2), (60_000, 0.182574), (1_281_167, 0.039510), (1_281_000, 0.039513)]
)
def test_the_margin_of_hem_is_the_printed_number(N: int, mu: float) -> None:
    assert ref.hem_margin(N) == pytest.approx(mu, abs=PRINTED)


def test_the_margins_of_hem_plus_grow_as_classes_get_rare_up_to_the_cap() -> None:
    # CIFAR-10 with 5000 images in the first class and 50 in the last: 0.2 to 2.0.
    counts = np.array([5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50])
    margins = ref.hem_plus_margins(counts)
    assert margins[[0, -1]] == pytest.approx([0.2, 2.0], rel=1e-12)
    assert list(margins) == sorted(margins)
    # Of 50 000 images HEM's margin is 0.2; a class of one image, or of none, gets ten times that.
    assert ref.hem_plus_margins(np.array([49_999, 1, 0])) == pytest.approx([math.sqrt(2 / 149.997), 2, 2])
    assert ref.hem_plus_margins(np.array([1, 1])) == pytest.approx([math.sqrt(1000)] * 2, rel=1e-14)


def test_hem_plus_on_balanced_classes_is_hem() -> None:
    Z, y = np.array(INPUTS["ZB"]), np.array(INPUTS["yB"])
    balanced = np.array([500] * 4)
    assert ref.hem_plus(Z, y, balanced) == pytest.approx(ref.hem(Z, y, mu=1.0), rel=1e-14)


def test_hem_plus_looks_up_the_true_class_of_each_sample() -> None:
    Z, counts = np.zeros((2, 2)), np.array([500, 20])
    # Equal logits: the only error of a sample is its own margin, sqrt(2000 / (2 n)).
    assert ref.hem_plus(Z[:1], np.array([0]), counts) == pytest.approx(math.sqrt(2), rel=1e-14)
    assert ref.hem_plus(Z[:1], np.array([1]), counts) == pytest.approx(math.sqrt(50), rel=1e-14)
    # The cap: ten times sqrt(2000 / 50 000).
    assert ref.hem_plus(Z[:1], np.array([1]), np.array([49_999, 1])) == pytest.approx(2, rel=1e-14)


def test_hem_counts_what_can_be_counted_by_hand() -> None:
    # Errors at mu = 1: (0, .5, 0), (0, 3, 2), none. Averages: 1/6, 5/3, 0; of the batch 11/18.
    Z = np.array([[2.0, 1.5, 0.0], [0.0, 2.0, 1.0], [5.0, 0.0, 0.0]])
    y = np.array([0, 0, 0])
    assert ref.hem(Z, y, mu=1.0) == pytest.approx((0.5 + 2.5) / 2)
    assert ref.hem(Z, y, mu=1.0, mean_over="all") == pytest.approx((0.5 + 2.5) / 3)
    assert ref.hem(Z, y, mu=1.0, threshold="batch") == pytest.approx(2.5)
    assert ref.hem(Z, y, mu=np.array([1.0, 0.0, 6.0])) == pytest.approx((0.5 + 1.5 + 1.0) / 3)
    assert ref.hem(Z[2:], y[2:], mu=1.0) == 0.0


def test_the_scale_of_adacos_is_the_printed_number_and_never_below_one() -> None:
    assert ref.adacos_scale(10) == pytest.approx(3.107345, abs=PRINTED)
    assert [ref.adacos_scale(C) for C in (2, 3)] == [1.0, 1.0]


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_psi_falls_without_a_jump_from_1_to_1_minus_2m(m: int) -> None:
    values = [ref.psi(theta, m) for theta in np.linspace(0.0, math.pi, 2001)]
    steps = np.diff(values)
    assert (values[0], values[-1]) == pytest.approx((1.0, 1.0 - 2 * m), abs=1e-12)
    # |psi'| <= m, so that a step is at most m times the spacing; rounding may lift a flat piece by 1e-15.
    assert steps.max() <= 1e-14
    assert steps.min() >= -m * math.pi / 2000 - 1e-14


def test_the_soft_boundary_of_a_softmax_is_where_the_paper_puts_it() -> None:
    # m theta_1 = theta_2 for two classes an angle K apart: theta_1 = K / (m + 1), and both cost log 2.
    m, K = 3, 1.2
    W = np.array([[1.0, 0.0], [math.cos(K), math.sin(K)]])
    X = 4.0 * np.array([[math.cos(K / (m + 1)), math.sin(K / (m + 1))]])
    assert ref.a_softmax(X, W, np.array([0]), m=m, lam=0) == pytest.approx(math.log(2), rel=1e-12)


def test_ldam_gives_the_rarest_class_the_whole_margin_and_drw_weights_sum_to_the_classes() -> None:
    counts = np.array([625, 81, 16])
    # n^(-1/4) is 1/5, 1/3 and 1/2.
    assert ref.ldam_margins(counts) == pytest.approx([0.2, 1 / 3, 0.5], rel=1e-12)
    weights = ref.drw_weights(counts)
    assert weights.sum() == pytest.approx(3.0, rel=1e-14)
    # Far below 1 / (1 - beta) images, the effective number is the number.
    assert weights[2] / weights[0] == pytest.approx(625 / 16, rel=0.05)


def test_classes_without_images_count_as_classes_of_one() -> None:
    counts, floored = np.array([100, 0, 10]), np.array([100, 1, 10])
    Z, y = np.array([[0.3, 0.1, -0.2], [0.1, 0.9, 0.4]]), np.array([0, 1])
    for loss in (ref.logit_adjustment, ref.balanced_softmax, ref.ldam):
        assert loss(Z, y, counts) == loss(Z, y, floored)
        assert loss(Z, y, counts) != loss(Z, y, np.array([100, 2, 10]))
    assert list(ref.drw_weights(counts)) == list(ref.drw_weights(floored))


def test_cosines_that_rounding_put_beyond_one_are_cosines_of_one() -> None:
    beyond, one = (np.array([[c, -0.5], [0.5, -c]]) for c in (np.nextafter(1, 2), 1.0))
    y = np.array([0, 1])
    # A difference of 1e-16 in a cosine of one changes a cosine by as much, and no angle at all.
    assert ref.arcgrad(beyond, y, s=10) == ref.arcgrad(one, y, s=10)
    assert ref.arcface(beyond, y, s=10, m=0.5) == pytest.approx(ref.arcface(one, y, s=10, m=0.5), rel=1e-14)
    for labels in (np.array([0, 0]), np.array([1, 1])):
        scales = [ref.adacos_dynamic_scale(c, labels, s_previous=9) for c in (beyond, one)]
        assert scales[0] == pytest.approx(scales[1], rel=1e-14)


def test_focal_weights_act_before_or_inside_the_exponential() -> None:
    # p_y = 3/4; the weight 2 squares it to 9/16 inside.
    Z, y, alpha = np.array([[math.log(3), 0.0]]), np.array([0]), np.array([2.0, 7.0])
    outside = 2 * (1 / 4) ** 2 * math.log(4 / 3)
    inside = (7 / 16) ** 2 * 2 * math.log(4 / 3)
    assert ref.focal(Z, y, alpha=alpha) == pytest.approx(outside, rel=1e-12)
    assert ref.focal(Z, y, alpha=alpha, weighting="inside") == pytest.approx(inside, rel=1e-12)


@pytest.mark.parametrize(
    ("mining", "expected"),
    [
        # Anchors and their (positive, negative) distances: 0: (1, 3); 1: (1, 2); 3: (4, 2); 7: (4, 6).
        ("batch_hard", (0 + 0 + 2.5 + 0) / 4),
        # Above zero are 3-7 against 1 (4 - 2 + .5) and against 0 (4 - 3 + .5).
        ("batch_all", (2.5 + 1.5) / 2),
        # 3-7 has no negative farther than 4: it takes the farthest, 3.
        ("semi_hard", (0 + 0 + 1.5 + 0) / 4),
    ],
)
def test_the_triplets_of_four_points_on_a_line_are_those_counted_by_hand(
    mining: str, expected: float
) -> None:
    X, y = np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 0, 1, 1])
    options = {"margin": 0.5, "mining": mining, "normalise": False}
    assert ref.triplet(X, y, **options) == pytest.approx(expected, rel=1e-14)  # type: ignore[arg-type]


def test_ties_of_triplets_are_counted_as_the_rules_say() -> None:
    y, options = np.array([0, 0, 1, 1]), {"normalise": False}
    # 1-0 against 3 has a hinge of exactly zero at a margin of 1, and is no part of the mean.
    X = np.array([[0.0], [1.0], [3.0], [7.0]])
    assert ref.triplet(X, y, margin=1.0, mining="batch_all", **options) == (3 + 2) / 2
    # The nearest negative of 1 is as far as its positive, not farther, so 4 is taken; only 2-4 is left.
    X = np.array([[0.0], [1.0], [2.0], [4.0]])
    assert ref.triplet(X, y, margin=0.5, mining="semi_hard", **options) == 0.5 / 4


def test_triplets_need_a_positive_and_a_negative() -> None:
    X = np.array([[0.0], [1.0], [3.0]])
    assert ref.triplet(X, np.array([0, 0, 0]), margin=9.0, normalise=False) == 0.0
    assert ref.triplet(X, np.array([0, 1, 2]), margin=9.0, normalise=False) == 0.0
    # The lone 3 is an anchor of no triplet: (1 - 3 + 9) and (1 - 2 + 9), over two anchors.
    assert ref.triplet(X, np.array([0, 0, 1]), margin=9.0, normalise=False) == pytest.approx(7.5)


def test_equal_logits_cost_log_c_under_elogitnorm() -> None:
    value = ref.elogitnorm(np.zeros((1, 2)), np.eye(3, 2), np.ones(3), np.array([2]))
    assert value == pytest.approx(math.log(3), rel=1e-14)


def test_godin_similarities_are_those_counted_by_hand() -> None:
    X, W, g = np.array([[3.0, 4.0]]), np.array([[0.0, 2.0]]), np.array([0.5])
    assert ref.godin_logits(X, W, g=g)[0, 0] == pytest.approx(16 / (5.0001 * 2.0001), rel=1e-14)
    assert ref.godin_logits(X, W, g=g, similarity="inner")[0, 0] == pytest.approx(16.0)
    assert ref.godin_logits(X, W, g=g, similarity="euclid")[0, 0] == pytest.approx(-13.0)


def test_a_loss_of_1e_17_keeps_all_its_digits() -> None:
    value = ref.cross_entropy(np.array([[0.0, -40.0, 1000.0 - 1040.0]]), np.array([0]))
    assert value == pytest.approx(2 * math.exp(-40), rel=1e-12)
    far = np.array([[0.0, 2000.0]])
    assert ref.cross_entropy(far, np.array([0])) == 2000.0
    assert ref.balanced_softmax(far, np.array([1]), np.array([1, 1])) == 0.0


def test_one_hot_shares_are_class_indices() -> None:
    Z, y = np.array(INPUTS["ZB"]), np.array(INPUTS["yB"])
    P = np.eye(4)[y]
    for loss in (
        ref.cross_entropy,
        ref.bce,
        lambda Z, t: ref.mse(Z, t, k=5, M=2),
        ref.l1,
        lambda Z, t: ref.huber(Z, t, delta=0.5),
        lambda Z, t: ref.logitnorm(Z, t, tau=0.04),
        lambda Z, t: ref.logit_penalty(Z, t, lam=0.05),
        lambda Z, t: ref.logit_adjustment(Z, t, np.array([5, 1, 2, 9])),
    ):
        assert loss(Z, P) == pytest.approx(loss(Z, y), rel=1e-14)
