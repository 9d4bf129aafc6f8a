"""The table of cases: every entry of the catalogue, with every word and switch that it offers.

Numbers that the losses hold in float32 (a learned temperature, scale or margin) are such that their
float32 is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tests.workloads.losses import reference as ref
from tests.workloads.losses.batches import Given
from tests.workloads.losses.cases import (
    LOGIT_NORM,
    Case,
    class_margins,
    inverse_weights,
    on_angles,
    on_cosines,
    on_logits,
    sqrt2_log,
    unit_weights,
)
from tests.workloads.losses.reference_arrays import Array

COLD, HOT = math.exp(-2), math.exp(2)
"""A temperature whose logarithm is exact, and its inverse."""

SOFTMAX = [
    on_logits("cross_entropy", {}, lambda g: ref.cross_entropy(g.Z, g.y)),
    on_logits(
        "cross_entropy",
        {"class_weights": "inverse"},
        lambda g: ref.cross_entropy(g.Z, g.y, weights=inverse_weights(g)),
    ),
    on_logits(
        "cross_entropy",
        {"class_weights": "effective"},
        lambda g: ref.cross_entropy(g.Z, g.y, weights=ref.drw_weights(g.counts)),
    ),
    on_logits("label_smoothing", {}, lambda g: ref.label_smoothing(g.Z, g.y, epsilon=0.1)),
    on_logits("label_smoothing", {"epsilon": 1.0}, lambda g: ref.label_smoothing(g.Z, g.y, epsilon=1.0)),
    on_logits("focal", {}, lambda g: ref.focal(g.Z, g.y, gamma=2)),
    on_logits("focal", {"gamma": 0.5}, lambda g: ref.focal(g.Z, g.y, gamma=0.5)),
    on_logits(
        "focal",
        {"alpha": "inverse"},
        lambda g: ref.focal(g.Z, g.y, alpha=inverse_weights(g)),
    ),
    on_logits(
        "focal",
        {"alpha": "effective", "weighting": "inside"},
        lambda g: ref.focal(g.Z, g.y, alpha=ref.drw_weights(g.counts), weighting="inside"),
    ),
    on_logits("bce", {}, lambda g: ref.bce(g.Z, g.y), shift=False),
    on_logits(
        "bce",
        {"class_reduction": "mean", "prior": False},
        lambda g: ref.bce(g.Z, g.y, class_reduction="mean"),
        shift=False,
    ),
]

REGRESSION = [
    on_logits("mse", {}, lambda g: ref.mse(g.Z, g.y), shift=False),
    on_logits(
        "mse",
        {"input": "probs", "class_reduction": "sum"},
        lambda g: ref.mse(g.Z, g.y, on="probs", class_reduction="sum"),
    ),
    on_logits(
        "mse",
        {"class_reduction": "sum", "half": True},
        lambda g: ref.mse(g.Z, g.y, class_reduction="sum", half=True),
        shift=False,
    ),
    on_logits("mse", {"k": 15.0, "M": 30.0}, lambda g: ref.mse(g.Z, g.y, k=15, M=30), shift=False),
    on_logits("l1", {}, lambda g: ref.l1(g.Z, g.y), shift=False),
    on_logits(
        "l1",
        {"input": "probs", "class_reduction": "sum"},
        lambda g: ref.l1(g.Z, g.y, on="probs", class_reduction="sum"),
    ),
    on_logits("huber", {}, lambda g: ref.huber(g.Z, g.y), shift=False),
    on_logits(
        "huber",
        {"delta": 0.5, "input": "probs", "class_reduction": "sum"},
        lambda g: ref.huber(g.Z, g.y, delta=0.5, on="probs", class_reduction="sum"),
    ),
]

NORMS = [
    on_logits("logitnorm", {}, lambda g: ref.logitnorm(g.Z, g.y, tau=0.04), shift=False, scale=True),
    on_logits("logitnorm", {"tau": 1.0}, lambda g: ref.logitnorm(g.Z, g.y, tau=1), shift=False, scale=True),
    on_logits("logit_penalty", {}, lambda g: ref.logit_penalty(g.Z, g.y, lam=0.05), shift=False),
    on_logits(
        "meln",
        {"mode": "target", "T": COLD, "m": 0.25},
        lambda g: ref.meln(g.Z, g.y, T=COLD, m=0.25, mode="target"),
        shift=False,
        scale=True,
        tracks="T m",
        learned="t",
    ),
    on_logits(
        "meln",
        {"mode": "target", "T": 0.125, "m": 0.25, "learn_T": False, "learn_m": True, "constraint": "none"},
        lambda g: ref.meln(g.Z, g.y, T=0.125, m=0.25, mode="target"),
        shift=False,
        scale=True,
        tracks="T m",
        learned="m",
    ),
    on_logits(
        "meln",
        {"mode": "source", "T": HOT, "m": 0.25, "temperature": "multiply"},
        lambda g: ref.meln(g.Z, g.y, T=HOT, m=0.25, temperature="multiply"),
        shift=False,
        scale=True,
        tracks="T m",
        learned="t",
    ),
    on_logits(
        "meln",
        {"mode": "source", "T": 8.0, "m": 0.25, "temperature": "multiply", "constraint": "none"},
        lambda g: ref.meln(g.Z, g.y, T=8.0, m=0.25, temperature="multiply"),
        shift=False,
        scale=True,
        tracks="T m",
        learned="t",
    ),
    on_logits(
        "meln",
        {"mode": "shifted_norm", "T": COLD, "m": 0.25, "learn_m": True},
        lambda g: ref.meln(g.Z, g.y, T=COLD, m=0.25, mode="shifted_norm"),
        shift=False,
        tracks="T m",
        learned="t m",
    ),
    on_logits(
        "meln",
        {"mode": "per_class", "T": COLD},
        lambda g: ref.meln(g.Z, g.y, T=COLD, m=class_margins(g.C), mode="per_class"),
        shift=False,
        tracks="T m",
        learned="t m",
    ),
    *(
        on_logits(
            "elogitnorm",
            {"divisor": divisor},
            lambda g, d=divisor: ref.elogitnorm(g.X, g.W, g.b, g.y, divisor=d),  # type: ignore[misc]
            scale=True,
            tracks="distance",
            rel=1e-6,  # the reference has no 1e-8 beside distances of about 0.1
        )
        for divisor in ("classes", "others")
    ),
    Case(
        "t2fnorm",
        {},
        lambda g: ref.t2fnorm(g.X, g.W, g.b, g.y, tau=0.1),
        scores=lambda g: g.X / 0.1 @ g.W.T + g.b,
        shift=True,
        scale=True,
        stats=frozenset({"feature_norm"}),
    ),
    *(
        on_logits(
            "godin",
            {"h": h, "g": activation},
            lambda g, h=h: ref.cross_entropy(_godin(g, h), g.y),  # type: ignore[misc]
            scores=lambda g, h=h: _godin(g, h),  # type: ignore[misc]
            tracks="g",
        )
        for h in ("cosine", "inner", "euclid")
        for activation in ("sigmoid", "exp")
    ),
]

ANGLES = [
    Case(
        "modified_softmax",
        {},
        lambda g: ref.modified_softmax(g.X, g.W, g.y),
        scores=unit_weights,
        shift=None,
        scale=False,
        stats=LOGIT_NORM,
    ),
    on_cosines("normface", {}, lambda g: ref.normface(g.c, g.y, s=16), 16),
    on_cosines(
        "normface",
        {"s": math.exp(3), "learn_s": True},
        lambda g: ref.normface(g.c, g.y, s=math.exp(3)),
        math.exp(3),
        tracks="s",
        learned="log_s",
    ),
    on_cosines(
        "normface",
        {"s": {"log_classes": math.sqrt(2)}},
        lambda g: ref.normface(g.c, g.y, s=sqrt2_log(g.C)),
        sqrt2_log,
    ),
    on_angles(
        "l_softmax",
        {"lambda_min": 5.0},
        lambda g: ref.l_softmax(g.X, g.W, g.y, m=2, lam=5),
        scores=lambda g: g.Z,
    ),
    on_angles(
        "l_softmax", {"m": 4}, lambda g: ref.l_softmax(g.X, g.W, g.y, m=4, lam=0), scores=lambda g: g.Z
    ),
    on_angles("a_softmax", {}, lambda g: ref.a_softmax(g.X, g.W, g.y, m=2, lam=5), scores=unit_weights),
    on_angles(
        "a_softmax",
        {"m": 3, "lambda_min": 0.0, "anneal": 0.0},
        lambda g: ref.a_softmax(g.X, g.W, g.y, m=3, lam=0),
        scores=unit_weights,
    ),
    on_cosines("cosface", {}, lambda g: ref.cosface(g.c, g.y, s=30, m=0.2), 30, tracks="m"),
    *(
        on_cosines(
            "arcface",
            {"m": 0.5, "fallback": fallback, "grad": grad},
            lambda g, f=fallback: ref.arcface(g.c, g.y, s=30, m=0.5, fallback=f),  # type: ignore[misc]
            30,
            tracks="m",
        )
        for fallback in ("linear", "none", "easy")
        for grad in ("exact", "straight_through")
    ),
    on_cosines(
        "arcgrad",
        {},
        lambda g: ref.arcgrad(g.c, g.y, s=10),
        10,
        scores=lambda g: 10 * (math.pi - np.arccos(g.c)),
    ),
    *(
        on_cosines(
            "arcgrad",
            {"s": {word: 0.2}},
            lambda g, e=expression: ref.arcgrad(  # type: ignore[misc]
                g.c, g.y, s=ref.arcgrad_scale(g.C, 0.2, expression=e)
            ),
            1,
            scores=lambda g, e=expression: (  # type: ignore[misc]
                ref.arcgrad_scale(g.C, 0.2, expression=e) * (math.pi - np.arccos(g.c))
            ),
        )
        for word, expression in (("gap", "corrected"), ("gap_as_published", "source"))
    ),
    on_cosines("adacos", {"mode": "fixed"}, lambda g: ref.normface(g.c, g.y, s=sqrt2_log(g.C)), sqrt2_log),
    # In evaluation mode s stays where it started.
    on_cosines(
        "adacos",
        {"mode": "dynamic"},
        lambda g: ref.normface(g.c, g.y, s=sqrt2_log(g.C)),
        sqrt2_log,
        tracks="s",
    ),
]

MARGINS = [
    on_logits("multi_margin", {}, lambda g: ref.multi_margin(g.Z, g.y, mu=1)),
    on_logits("multi_margin", {"mu": 2.0, "p": 2}, lambda g: ref.multi_margin(g.Z, g.y, mu=2, p=2)),
    on_logits(
        "hem",
        {"mu": {"scale": 500.0}},
        lambda g: ref.hem(g.Z, g.y, mu=ref.hem_margin(g.train_size, scale=500)),
        tracks="saturated",
    ),
    *(
        on_logits(
            "hem",
            {"mu": 0.4, "threshold": threshold, "mean_over": mean_over},
            lambda g, t=threshold, o=mean_over: ref.hem(  # type: ignore[misc]
                g.Z, g.y, mu=0.4, threshold=t, mean_over=o
            ),
            tracks="saturated",
        )
        for threshold in ("sample", "batch")
        for mean_over in ("active", "all")
    ),
    on_logits("hem_plus", {}, lambda g: ref.hem_plus(g.Z, g.y, g.counts), tracks="saturated"),
    on_logits(
        "hem_plus",
        {"scale": 500.0, "cap": 1.5, "threshold": "batch", "mean_over": "all"},
        lambda g: ref.hem_plus(g.Z, g.y, g.counts, scale=500, cap=1.5, threshold="batch", mean_over="all"),
        tracks="saturated",
    ),
    on_logits(
        "hem_plus",
        {"cap": 0.0},
        lambda g: ref.hem_plus(g.Z, g.y, g.counts, cap=math.inf),
        tracks="saturated",
    ),
    on_logits(
        "hem_plus",
        {"p": 0.75},
        lambda g: ref.hem_plus(g.Z, g.y, g.counts, p=0.75),
        tracks="saturated",
    ),
    on_logits(
        "hem_plus",
        {"p": 0.25, "budget": "squares"},
        lambda g: ref.hem_plus(g.Z, g.y, g.counts, p=0.25, budget="squares"),
        tracks="saturated",
    ),
]

FREQUENCIES = [
    on_cosines(
        "ldam",
        {},
        lambda g: ref.ldam(g.c, g.y, g.counts, weights=ref.drw_weights(g.counts)),
        30,
    ),
    on_cosines("ldam", {"drw": 1.0}, lambda g: ref.ldam(g.c, g.y, g.counts), 30),
    on_logits("balanced_softmax", {}, lambda g: ref.balanced_softmax(g.Z, g.y, g.counts)),
    on_logits("logit_adjustment", {"tau": 0.5}, lambda g: ref.logit_adjustment(g.Z, g.y, g.counts, tau=0.5)),
    on_logits(
        "logit_adjustment",
        {"apply": "evaluation"},
        lambda g: ref.cross_entropy(g.Z, g.y),
        scores=lambda g: g.Z - np.log(g.counts / g.counts.sum()),
    ),
]

WITH_TRIPLET = [
    *(
        on_logits(
            "cross_entropy",
            {"triplet": 0.5, "triplet_mining": mining},
            lambda g, m=mining: (  # type: ignore[misc]
                ref.cross_entropy(g.Z, g.y) + 0.5 * ref.triplet(g.X, g.y, margin=0.2, mining=m)
            ),
            tracks="triplet",
        )
        for mining in ("batch_hard", "batch_all", "semi_hard")
    ),
    on_cosines(
        "cosface",
        {"triplet": 1.0, "triplet_margin": 0.7},
        lambda g: ref.cosface(g.c, g.y, s=30, m=0.2) + ref.triplet(g.X, g.y, margin=0.7),
        30,
        tracks="m triplet",
    ),
]


def _godin(g: Given, h: Any) -> Array:
    """h / g; the bias of the inner product is not the reference's."""
    return ref.godin_logits(g.X, g.W, similarity=h, g=g.g) + (g.b / g.g[:, None] if h == "inner" else 0)


CASES: list[Case] = [*SOFTMAX, *REGRESSION, *NORMS, *ANGLES, *MARGINS, *FREQUENCIES, *WITH_TRIPLET]
