"""The catalogue of rejection scores: functions of logits that say how surely an input is known."""

from __future__ import annotations

from workloads.catalogue import Entry

SCORES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="msp",
            path="workloads.evaluation.scores:msp",
            meaning="maximum softmax probability, ranked as -log(1 - p_max) so that it cannot saturate",
            source="Hendrycks and Gimpel 2017 (arXiv 1610.02136)",
        ),
        Entry(
            name="mls",
            path="workloads.evaluation.scores:mls",
            meaning="maximum logit",
            source="Hendrycks et al. 2022 (arXiv 1911.11132)",
        ),
        Entry(
            name="energy",
            path="workloads.evaluation.scores:energy",
            meaning="negative free energy, the log of the softmax denominator at temperature 1",
            source="Liu et al. 2020 (arXiv 2010.03759)",
        ),
    )
}
