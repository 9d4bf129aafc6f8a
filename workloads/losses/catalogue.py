"""The losses that a study can name.

Facts of an entry: ``lr``, ``lr_low``, ``lr_high`` (recommended learning rate and the range to search it in,
log scale, for SGD at batch 128), ``head`` (what the model's head must hand over) and ``targets`` (``soft``:
also usable with mixup, label smoothing and distillation).
"""

from __future__ import annotations

from workloads.catalogue import Entry, Parameter, Term

LOSSES: dict[str, Entry] = {
    "cross_entropy": Entry(
        name="cross_entropy",
        path="workloads.losses.cross_entropy:CrossEntropy",
        meaning="cross-entropy of the softmax, the usual baseline",
        source="standard",
        facts={"lr": 0.1, "lr_low": 0.01, "lr_high": 0.4, "head": "logits", "targets": "soft"},
    ),
    "logitnorm": Entry(
        name="logitnorm",
        path="workloads.losses.logitnorm:LogitNorm",
        meaning="cross-entropy on L2-normalised logits divided by tau",
        source="Wei et al. 2022, eq. 4",
        parameters={
            "tau": Parameter(
                kind="float",
                default=0.04,
                meaning="temperature of the normalised logits",
                low=0.0,
                low_open=True,
                search=Term("log_uniform", (0.005, 0.2)),
            ),
        },
        facts={"lr": 0.1, "lr_low": 0.02, "lr_high": 0.3, "head": "logits", "targets": "soft"},
    ),
    "hem": Entry(
        name="hem",
        path="workloads.losses.hem:HighErrorMargin",
        meaning="mean of the margin violations that are at least average (high error margin)",
        source="Spratling and Schütt 2025, arXiv 2501.12191",
        parameters={
            "mu": Parameter(
                kind="float",
                default={"scale": 2000.0},
                meaning="margin by which the true class must win",
                low=0.0,
                low_open=True,
                unit="logits",
                expressions={
                    "scale": Parameter(
                        kind="float",
                        default=2000.0,
                        meaning="mu = sqrt(scale / N), with N training images",
                        low=0.0,
                        low_open=True,
                        unit="images",
                        search=Term("log_uniform", (200.0, 20000.0)),
                    ),
                },
            ),
            "threshold": Parameter(
                kind="choice",
                default="sample",
                meaning="average violation taken over the sample (as in the authors' code) or the batch",
                choices=("sample", "batch"),
            ),
        },
        facts={"lr": 0.05, "lr_low": 0.025, "lr_high": 0.2, "head": "logits", "targets": "hard"},
    ),
}
