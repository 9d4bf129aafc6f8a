"""The tables of rejection: the OOD sets one by one, the scores side by side, and a network's own mistakes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Table, row
from orchestrator.report.comparison import confirm_trials, ordered_arms
from orchestrator.report.measured import arms_table, measured_cell, metric_column, prevalence, share
from orchestrator.report.metrics import sides
from orchestrator.report.readings import REJECTION_METRICS, describe
from orchestrator.study.spec import StudySpec
from workloads.evaluation.score_names import parse_score

SCORE_RATES = ("fpr95_id_positive", "auroc", "oscr")


def set_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Every OOD test set on its own."""
    names = [(name, side) for side, sets in sides(spec).items() for name in sets]
    names += [(name, "added later") for name in record.added_sets]
    headline = spec.evaluation.headline
    columns = (
        Column("arm"),
        Column("OOD set", name="set"),
        Column("kind"),
        *(
            Column(describe(f"ood/set/{headline}/{rate}", headline).group, "", True, rate, measured=True)
            for rate in REJECTION_METRICS
        ),
        Column("ID share", numeric=True, name="id_share"),
    )
    measured = score_labels(spec, record) != ()
    rows = [
        (
            *row(arm, name, kind),
            *(
                measured_cell(spec, record, arm, describe(f"ood/{name}/{headline}/{rate}", headline))
                for rate in REJECTION_METRICS
            ),
            Cell(share(prevalence(spec, record, arm, name))),
        )
        for arm in ordered_arms(spec)
        for name, kind in names
        if measured
    ]
    return Table(f"Every OOD set, {headline} score", columns, tuple(rows))


def score_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Every score on every arm, and what validation chose for it."""
    headline = spec.evaluation.headline
    targets = [(side, rate) for rate in SCORE_RATES for side in sides(spec)]
    rows = [
        (
            *row(arm, score + (" (headline)" if score == headline else "")),
            *(
                measured_cell(spec, record, arm, describe(f"ood/{side}/{score}/{rate}", score))
                for side, rate in targets
            ),
            Cell(tuned_text(spec, record, arm, score)),
        )
        for arm in ordered_arms(spec)
        for score in score_labels(spec, record)
    ]
    # Headings without the score, which stands in a column of its own.
    headings = [
        replace(metric_column(describe(f"ood/{side}/score/{rate}", "score")), name=f"{side}/{rate}")
        for side, rate in targets
    ]
    columns = (Column("arm"), Column("score"), *headings, Column("tuned"))
    notes = [
        "Only the headline score was searched for and is compared; the others are shown as they came out."
    ]
    if any(cell.text == numbers.MISSING for cells in rows for cell in cells):
        notes.append(f"{numbers.MISSING}: the score does not fit this arm; the warnings say why.")
    tuned = any(cells[-1].text for cells in rows)
    if tuned:
        notes.append("Tuned: chosen on validation data for each seed by itself; no OOD test set was used.")
    table = Table("Loss by score", columns, tuple(rows), tuple(notes))
    return table if tuned else table.without("tuned")


def selective_table(spec: StudySpec, record: StudyRecord) -> Table:
    """How well the headline score finds the network's own mistakes on ID test images."""
    headline = spec.evaluation.headline
    names = [f"selective/{headline}/{metric}" for metric in ("aurc", "e_aurc", "failure_auroc")]
    table = arms_table(f"Selective prediction, {headline} score", ["test/accuracy", *names], spec, record)
    notes = (
        "ID test images only, the least sure ones refused first. AURC: mean error rate over all shares that "
        "are kept; E-AURC: what of it is above the best order of these very mistakes; both in percent, lower "
        "is better.",
        "Failure AUROC: chance that a mistake scores lower than a correct image; missing at a seed without "
        "mistakes. AURC falls with the error rate itself.",
    )
    measured = any(column.name in names for column in table.columns)
    return Table(table.title, table.columns, table.rows if measured else (), notes)


def score_labels(spec: StudySpec, record: StudyRecord) -> tuple[str, ...]:
    """The scores of the study, then those that were added to it later; none before any was measured."""
    found = [
        name.split("/")[2]
        for arm in spec.arms
        for trial in confirm_trials(spec, record, arm).values()
        if trial.state == "complete"
        for name in trial.metrics
        if name.startswith("ood/")
    ]
    planned = [parse_score(text).label for text in spec.evaluation.ood.scores]
    return tuple(dict.fromkeys([*planned, *found])) if found else ()


def tuned_text(spec: StudySpec, record: StudyRecord, arm: str, score: str) -> str:
    """``T = 0.1 (4 seeds), 0.2 (1 seed)``, the most frequent value first; empty where nothing was tuned."""
    chosen: dict[str, Counter[float]] = {}
    for trial in confirm_trials(spec, record, arm).values():
        for name, value in trial.metrics.items():
            if trial.state == "complete" and name.startswith(f"tuned/{score}/"):
                chosen.setdefault(name.split("/")[2], Counter())[value] += 1
    return "; ".join(
        f"{parameter} = "
        + ", ".join(
            f"{numbers.parameter(value)} ({numbers.counted(count, 'seed')})"
            for value, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        )
        for parameter, counts in chosen.items()
    )
