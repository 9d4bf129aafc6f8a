"""All that a report says, made once; the terminal, Markdown and HTML only lay it out."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.bookkeeping import budget_table, chosen_table, failures_table, provenance_table
from orchestrator.report.cautions import cautions, progress
from orchestrator.report.cells import Table
from orchestrator.report.comparison import Comparison, compare, ordered_arms
from orchestrator.report.sentences import sentence
from orchestrator.report.tables import any_confirmed, comparison_table, main_table, score_table, set_table
from orchestrator.study.spec import StudySpec


@dataclass(frozen=True)
class Contents:
    """The parts of a report, in the order in which they are read."""

    title: str
    question: str
    progress: str
    answers: tuple[tuple[str, tuple[str, ...]], ...]
    """For each arm but the baseline, a sentence for each primary metric. Empty where there is nothing to
    say yet: ``comparison.empty`` says why."""
    main: Table
    comparisons: tuple[Comparison, ...]
    comparison: Table
    secondary: tuple[str, ...]
    """A sentence for each comparison of the secondary family that is distinguishable."""
    sets: Table
    scores: Table
    chosen: Table
    budget: Table
    provenance: Table
    warnings: tuple[str, ...]
    failures: Table


def assemble(spec: StudySpec, record: StudyRecord) -> Contents:
    """Make every table and sentence from the record."""
    comparisons = compare(spec, record) if any_confirmed(spec, record) else ()
    confidence = spec.report.confidence
    answers = tuple(
        (
            arm,
            tuple(
                sentence(c, confidence) + "." for c in comparisons if c.arm == arm and c.family == "primary"
            ),
        )
        for arm in ordered_arms(spec)[1:]
        if comparisons
    )
    return Contents(
        spec.name,
        spec.question,
        progress(spec, record),
        answers,
        main_table(spec, record, comparisons),
        comparisons,
        comparison_table(spec, comparisons),
        tuple(
            sentence(c, confidence) + "."
            for c in comparisons
            if c.family == "secondary" and c.distinguishable
        ),
        set_table(spec, record),
        score_table(spec, record),
        chosen_table(spec, record),
        budget_table(spec, record),
        provenance_table(spec, record),
        cautions(spec, record),
        failures_table(spec, record),
    )
