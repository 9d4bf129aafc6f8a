"""How much selection itself varies: the winners of repeated searches beside each other.

A ± over the confirm seeds of one winner says how much training varies. Another search would have chosen
another winner; the spread between the winners of repeats says how much that matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.campaign.record import ArmRecord, StudyRecord
from orchestrator.report import numbers
from orchestrator.report.bookkeeping import parameters_text
from orchestrator.report.cells import Column, Table, row
from orchestrator.report.comparison import arm_record, confirm_values, ordered_arms
from orchestrator.report.measured import measured_cell, metric_column, seed_count
from orchestrator.report.metric import Metric
from orchestrator.report.metrics import primary_metrics
from orchestrator.report.statistics import paired_test, summarise
from orchestrator.study import repeats
from orchestrator.study.regimes import main_regime, split_name
from orchestrator.study.spec import StudySpec


def selection_tables(spec: StudySpec, record: StudyRecord) -> dict[str, Table]:
    """The winners, the parts of their spread, and the differences to the baseline in each repeat.

    By the names of their CSV files; without rows where the study repeats no search.
    """
    metrics = [m for m in primary_metrics(spec) if split_name(m.name, spec)[0] == main_regime(spec)]
    return {
        "selection": _winners(spec, record, metrics),
        "selection_variance": _variance(spec, record, metrics),
        "selection_differences": _differences(spec, record, metrics),
    }


def in_repeat(spec: StudySpec, record: StudyRecord, repeat: int) -> StudyRecord:
    """The record as if the searches of one repeat were the only ones; arms without it stay as they are."""
    arms = {}
    for name, first in record.arms.items():
        shown = first
        if repeat and repeat < repeats.count(spec, name):
            shown = replace(first.again.get(repeat) or ArmRecord(name, repeat), skipped=first.skipped)
        arms[name] = shown
    return replace(record, arms=arms)


@dataclass(frozen=True)
class Spread:
    """Of one metric of an arm, over the winners of its searches; standard deviations, unscaled."""

    winners: int
    """With at least one measured seed."""
    within: float | None
    """Over the seeds of one winner: root of the mean variance, each weighed by its degrees of freedom."""
    between: float | None
    """Between the winners' means, ddof = 1."""

    @property
    def total(self) -> float | None:
        """Of one network after one search: training and selection together."""
        if self.within is None or self.between is None:
            return None
        return math.hypot(self.within, self.between)


def spread(groups: Sequence[Sequence[float]]) -> Spread:
    """The spread of values, grouped by winner."""
    summaries = [summary for summary in map(summarise, groups) if summary.n]
    freedom = sum(summary.n - 1 for summary in summaries)
    squares = sum((summary.n - 1) * (summary.std or 0.0) ** 2 for summary in summaries)
    means = summarise([summary.mean for summary in summaries if summary.mean is not None])
    return Spread(len(summaries), math.sqrt(squares / freedom) if freedom else None, means.std)


def _searched(spec: StudySpec) -> list[str]:
    return [arm for arm in ordered_arms(spec) if repeats.count(spec, arm) > 1]


def _winners(spec: StudySpec, record: StudyRecord, metrics: Sequence[Metric]) -> Table:
    rows = []
    for arm in _searched(spec):
        for repeat in range(spec.search.repeats):
            view = in_repeat(spec, record, repeat)
            search = arm_record(view, arm)
            if search.selected is None:
                chosen = search.failure or "still searching"
            else:
                chosen = parameters_text(search.configurations[search.selected].params)
            cells = [measured_cell(spec, view, arm, metric) for metric in metrics]
            count = seed_count(spec, view, arm)
            rows.append((*row(arm, str(repeat), str(len(search.configurations)), chosen, count), *cells))
    columns = (
        Column("arm"),
        Column("repeat", numeric=True),
        Column("configurations", numeric=True),
        Column("parameters of the winner"),
        Column("n"),
        *map(metric_column, metrics),
    )
    notes = (
        "Each search draws its own configurations and trains them on its own seeds; all winners are "
        f"confirmed on the same seeds in the regime {main_regime(spec)}. Mean ± standard deviation (ddof = "
        "1) over these n seeds. The tables of the report rest on repeat 0.",
    )
    return Table("How much selection itself varies", columns, tuple(rows), notes)


def _variance(spec: StudySpec, record: StudyRecord, metrics: Sequence[Metric]) -> Table:
    views = [in_repeat(spec, record, repeat) for repeat in range(spec.search.repeats)]
    rows = []
    for arm in _searched(spec):
        for metric in metrics:
            found = spread([list(confirm_values(spec, view, arm, metric.name).values()) for view in views])
            parts = (found.within, found.between, found.total)
            shown = replace(metric, decimals=metric.decimals + 1)
            rows.append(row(arm, metric.title, str(found.winners), *(shown.show(part) for part in parts)))
    columns = (
        Column("arm"),
        Column("metric"),
        Column("winners", numeric=True),
        Column("over the seeds of one winner", numeric=True),
        Column("between the winners' means", numeric=True),
        Column("both", numeric=True),
    )
    notes = (
        "Standard deviations, in the units of the table above. A ± of the main table is of the first kind: "
        "it covers the training seed alone. Both: root of the sum of the squares, what one network varies by "
        "when the search is done anew, too.",
        "The means still hold some luck of the seeds, so winners that are equally good differ a little. "
        "Winners with the same parameters are the same networks. From "
        f"{spec.search.repeats} searches this is a rough estimate.",
    )
    return Table("Spread within and between winners", columns, tuple(rows), notes)


def _differences(spec: StudySpec, record: StudyRecord, metrics: Sequence[Metric]) -> Table:
    baseline, *others = ordered_arms(spec)
    views = [in_repeat(spec, record, repeat) for repeat in range(spec.search.repeats)]
    # Where neither has repeats there is one difference, and the comparison shows it.
    compared = [arm for arm in others if {arm, baseline} & set(_searched(spec))]
    rows = []
    for arm in compared:
        for metric in metrics:
            found = [_difference(spec, view, arm, baseline, metric) for view in views]
            shown = [metric.show_difference(difference) for difference in found]
            rows.append(row(arm, metric.title, *shown, _sign(found)))
    columns = (
        Column("arm"),
        Column("metric"),
        *(Column(str(repeat), "repeat", numeric=True) for repeat in range(spec.search.repeats)),
        Column("sign"),
    )
    notes = (
        f"Mean of arm minus {baseline}, paired by confirm seed, the winners of one repeat against each "
        "other; an arm with nothing to search is the same in all. A sign that changes says that another "
        "search could have turned the answer around.",
    )
    return Table(f"Difference to {baseline} in each repeat", columns, tuple(rows), notes)


def _difference(spec: StudySpec, view: StudyRecord, arm: str, baseline: str, metric: Metric) -> float | None:
    values = [confirm_values(spec, view, name, metric.name) for name in (arm, baseline)]
    return paired_test(values[0], values[1], spec.report.confidence).difference


def _sign(differences: Sequence[float | None]) -> str:
    """Whether all repeats say the same."""
    known = [difference for difference in differences if difference is not None]
    if len(known) < 2:
        return numbers.MISSING
    of = f"{len(known)} of {len(differences)} repeats" if len(known) < len(differences) else "every repeat"
    if all(d > 0 for d in known) or all(d < 0 for d in known):
        return f"the same in {of}"
    return "changes"
