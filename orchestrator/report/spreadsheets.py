"""The report's CSV files: the digits of the tables, and every digit beside them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.bookkeeping import last_metrics
from orchestrator.report.cells import Cell, Table
from orchestrator.report.comparison import Comparison
from orchestrator.report.contents import Contents
from orchestrator.report.metrics import headline_names
from orchestrator.report.sentences import sentence
from orchestrator.report.statistics import Summary
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec


def table_csv(table: Table) -> str:
    """A table as it is shown; beside each measured cell, unscaled mean, std and n in full precision.

    A table with measured cells ends with a column ``trials``: the keys of the trials behind each row.
    """
    head = [
        part
        for column in table.columns
        for name in [column.name or column.label]
        for part in ((name, f"{name}/mean", f"{name}/std", f"{name}/n") if column.measured else (name,))
    ]
    traced = any(column.measured for column in table.columns)
    head += ["trials"] * traced
    # A row that says why it has no values still has as many columns as the others.
    rows = [
        [
            part
            for cell, column in zip(row, table.columns, strict=True)
            for part in (cell.text, *(_exact(cell.summary) if column.measured else ()))
        ]
        + [" ".join(_trials(row))] * traced
        for row in table.rows
    ]
    return _csv(head, rows)


def comparison_csv(spec: StudySpec, contents: Contents) -> str:
    """``comparison.csv``: the shown columns, the same in full precision (unscaled) and the sentence."""
    head = [column.label for column in contents.comparison.columns]
    head += [
        "baseline",
        "metric_name",
        "planned_pairs",
        "difference_full",
        "std_full",
        "low_full",
        "high_full",
        "bootstrap_low_full",
        "bootstrap_high_full",
    ]
    head += ["p_full", "p_holm_full", "p_sign_flip_full", "p_sign_flip_smallest", "dz_full", "family_size"]
    head += ["seeds_needed", "sentence"]
    rows = [
        [*(cell.text for cell in row), *_comparison_columns(c), sentence(c, spec.report.confidence)]
        for c, row in zip(contents.comparisons, contents.comparison.rows, strict=True)
    ]
    return _csv(head, rows)


def trials_csv(spec: StudySpec, record: StudyRecord) -> str:
    """``trials.csv``: every trial of the study, in the order in which they started."""
    names = sorted({name for trial in record.trials.values() for name in trial.params})
    outcomes = dict.fromkeys(name for regime in regimes(spec).values() for name in headline_names(regime))
    measured = ("noise/fpr95", "noise/auroc", "validation/accuracy", "test/accuracy", *outcomes)
    head = [
        "key",
        "arm",
        "stage",
        "regime",
        "repeat",
        "configuration",
        "seed",
        *names,
        "params",
        "state",
        *measured,
    ]
    head += ["epochs", "attempts", "seconds", "reason"]
    rows = []
    for trial in record.trials.values():
        metrics = last_metrics(trial)
        rows.append(
            [
                *(trial.key, trial.arm, trial.stage, trial.regime, str(trial.repeat)),
                *(str(trial.number), str(trial.seed)),
                *(str(trial.params.get(name, "")) for name in names),
                json.dumps(dict(trial.params)),
                trial.state,
                *(numbers.exact(metrics.get(name)) for name in measured),
                *(str(max(trial.reports, default=0)), str(trial.attempts), f"{trial.seconds:.3f}"),
                " ".join(trial.reason.split()),
            ]
        )
    return _csv(head, rows)


def _trials(row: Sequence[Cell]) -> list[str]:
    """The keys of all trials behind a row's cells, each once."""
    return list(dict.fromkeys(key for cell in row if cell.source for key in cell.source.keys))


def _comparison_columns(c: Comparison) -> list[str]:
    test = c.test
    ends = (test.low, test.high, *(test.bootstrap or (None, None)))
    full = (test.difference, test.std, *ends, test.p, c.p_holm)
    checks = (test.p_permutation, test.p_smallest, test.dz)
    return [
        *(c.baseline, c.metric.name, str(c.planned)),
        *(numbers.exact(value) for value in (*full, *checks)),
        str(c.family_size),
        "" if c.seeds_needed is None else str(c.seeds_needed),
    ]


def _exact(summary: Summary | None) -> tuple[str, ...]:
    if summary is None:
        return "", "", ""
    return numbers.exact(summary.mean), numbers.exact(summary.std), str(summary.n)


def _csv(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return buffer.getvalue()
