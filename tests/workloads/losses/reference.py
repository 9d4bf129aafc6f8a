"""Every loss a second time: plain numpy in float64, straight from the mathematics.

The product's losses are tested against these. They are slow on purpose, loop over samples and share
nothing with the product, so that a mistake would have to be made twice. Arrays come first, parameters are
keyword-only, and a loss is the batch's, as a float.
"""

from __future__ import annotations

from tests.workloads.losses.reference_cosine import (
    adacos_dynamic_scale,
    adacos_scale,
    arcface,
    arcgrad,
    arcgrad_scale,
    cos_of,
    cosface,
    drw_weights,
    lambert_w,
    ldam,
    ldam_margins,
    normface,
)
from tests.workloads.losses.reference_features import (
    a_softmax,
    elogitnorm,
    godin_logits,
    l_softmax,
    modified_softmax,
    psi,
    t2fnorm,
    triplet,
)
from tests.workloads.losses.reference_logits import (
    balanced_softmax,
    bce,
    cross_entropy,
    focal,
    huber,
    l1,
    label_smoothing,
    logit_adjustment,
    logit_penalty,
    logitnorm,
    logitnorm_bound_of_the_paper,
    logitnorm_floor,
    meln,
    mse,
)
from tests.workloads.losses.reference_margins import (
    hem,
    hem_margin,
    hem_plus,
    hem_plus_margins,
    multi_margin,
)

__all__ = [
    "a_softmax",
    "adacos_dynamic_scale",
    "adacos_scale",
    "arcface",
    "arcgrad",
    "arcgrad_scale",
    "balanced_softmax",
    "bce",
    "cos_of",
    "cosface",
    "cross_entropy",
    "drw_weights",
    "elogitnorm",
    "focal",
    "godin_logits",
    "hem",
    "hem_margin",
    "hem_plus",
    "hem_plus_margins",
    "huber",
    "l1",
    "l_softmax",
    "label_smoothing",
    "lambert_w",
    "ldam",
    "ldam_margins",
    "logit_adjustment",
    "logit_penalty",
    "logitnorm",
    "logitnorm_bound_of_the_paper",
    "logitnorm_floor",
    "meln",
    "modified_softmax",
    "mse",
    "multi_margin",
    "normface",
    "psi",
    "t2fnorm",
    "triplet",
]
