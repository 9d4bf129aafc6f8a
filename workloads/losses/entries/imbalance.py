"""Losses that know how many training images each class has."""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter
from workloads.losses.entries.terms import at_least_zero, by_name, lr, positive, share, uniform, word

FAMILY = "Class frequencies"

IMBALANCE = by_name(
    Entry(
        "ldam",
        "workloads.losses.ldam:LDAM",
        "cosine margins that are wider for rarer classes, with deferred re-weighting (DRW)",
        "Cao et al. 2019 (LDAM-DRW), eq. 13",
        {
            "max_m": at_least_zero(0.5, "margin of the rarest class, on the cosine"),
            "s": positive(30.0, "scale of the cosines"),
            "drw": share(0.8, "after which classes are re-weighted; 1: never"),
            "beta": Parameter("float", 0.9999, "of the effective number of images", low=0.0, high=0.9999999),
        },
        {"head": "cosine", "targets": "hard"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "balanced_softmax",
        "workloads.losses.logit_adjustment:BalancedSoftmax",
        "cross-entropy of logits plus log class frequency",
        "Ren et al. 2020, eq. 3",
        {},
        {"head": "logits", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "logit_adjustment",
        "workloads.losses.logit_adjustment:LogitAdjustment",
        "cross-entropy of logits plus tau log class frequency, in training or afterwards",
        "Menon et al. 2021, eq. 9 and 10",
        {
            "tau": at_least_zero(1.0, "strength; 1 is balanced_softmax, 0 cross_entropy", uniform(0.5, 2.0)),
            "apply": word(
                "training",
                "in training, or post hoc to the logits that scores see",
                "training",
                "evaluation",
            ),
        },
        {"head": "logits", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
)
