"""Losses that are zero once the true class wins by a margin."""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter
from workloads.losses.entries.terms import at_least_zero, by_name, choice, log, lr, positive, uniform, word

FAMILY = "Margins on logits"
THRESHOLD = word(
    "sample",
    "what the average violation is taken over: authors' code, or their text",
    "sample",
    "batch",
)
MEAN_OVER = word("active", "samples that the mean is over: those with a violation, or all", "active", "all")
LR = Parameter(
    "float", 0.05, "peak learning rate", low=0.0, low_open=True, search=choice(0.025, 0.05, 0.1, 0.2)
)
FACTS = {"head": "logits", "targets": "hard"}

MARGINS = by_name(
    Entry(
        "multi_margin",
        "workloads.losses.multi_margin:MultiMargin",
        "mean violation of the margin mu over all classes and images (MM)",
        "Crammer and Singer 2001; torch",
        {
            "mu": positive(1.0, "margin by which the true class must win", log(0.1, 5.0), "logits"),
            "p": Parameter("int", 1, "exponent of the violation", low=1, high=2, search=choice(1, 2)),
        },
        FACTS,
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "hem",
        "workloads.losses.hem:HighErrorMargin",
        "mean of the margin violations that are at least average (high error margin)",
        "Spratling and Schütt 2025, arXiv 2501.12191",
        {
            "mu": Parameter(
                "float",
                {"scale": 2000.0},
                "margin by which the true class must win",
                low=0.0,
                low_open=True,
                unit="logits",
                expressions={
                    "scale": positive(
                        2000.0,
                        "mu = sqrt(scale / N), with N training images",
                        log(200.0, 20000.0),
                        "images",
                    )
                },
            ),
            "threshold": THRESHOLD,
            "mean_over": MEAN_OVER,
        },
        FACTS,
        family=FAMILY,
        lr=LR,
    ),
    Entry(
        "hem_plus",
        "workloads.losses.hem:HighErrorMarginPlus",
        "hem with a wider margin for rarer classes",
        "Spratling and Schütt 2025, arXiv 2501.12191 (HEM+)",
        {
            "scale": positive(
                2000.0,
                "mu_y = sqrt(scale / (C n_y)) at p 0.5, with n_y images of the class",
                log(200.0, 20000.0),
                "images",
            ),
            "p": Parameter(
                "float",
                0.5,
                "mu_y falls as n_y^-p; 0.5 is published, 0 one margin for all",
                low=0.0,
                high=1.0,
                search=uniform(0.0, 0.75),
            ),
            "budget": word(
                "mean",
                "what is the same for every p: the mean margin of an image, or the sum of mu_c^2",
                "mean",
                "squares",
            ),
            "cap": at_least_zero(10.0, "largest mu_y as a multiple of hem's mu; 0: none"),
            "threshold": THRESHOLD,
            "mean_over": MEAN_OVER,
        },
        FACTS,
        family=FAMILY,
        lr=LR,
    ),
)
