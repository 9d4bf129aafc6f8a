"""Regression losses against the one-hot target."""

from __future__ import annotations

from workloads.catalogue import Entry
from workloads.losses.entries.terms import by_name, choice, lr, positive, switch, word

FAMILY = "Regression on the one-hot target"
INPUT = word("logits", "what is compared: the logits, or the softmax", "logits", "probs")
REDUCTION = word("mean", "over the classes; torch takes the mean, the lecture notes the sum", "mean", "sum")
FACTS = {"head": "logits", "targets": "soft"}

REGRESSION = by_name(
    Entry(
        "mse",
        "workloads.losses.regression:MeanSquaredError",
        "squared error: k (Z_y - M)^2 for the true class, Z_j^2 for the others",
        "Hui and Belkin 2021 (k, M); lecture notes",
        {
            "input": INPUT,
            "class_reduction": REDUCTION,
            "half": switch(False, "halve it, as the lecture notes do"),
            "k": positive(1.0, "weight of the true class; 1 for 10 classes, 15 for 1000"),
            "M": positive(1.0, "target of the true class; 1 for 10 classes, 10 to 30 for 100 and more"),
        },
        FACTS,
        family=FAMILY,
        lr=lr(0.1, 0.01, 1.0),
    ),
    Entry(
        "l1",
        "workloads.losses.regression:MeanAbsoluteError",
        "absolute error; collapses on logits with many classes or a large lr; on probabilities 2 (1 - p_y)",
        "lecture notes; Ghosh et al. 2017 (probabilities)",
        {"input": INPUT, "class_reduction": REDUCTION},
        FACTS,
        family=FAMILY,
        lr=lr(0.1, 0.01, 1.0),
    ),
    Entry(
        "huber",
        "workloads.losses.regression:Huber",
        "squared error up to delta, absolute beyond",
        "Huber 1964; lecture notes",
        {
            "delta": positive(1.0, "error where the quadratic part ends", choice(0.1, 0.5, 1.0, 2.0)),
            "input": INPUT,
            "class_reduction": REDUCTION,
        },
        FACTS,
        family=FAMILY,
        lr=lr(0.1, 0.01, 1.0),
    ),
)
