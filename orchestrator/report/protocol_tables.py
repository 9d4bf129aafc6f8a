"""The tables of the long-tailed and the continual protocol, one for each entry of a study's ``protocols``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.cells import Cell, Column, Table
from orchestrator.report.comparison import ordered_arms
from orchestrator.report.measured import measured_cell, values
from orchestrator.report.metrics import sides
from orchestrator.report.protocol_notes import continual_notes, long_tailed_notes
from orchestrator.report.readings import describe
from orchestrator.report.rows import begun, regime_rows, unfinished_note
from orchestrator.study.metric_names import CLASS_GROUPS
from orchestrator.study.regimes import Regime, full_name, regimes
from orchestrator.study.spec import StudySpec


@dataclass(frozen=True)
class Heading:
    """A metric as a column of a protocol's table."""

    name: str
    """As trials record it."""
    group: str
    label: str
    short: str = ""
    """Heading in the terminal; empty: only the files have the column."""


def protocol_tables(spec: StudySpec, record: StudyRecord) -> dict[str, Table]:
    """A table for each entry that is not standard, by the name of its CSV file; without rows where no trial
    has finished."""
    return {name: protocol_table(spec, record, entry) for name, entry in table_entries(spec).items()}


def table_entries(spec: StudySpec) -> dict[str, str]:
    """The entries that have a table, by the name of its CSV file; own names cannot clash with others'."""
    return {
        entry if entry == each.protocol else f"{each.protocol}-{entry}": entry
        for entry, each in spec.protocols.items()
        if each.protocol != "standard"
    }


def protocol_table(spec: StudySpec, record: StudyRecord, entry: str) -> Table:
    """Arms in the variants of one entry: those of one variant stand together, the baseline first."""
    long_tailed = spec.protocols[entry].protocol == "long_tailed"
    title = "Long-tailed training" if long_tailed else "Continual learning"
    those = [regime for regime in regimes(spec).values() if regime.entry == entry]
    shown = begun(spec, record, those)
    headings = [h for h in headings_of(spec, those[0]) if _is_measured(spec, record, shown, h.name)]

    def cells(arm: str, regime: Regime) -> list[Cell]:
        names = [full_name(regime.name, heading.name, spec) for heading in headings]
        readings = [describe(name, spec.evaluation.headline) for name in names]
        return [measured_cell(spec, record, arm, reading) for reading in readings]

    columns = (
        Column("arm"),
        Column("method" if long_tailed else "strategy"),
        Column("n"),
        *(Column(h.label, h.group, numeric=True, name=h.name, measured=True) for h in headings),
    )
    notes = (long_tailed_notes if long_tailed else continual_notes)(spec, record, entry, shown)
    return Table(
        title if entry == spec.protocols[entry].protocol else f"{title}: {entry}",
        columns,
        regime_rows(spec, record, shown, len(headings), cells),
        (*notes, *unfinished_note(spec, record, those)),
        "No trial has finished yet.",
    )


def compact(spec: StudySpec, table: Table, regime: Regime) -> Table:
    """The columns that a terminal has room for, under short headings; n without what is missing."""
    shorts: Mapping[str, str] = {h.name: h.short for h in headings_of(spec, regime) if h.short}
    kept = [i for i, column in enumerate(table.columns) if i < table.keys or column.name in shorts]
    picked = table.pick(kept)
    count = table.keys - 1
    rows = (
        (*row[:count], replace(row[count], text=row[count].text.partition(" (")[0]), *row[count + 1 :])
        if not row[count].spread
        else row
        for row in picked.rows
    )
    columns = tuple(replace(c, label=shorts.get(c.name, c.label), group="") for c in picked.columns)
    return replace(picked, columns=columns, rows=tuple(rows))


def headings_of(spec: StudySpec, regime: Regime) -> list[Heading]:
    """The columns of the table that a regime stands in."""
    bins = spec.evaluation.calibration.bins
    if regime.continual is None:
        return [
            Heading("imbalance/balanced_accuracy", "accuracy", "balanced", "balanced"),
            Heading("imbalance/worst_class", "accuracy", "worst class", "worst class"),
            *(
                Heading(f"imbalance/accuracy/{g}", "accuracy by class size", g, "few" if g == "few" else "")
                for g in CLASS_GROUPS
            ),
            Heading("imbalance/macro_f1", "mean over classes", "macro-F1"),
            Heading("imbalance/g_mean", "mean over classes", "G-mean"),
            *(Heading(f"imbalance/ece_{bins}/{g}", "ECE by class size", g) for g in CLASS_GROUPS),
            *(
                Heading(f"ood/{side}/{spec.evaluation.headline}/auroc", "AUROC", side, f"AUROC {side}")
                for side in sides(spec)
            ),
        ]
    prefix = f"continual/{regime.continual.scenario}"
    return [
        Heading(f"{prefix}/accuracy", "accuracy", "ACC", "ACC"),
        Heading(f"{prefix}/average_incremental_accuracy", "accuracy", "avg. incremental"),
        Heading(f"{prefix}/learning_accuracy", "accuracy", "learning", "learning"),
        Heading(f"{prefix}/forgetting", "forgetting", "from best", "forgetting"),
        Heading(f"{prefix}/forgetting_avalanche", "forgetting", "from first"),
        Heading(f"{prefix}/bwt", "transfer", "BWT"),
        Heading(f"{prefix}/fwt", "transfer", "FWT"),
        Heading(f"{prefix}/masked/accuracy", "task told", "masked ACC"),
        *(Heading(f"{prefix}/auroc_{side}", "AUROC", side, f"AUROC {side}") for side in sides(spec)),
        Heading(f"{prefix}/ece_{bins}", "ECE", "before TS"),
        Heading(f"{prefix}/ece_{bins}_ts", "ECE", "after TS"),
    ]


def _is_measured(spec: StudySpec, record: StudyRecord, shown: Sequence[Regime], name: str) -> bool:
    return any(
        values(spec, record, arm, full_name(regime.name, name, spec))
        for regime in shown
        for arm in ordered_arms(spec)
    )
