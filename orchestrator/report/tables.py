"""The tables of results: the main one, the comparison, the OOD sets one by one, the scores side by side."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Table, row
from orchestrator.report.comparison import (
    Comparison,
    arm_record,
    confirm_trials,
    confirm_values,
    ordered_arms,
)
from orchestrator.report.metrics import REJECTION_METRICS, Metric, describe, table_metrics
from orchestrator.report.sentences import interval
from orchestrator.report.statistics import summarise
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec

NOTHING_CONFIRMED = "No confirm trial has finished yet: there are no test results to show."


def main_table(spec: StudySpec, record: StudyRecord, comparisons: Sequence[Comparison]) -> Table:
    """Arms as rows, the baseline first; mean ± standard deviation over the confirm seeds."""
    metrics = table_metrics(spec)
    bold = _bold_cells(spec, record, metrics, comparisons)
    rows = [
        (
            Cell(arm),
            Cell(seed_count(spec, record, arm)),
            *(Cell(_mean_std(spec, record, arm, metric), (arm, metric.name) in bold) for metric in metrics),
        )
        for arm in ordered_arms(spec)
    ]
    columns = (
        Column("arm"),
        Column("n"),
        *(Column(metric.label, metric.group, numeric=True) for metric in metrics),
    )
    return Table(
        f"Test results, {spec.evaluation.headline} score",
        columns,
        tuple(rows) if any_confirmed(spec, record) else (),
        _main_notes(spec, record),
        NOTHING_CONFIRMED,
    )


def comparison_table(spec: StudySpec, comparisons: Sequence[Comparison]) -> Table:
    """Every arm against the baseline: difference, interval, p values, effect size and verdict."""
    confidence = numbers.percent(spec.report.confidence)
    labels = ("difference", f"{confidence} interval", "Holm p", "p", "sign-flip p", "dz", "pairs")
    columns = (
        Column("family"),
        Column("arm"),
        Column("metric"),
        *(Column(label, numeric=True) for label in labels),
        Column("verdict"),
    )
    rows = [
        (
            *row(c.family, c.arm, c.metric.title, c.metric.show_difference(c.test.difference)),
            *row(interval(c), numbers.p_value(c.p_holm), numbers.p_value(c.test.p)),
            *row(numbers.p_value(c.test.p_permutation), numbers.fixed(c.test.dz, 2), str(c.test.n)),
            Cell(c.verdict, bold=c.distinguishable),
        )
        for c in comparisons
    ]
    return Table(
        f"Paired comparison with {ordered_arms(spec)[0]}",
        columns,
        tuple(rows),
        _comparison_notes(spec, comparisons),
        NOTHING_CONFIRMED if len(spec.arms) > 1 else "The study has one arm: there is nothing to compare.",
    )


def set_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Every OOD test set on its own."""
    names = [(name, "near") for name in near_sets(spec.data)] + [
        (name, "far") for name in far_sets(spec.data)
    ]
    headline = spec.evaluation.headline
    metrics = [describe(f"ood/{headline}/set/{rate}", headline) for rate in REJECTION_METRICS]
    rows = [
        (
            *row(arm, name, kind),
            *(
                Cell(_mean_std(spec, record, arm, describe(f"ood/{headline}/{name}/{rate}", headline)))
                for rate in REJECTION_METRICS
            ),
            Cell(_share(_prevalence(spec, record, arm, name))),
        )
        for arm in ordered_arms(spec)
        for name, kind in names
    ]
    columns = (
        Column("arm"),
        Column("OOD set"),
        Column("kind"),
        *(Column(metric.group, numeric=True) for metric in metrics),
        Column("ID share", numeric=True),
    )
    return Table(
        f"Every OOD set, {headline} score",
        columns,
        tuple(rows) if any_confirmed(spec, record) else (),
        empty=NOTHING_CONFIRMED,
    )


def score_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Every score on every arm."""
    sides = [side for side, sets in (("near", near_sets(spec.data)), ("far", far_sets(spec.data))) if sets]
    pairs = [(rate, side) for rate in ("fpr95", "auroc") for side in sides]
    rows = []
    for arm in ordered_arms(spec):
        for score in spec.evaluation.scores:
            metrics = [describe(f"ood/{score}/{side}/{rate}", score) for rate, side in pairs]
            texts = [_mean_std(spec, record, arm, metric) for metric in metrics]
            rows.append(
                row(arm, score + (" (headline)" if score == spec.evaluation.headline else ""), *texts)
            )
    headings = [describe(f"ood/msp/{side}/{rate}", "msp") for rate, side in pairs]
    columns = (
        Column("arm"),
        Column("score"),
        *(Column(metric.label, metric.group, numeric=True) for metric in headings),
    )
    return Table(
        "Loss by score",
        columns,
        tuple(rows) if any_confirmed(spec, record) else (),
        ("Only the headline score was searched for and is compared; the others are shown as they came out.",),
        NOTHING_CONFIRMED,
    )


def any_confirmed(spec: StudySpec, record: StudyRecord) -> bool:
    return any(
        trial.state == "complete" for arm in spec.arms for trial in confirm_trials(spec, record, arm).values()
    )


def seed_count(spec: StudySpec, record: StudyRecord, arm: str) -> str:
    """``5``, or what is missing: ``4 of 5 (1 failed)``."""
    planned = len(spec.confirm.seeds)
    states = [trial.state for trial in confirm_trials(spec, record, arm).values()]
    complete, failed = states.count("complete"), states.count("failed")
    if complete == planned:
        return str(planned)
    if arm_record(record, arm).failure:
        return f"{complete} of {planned} (nothing selected)"
    open_ = planned - complete - failed
    parts = [f"{failed} failed"] * (failed > 0) + [f"{open_} not finished"] * (open_ > 0)
    return f"{complete} of {planned} ({', '.join(parts)})"


def _mean_std(spec: StudySpec, record: StudyRecord, arm: str, metric: Metric) -> str:
    summary = summarise(list(confirm_values(spec, record, arm, metric.name).values()))
    return metric.show_mean_std(summary.mean, summary.std)


def _bold_cells(
    spec: StudySpec, record: StudyRecord, metrics: Sequence[Metric], comparisons: Sequence[Comparison]
) -> set[tuple[str, str]]:
    """The best arm of a column, only where the comparison with the baseline bears it out.

    A baseline is bold where every other arm is distinguishably worse.
    """
    baseline, *others = ordered_arms(spec)
    verdicts = {(c.arm, c.metric.name): c.verdict for c in comparisons}
    bold = set()
    for metric in metrics:
        sign = -1 if metric.better == "lower" else 1
        means = {
            arm: sign * summary.mean
            for arm in (baseline, *others)
            if (summary := summarise(list(confirm_values(spec, record, arm, metric.name).values()))).mean
            is not None
        }
        if metric.better == "neither" or len(means) < 2:
            continue
        best = max(means, key=lambda arm: means[arm])
        judged = [verdicts.get((arm, metric.name)) for arm in others]
        if (best != baseline and verdicts.get((best, metric.name)) == "better") or (
            best == baseline and all(verdict == "worse" for verdict in judged)
        ):
            bold.add((best, metric.name))
    return bold


def _main_notes(spec: StudySpec, record: StudyRecord) -> tuple[str, ...]:
    notes = [
        "Mean ± standard deviation (ddof = 1) over n training seeds, of test data that no search trial "
        "saw; rates in percent.",
        "The ± covers the training seed, not the choice of parameters: the search was run once.",
        "FPR95 (ID+): share of OOD accepted where 95 % of ID is accepted. FPR95 (OOD+): share of ID "
        "rejected where 95 % of OOD is rejected. TS: temperature scaling, T* fitted on validation data.",
        "Bold (in plain text *): best of its column, and distinguishable from the baseline after Holm's "
        "correction.",
    ]
    prevalences = []
    for side, sets in (("near", near_sets(spec.data)), ("far", far_sets(spec.data))):
        shares = [
            share
            for name in sets
            for arm in spec.arms
            if (share := _prevalence(spec, record, arm, name)) is not None
        ]
        if shares:
            low, high = _share(min(shares)), _share(max(shares))
            prevalences.append(f"{side} {low}" if low == high else f"{side} {low} to {high}")
    if prevalences:
        notes.append(
            "AUPR depends on the mixture; share of ID images in the test mixtures: "
            + ", ".join(prevalences)
            + "."
        )
    return tuple(notes)


def _comparison_notes(spec: StudySpec, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    sizes = {c.family: c.family_size for c in comparisons}
    corrected = " and ".join(f"{family} ({size} comparisons)" for family, size in sizes.items())
    return (
        "Arm minus baseline, paired by seed, in the units of the table above. p: two-sided paired t test. "
        "Intervals are not widened for the number of comparisons.",
        f"Holm's correction within each family: {corrected}. Distinguishable: Holm p below "
        f"{numbers.parameter(round(1 - spec.report.confidence, 10))}.",
        "Sign-flip p: exact permutation test, a check without any assumption of normality; with n pairs it "
        "cannot go below 2 / 2^n. dz: difference over the standard deviation of the differences.",
    )


def _prevalence(spec: StudySpec, record: StudyRecord, arm: str, name: str) -> float | None:
    values = confirm_values(spec, record, arm, f"ood/{spec.evaluation.headline}/{name}/id_prevalence")
    return summarise(list(values.values())).mean


def _share(value: float | None) -> str:
    return numbers.MISSING if value is None else numbers.percent(value)
