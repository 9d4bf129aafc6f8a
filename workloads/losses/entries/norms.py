"""Losses that control the norm of logits or features."""

from __future__ import annotations

from workloads.catalogue import Entry
from workloads.losses.entries.terms import at_least_zero, by_name, log, lr, positive, switch, uniform, word

FAMILY = "The norm of logits and features"

NORMS = by_name(
    Entry(
        "logitnorm",
        "workloads.losses.logitnorm:LogitNorm",
        "cross-entropy on L2-normalised logits divided by tau",
        "Wei et al. 2022, eq. 4",
        {"tau": positive(0.04, "temperature of the normalised logits", log(0.005, 0.2))},
        {"head": "logits", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.02, 0.3),
    ),
    Entry(
        "logit_penalty",
        "workloads.losses.logitnorm:LogitPenalty",
        "cross-entropy plus lam times the norm of the logits",
        "Wei et al. 2022, section 5",
        {
            "lam": at_least_zero(
                0.05, "weight of the norm; training collapses where it is large", log(0.005, 0.5)
            )
        },
        {"head": "logits", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "meln",
        "workloads.losses.meln:MarginEnhancedLogitNorm",
        "LogitNorm with a learned temperature and a margin (margin-enhanced LogitNorm)",
        'README "Margin-Enhanced LogitNorm Loss" (mode source); the other modes are ours',
        {
            "mode": word(
                "target",
                "the margin is on the true class, on all (as published: it does nothing), "
                "inside the norm too, or learned for each class",
                "target",
                "source",
                "shifted_norm",
                "per_class",
            ),
            "T": positive(0.1, "temperature at the start", log(0.02, 1.0)),
            "m": at_least_zero(0.1, "margin, on normalised logits", uniform(0.0, 0.5)),
            "learn_T": switch(True, "train T"),
            "learn_m": switch(False, "train m; one on the true class only falls"),
            "temperature": word(
                "divide",
                "the code divides by T, the text multiplies (T is then 1 to 100)",
                "divide",
                "multiply",
            ),
            "constraint": word(
                "log",
                "T is learned as its logarithm and divides by 0.01 to 1; none: as published, it runs away",
                "log",
                "none",
            ),
            "lr_scale": positive(0.1, "learning rate of T and m, times lr", log(0.01, 0.1)),
        },
        {"head": "logits", "targets": "hard"},
        family=FAMILY,
        lr=lr(0.1, 0.02, 0.3),
    ),
    Entry(
        "elogitnorm",
        "workloads.losses.elogitnorm:ELogitNorm",
        "logits divided by the mean distance to the decision boundaries; no temperature",
        "Ding et al. 2025 and its code (limchaos/ELogitNormOOD)",
        {
            "divisor": word(
                "classes", "mean over all C classes (code) or the C - 1 others (text)", "classes", "others"
            )
        },
        {"head": "features+fc", "targets": "hard"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "t2fnorm",
        "workloads.losses.t2fnorm:T2FNorm",
        "features normalised and divided by tau in training, not normalised in evaluation",
        "Regmi et al. 2024 and its code in OpenOOD",
        {"tau": positive(0.1, "temperature of the features", log(0.02, 1.0))},
        {"head": "features+fc", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
    Entry(
        "godin",
        "workloads.losses.godin:GODIN",
        "similarity h to a class divided by a learned g of the image (generalized ODIN)",
        "Hsu et al. 2020, eq. 5; public code (guyera/Generalized-ODIN)",
        {
            "h": word("cosine", "similarity to a class", "cosine", "inner", "euclid"),
            "g": word(
                "sigmoid", "what makes g positive; exp as the LogitNorm paper prints it", "sigmoid", "exp"
            ),
        },
        {"head": "godin", "targets": "soft"},
        family=FAMILY,
        lr=lr(0.1, 0.01, 0.4),
    ),
)
