"""All that a report says, made once; the terminal, Markdown and HTML only lay it out."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.bookkeeping import budget_table, chosen_table, failures_table, provenance_table
from orchestrator.report.cautions import cautions, progress
from orchestrator.report.cells import Table
from orchestrator.report.comparison import Comparison, compare
from orchestrator.report.sentences import conclusions, sentence
from orchestrator.report.tables import any_confirmed, comparison_table, main_table, score_table, set_table
from orchestrator.study.spec import StudySpec


@dataclass(frozen=True)
class Contents:
    """The parts of a report, in the order in which they are read."""

    title: str
    question: str
    progress: str
    answers: tuple[str, ...]
    """What the primary comparisons show. Empty where there is nothing to say yet: ``comparison.empty`` says
    why."""
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
    answers = conclusions([c for c in comparisons if c.family == "primary"], confidence)
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
