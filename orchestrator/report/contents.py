"""All that a report says, made once; the terminal, Markdown and HTML only lay it out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.answer import answer
from orchestrator.report.audit import Audits, assemble_audits
from orchestrator.report.axes import axes_table
from orchestrator.report.bookkeeping import chosen_table, failures_table
from orchestrator.report.budget import budget_table
from orchestrator.report.cautions import cautions, progress
from orchestrator.report.cells import Table
from orchestrator.report.comparison import Comparison, compare
from orchestrator.report.cost import cost_table
from orchestrator.report.evaluation_tables import calibration_table, geometry_table, robustness_table
from orchestrator.report.ood_tables import score_table, selective_table, set_table
from orchestrator.report.protocol_tables import protocol_tables
from orchestrator.report.provenance import provenance_table
from orchestrator.report.runs import runs_table
from orchestrator.report.selection import selection_tables
from orchestrator.report.sentences import conclusions, sentence
from orchestrator.report.tables import comparison_table, main_table, nothing_confirmed
from orchestrator.study.spec import StudySpec


@dataclass(frozen=True)
class Contents:
    """The parts of a report, in the order in which they are read."""

    title: str
    question: str
    progress: str
    answer: tuple[str, ...]
    """The primary comparisons in two sentences."""
    answers: tuple[str, ...]
    """What the primary comparisons show. Empty where there is nothing to say yet: ``comparison.empty`` says
    why."""
    main: Table
    axes: Table
    """Every arm on every axis; without rows where the study has one protocol."""
    comparisons: tuple[Comparison, ...]
    comparison: Table
    secondary: tuple[str, ...]
    """A sentence for each comparison of the secondary family that is distinguishable."""
    evaluations: Mapping[str, Table]
    """What else was measured, by the name of each table's CSV file; what was not measured is absent."""
    chosen: Table
    budget: Table
    provenance: Table
    runs: Table
    """Where the trials behind the tables are."""
    warnings: tuple[str, ...]
    failures: Table
    audits: Audits


def assemble(spec: StudySpec, record: StudyRecord) -> Contents:
    """Make every table and sentence from the record."""
    comparisons = compare(spec, record) if _any_complete(record) else ()
    confidence = spec.report.confidence
    primary = [c for c in comparisons if c.family == "primary"]
    return Contents(
        spec.name,
        spec.question,
        progress(spec, record),
        answer(primary),
        conclusions(primary, confidence),
        main_table(spec, record, comparisons),
        axes_table(spec, record),
        comparisons,
        comparison_table(spec, comparisons, nothing_confirmed(spec, record)),
        tuple(
            sentence(c, confidence) + "."
            for c in comparisons
            if c.family == "secondary" and c.distinguishable
        ),
        _evaluations(spec, record),
        chosen_table(spec, record),
        budget_table(spec, record),
        provenance_table(spec, record),
        runs_table(spec, record),
        cautions(spec, record),
        failures_table(spec, record),
        assemble_audits(spec, record),
    )


def _any_complete(record: StudyRecord) -> bool:
    """Whether a confirm trial of any regime is complete."""
    return any(trial.state == "complete" for arm in record.arms.values() for trial in arm.confirm_trials)


def _evaluations(spec: StudySpec, record: StudyRecord) -> dict[str, Table]:
    tables = {
        **selection_tables(spec, record),
        **protocol_tables(spec, record),
        "per_set": set_table(spec, record),
        "scores": score_table(spec, record),
        "selective": selective_table(spec, record),
        "calibration": calibration_table(spec, record),
        "geometry": geometry_table(spec, record),
        "robustness": robustness_table(spec, record),
        "cost": cost_table(spec, record),
    }
    return {name: table for name, table in tables.items() if table.rows}
