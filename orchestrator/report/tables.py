"""The tables that answer the study's question: the main one and the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Table, row
from orchestrator.report.comparison import Comparison, all_confirm_trials, confirm_values, ordered_arms
from orchestrator.report.measured import any_confirmed, measured_cell, metric_column, prevalence, seed_count
from orchestrator.report.metric import Metric
from orchestrator.report.metrics import sides, table_metrics
from orchestrator.report.sentences import bootstrap_text, interval, needed_text
from orchestrator.report.statistics import summarise
from orchestrator.study.regimes import main_regime, split_name
from orchestrator.study.spec import StudySpec
from orchestrator.study.terms import space_size

NOTHING_CONFIRMED = "No confirm trial has finished yet: there are no test results to show."


def nothing_confirmed(spec: StudySpec, record: StudyRecord) -> str:
    """Why there are no test results, where there are none."""
    trials = [t for arm in spec.arms for t in all_confirm_trials(spec, record, arm)]
    if trials and all(trial.state == "failed" for trial in trials):
        failed = numbers.counted(len(trials), "confirm trial")
        return f"{failed} ended, and every one of them failed: there are no test results to show."
    return NOTHING_CONFIRMED


def main_table(spec: StudySpec, record: StudyRecord, comparisons: Sequence[Comparison]) -> Table:
    """Arms as rows, the baseline first; mean ± standard deviation over the confirm seeds."""
    metrics = table_metrics(spec)
    bold = _bold_cells(spec, record, metrics, comparisons)
    rows = [
        (
            Cell(arm),
            Cell(seed_count(spec, record, arm)),
            *(
                replace(cell, bold=(arm, metric.name) in bold)
                for metric in metrics
                for cell in [measured_cell(spec, record, arm, metric)]
            ),
        )
        for arm in ordered_arms(spec)
    ]
    columns = (Column("arm"), Column("n"), *map(metric_column, metrics))
    return Table(
        _main_title(spec, metrics),
        columns,
        tuple(rows) if any_confirmed(spec, record) else (),
        _main_notes(spec, record, metrics),
        nothing_confirmed(spec, record),
    )


def comparison_table(
    spec: StudySpec, comparisons: Sequence[Comparison], empty: str = NOTHING_CONFIRMED
) -> Table:
    """Every arm against the baseline: difference, interval, p values, effect size and verdict.

    Args:
        empty: why there is no comparison, where the study has arms to compare.
    """
    confidence = numbers.percent(spec.report.confidence)
    labels = (
        "difference",
        f"{confidence} interval",
        "bootstrap",
        "Holm p",
        "p",
        "sign-flip p",
        "dz",
        "pairs",
    )
    columns = (
        Column("family"),
        Column("arm"),
        Column("metric"),
        *(Column(label, numeric=True) for label in labels),
        Column("verdict"),
        Column("seeds needed", numeric=True),
    )
    rows = [
        (
            *row(c.family, c.arm, c.metric.title, c.metric.show_difference(c.test.difference)),
            *row(interval(c), bootstrap_text(c), numbers.p_value(c.p_holm), numbers.p_value(c.test.p)),
            *row(numbers.p_value(c.test.p_permutation), numbers.fixed(c.test.dz, 2), str(c.test.n)),
            Cell(c.verdict, bold=c.distinguishable),
            Cell(needed_text(c)),
        )
        for c in comparisons
    ]
    return Table(
        f"Paired comparison with {ordered_arms(spec)[0]}",
        columns,
        tuple(rows),
        _comparison_notes(spec, comparisons),
        empty if len(spec.arms) > 1 else "The study has one arm: there is nothing to compare.",
    )


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


def _main_title(spec: StudySpec, metrics: Sequence[Metric]) -> str:
    """With the regime where it is not the standard one, and the score where one is used."""
    main = main_regime(spec)
    score = "ood" in spec.evaluation.measures or any("/auroc_" in metric.name for metric in metrics)
    parts = ["Test results"] + [main] * (main != "standard")
    return ", ".join([*parts, *[f"{spec.evaluation.headline} score"] * score])


def _main_notes(spec: StudySpec, record: StudyRecord, metrics: Sequence[Metric]) -> tuple[str, ...]:
    notes = [
        "Mean ± standard deviation (ddof = 1) over n training seeds, of test data that no search trial "
        "saw; rates in percent.",
    ]
    if any(space_size(arm.space) != 1 for arm in spec.arms.values()):
        notes.append(_covered(spec))
    meanings = {
        "imbalance": "Each class weighs the same, and many, medium and few are classes by their training "
        "images; the table of long-tailed training says more.",
        "continual": "Each task weighs the same; the table of continual learning says what is what.",
        "ood": "FPR95 (ID+): share of OOD accepted where 95 % of ID is accepted. FPR95 (OOD+): share of ID "
        "rejected where 95 % of OOD is rejected.",
        "calibration": "TS: temperature scaling, T* fitted on validation data.",
    }
    kinds = {split_name(metric.name, spec)[1].split("/")[0] for metric in metrics}
    kinds -= {"ood", "calibration"} - set(spec.evaluation.measures)
    explained = [text for kind, text in meanings.items() if kind in kinds]
    notes += [
        *([" ".join(explained)] if explained else []),
        "Bold (in plain text *): best of its column, and distinguishable from the baseline after Holm's "
        "correction.",
    ]
    prevalences = []
    for side, sets in sides(spec).items():
        found = [prevalence(spec, record, arm, name) for name in sets for arm in spec.arms]
        shares = [share for share in found if share is not None]
        if shares:
            low, high = numbers.percent(min(shares)), numbers.percent(max(shares))
            prevalences.append(f"{side} {low}" if low == high else f"{side} {low} to {high}")
    if prevalences:
        notes.append(
            "AUPR depends on the mixture; share of ID images in the test mixtures: "
            + ", ".join(prevalences)
            + "."
        )
    return tuple(notes)


def _covered(spec: StudySpec) -> str:
    """Which variance a ± of the table holds."""
    covers = "The ± covers the training seed, not the choice of parameters: "
    times = spec.search.repeats
    if times == 1:
        return covers + "the search was run once."
    return (
        f"{covers}this table rests on the first of {times} searches. How much selection itself varies has a "
        "table of its own."
    )


def _comparison_notes(spec: StudySpec, comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    sizes = {c.family: c.family_size for c in comparisons}
    corrected = " and ".join(f"{family} ({size} comparisons)" for family, size in sizes.items())
    return (
        "Arm minus baseline, paired by seed, in the units of the table above. p: two-sided paired t test. "
        "Intervals are not widened for the number of comparisons. Bootstrap: percentile interval of the same "
        "confidence, without any assumption of normality, and too narrow for few seeds.",
        f"Holm's correction within each family: {corrected}. Distinguishable: Holm p below "
        f"{numbers.parameter(round(1 - spec.report.confidence, 10))}.",
        "Sign-flip p: exact permutation test, a check without any assumption of normality; with n pairs it "
        "cannot go below 2 / 2^n. dz: difference over the standard deviation of the differences. Seeds "
        "needed: about so many pairs would settle a difference of the size seen, with 80 % power.",
    )
