"""Losses on the angle between a feature and the class weights."""

from __future__ import annotations

import math

from workloads.catalogue import Entry, Parameter
from workloads.losses.entries.terms import (
    at_least_zero,
    by_name,
    choice,
    log,
    lr,
    positive,
    share,
    switch,
    uniform,
    word,
)

FAMILY = "Angles: cosine heads and angular margins"
LR = lr(0.1, 0.01, 0.4)
HARD = {"head": "cosine", "targets": "hard"}
WARMUP = share(0.1, "over which m grows from 0")


def _annealing(lambda_min: float, power: float) -> dict[str, Parameter]:
    return {
        "m": Parameter("int", 2, "multiplies the angle of the true class", low=1, search=choice(2, 3, 4)),
        "lambda_min": at_least_zero(
            lambda_min, "weight of the plain logit that stays in the end", choice(0.0, 5.0, 10.0)
        ),
        "anneal": share(0.5, "after which lambda has fallen to lambda_min", uniform(0.2, 0.8)),
        "lambda_start": positive(1000.0, "lambda at the start"),
        "power": positive(power, "form of its fall, (1 + gamma p)^-power"),
    }


ANGLES = by_name(
    Entry(
        "modified_softmax",
        "workloads.losses.sphereface:ModifiedSoftmax",
        "cross-entropy with class weights of length 1 and no bias",
        "Liu et al. 2017 (SphereFace), eq. 4; lecture notes",
        {},
        {"head": "features+fc", "targets": "soft"},
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "normface",
        "workloads.losses.cosine:NormFace",
        "cross-entropy of s cos(theta)",
        "Wang et al. 2017 (NormFace), eq. 10",
        {
            "s": Parameter(
                "float",
                16.0,
                "scale; at the start, where it is learned",
                low=0.0,
                low_open=True,
                search=log(2.0, 64.0),
                expressions={"log_classes": positive(math.sqrt(2), "s = this times log(C - 1)")},
            ),
            "learn_s": switch(False, "train s, as its logarithm"),
            "lr_scale": positive(0.1, "learning rate of s, times lr"),
        },
        {"head": "cosine", "targets": "soft"},
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "l_softmax",
        "workloads.losses.sphereface:LSoftmax",
        "large-margin softmax: the true class's angle multiplied by m",
        "Liu et al. 2016 (L-Softmax), eq. 4 to 6; lecture notes",
        _annealing(0.0, 45.0),
        {"head": "features+fc", "targets": "hard"},
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "a_softmax",
        "workloads.losses.sphereface:ASoftmax",
        "SphereFace: as l_softmax, with class weights of length 1",
        "Liu et al. 2017 (SphereFace), eq. 7; lecture notes",
        _annealing(5.0, 1.0),
        {"head": "features+fc", "targets": "hard"},
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "cosface",
        "workloads.losses.cosine:CosFace",
        "a margin m on the cosine of the true class",
        "Wang et al. 2018 (CosFace), eq. 4; lecture notes",
        {
            "s": positive(30.0, "scale of the cosines", log(8.0, 64.0)),
            "m": at_least_zero(0.2, "margin on the cosine", uniform(0.0, 0.5)),
            "margin_warmup": WARMUP,
        },
        HARD,
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "arcface",
        "workloads.losses.arcface:ArcFace",
        "a margin m on the angle of the true class",
        "Deng et al. 2019 (ArcFace), eq. 3; public code (insightface)",
        {
            "s": positive(30.0, "scale of the cosines", log(8.0, 64.0)),
            "m": Parameter(
                "float",
                0.2,
                "margin on the angle (0.5 is 28.6 degrees)",
                low=0.0,
                high=math.pi,
                search=uniform(0.0, 0.5),
                unit="radians",
            ),
            "fallback": word(
                "linear",
                "where theta + m > pi: cos(theta) - m sin(m), or nothing special; "
                "easy: a margin only where cos(theta) > 0",
                "linear",
                "none",
                "easy",
            ),
            "grad": word(
                "exact",
                "gradient of the margin, or that of cos(theta) as in insightface's code",
                "exact",
                "straight_through",
            ),
            "margin_warmup": WARMUP,
        },
        HARD,
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "arcgrad",
        "workloads.losses.arcgrad:ArcGrad",
        "softmax over angles: the pull on a feature does not fade as it arrives",
        'Wu and Wang 2020 (ArcGrad); its README "Large Margin Classification"',
        {
            "s": Parameter(
                "float",
                10.0,
                "scale of the angles",
                low=0.0,
                low_open=True,
                search=log(2.0, 64.0),
                expressions={
                    "gap": positive(
                        0.2, "s = (1 + W((C-1)/e)) / gap, the largest gradient at this gap", unit="radians"
                    ),
                    "gap_as_published": positive(
                        0.2, "s = (1 + W(C-1)) / gap, as printed; 27 % larger at C = 10", unit="radians"
                    ),
                },
            )
        },
        HARD,
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "adacos",
        "workloads.losses.adacos:AdaCos",
        "cross-entropy of s cos(theta) with s set by itself",
        "Zhang et al. 2019 (AdaCos), eq. 12 and 15",
        {"mode": word("dynamic", "s follows each batch, or stays at sqrt(2) log(C - 1)", "dynamic", "fixed")},
        HARD,
        family=FAMILY,
        lr=LR,
    ),
)
