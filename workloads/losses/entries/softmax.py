"""Cross-entropy and its nearest relatives."""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter
from workloads.losses.entries.terms import (
    CLASS_WEIGHTS,
    at_least_zero,
    by_name,
    choice,
    lr,
    switch,
    uniform,
    word,
)

FAMILY = "Cross-entropy and its relatives"

SOFTMAX = by_name(
    Entry(
        "cross_entropy",
        "workloads.losses.cross_entropy:CrossEntropy",
        "cross-entropy of the softmax, the usual baseline",
        "standard",
        {"class_weights": CLASS_WEIGHTS},
        {"head": "logits", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "label_smoothing",
        "workloads.losses.cross_entropy:LabelSmoothing",
        "cross-entropy against labels of which a share is spread over all classes",
        "Szegedy et al. 2016, section 7",
        {
            "epsilon": Parameter(
                "float",
                0.1,
                "share of the target that is spread over all classes",
                low=0.0,
                high=1.0,
                search=choice(0.0, 0.05, 0.1, 0.2),
            )
        },
        {"head": "logits", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "focal",
        "workloads.losses.focal:Focal",
        "cross-entropy that counts well-classified images less",
        "Lin et al. 2017, eq. 5; lecture notes (two classes)",
        {
            "gamma": at_least_zero(2.0, "focusing parameter; 0 is cross-entropy", uniform(0.5, 5.0)),
            "alpha": CLASS_WEIGHTS,
            "weighting": word(
                "outside",
                "where a class weight stands; inside the exponential as in LDAM-DRW's code",
                "outside",
                "inside",
            ),
        },
        {"head": "logits", "targets": "hard"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "bce",
        "workloads.losses.binary:BinaryCrossEntropy",
        "binary cross-entropy of each class against the rest",
        "standard; lecture notes",
        {
            "class_reduction": word(
                "sum", "over the classes; the mean needs a C times larger learning rate", "sum", "mean"
            ),
            "prior": switch(True, "start the head's bias at -log(C - 1) and its weights near zero"),
        },
        {"head": "logits", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
)
