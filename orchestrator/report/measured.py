"""What the confirm trials measured, as the cells and columns of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Source, Table
from orchestrator.report.comparison import arm_record, confirm_trials, confirm_values, ordered_arms
from orchestrator.report.metric import Metric
from orchestrator.report.metrics import sides
from orchestrator.report.readings import describe
from orchestrator.report.statistics import summarise
from orchestrator.study.regimes import split_name
from orchestrator.study.spec import StudySpec


def any_confirmed(spec: StudySpec, record: StudyRecord, regime: str | None = None) -> bool:
    """Whether a confirm trial of the regime (None: the main one) is complete."""
    return any(complete_count(spec, record, arm, regime) for arm in spec.arms)


def complete_count(spec: StudySpec, record: StudyRecord, arm: str, regime: str | None = None) -> int:
    """How many of the arm's confirm trials of a regime (None: the main one) are complete."""
    trials = confirm_trials(spec, record, arm, regime).values()
    return sum(trial.state == "complete" for trial in trials)


def seed_count(spec: StudySpec, record: StudyRecord, arm: str, regime: str | None = None) -> str:
    """``5``, or what is missing: ``4 of 5 (1 failed)``."""
    planned = len(spec.confirm.seeds)
    states = [trial.state for trial in confirm_trials(spec, record, arm, regime).values()]
    complete, failed = states.count("complete"), states.count("failed")
    if complete == planned:
        return str(planned)
    if arm_record(record, arm).failure:
        return f"{complete} of {planned} (nothing selected)"
    open_ = planned - complete - failed
    parts = [f"{failed} failed"] * (failed > 0) + [f"{open_} not finished"] * (open_ > 0)
    return f"{complete} of {planned} ({', '.join(parts)})"


def values(spec: StudySpec, record: StudyRecord, arm: str, name: str) -> dict[int, float]:
    """A metric of the complete confirm trials, by seed.

    Args:
        name: as recorded; or ending in ``/near`` or ``/far`` where only the sets of that side are recorded:
            then the mean over these sets, of the seeds that have all of them.
    """
    found = confirm_values(spec, record, arm, name)
    stem, _, side = name.rpartition("/")
    if found or side not in sides(spec):
        return found
    members = [confirm_values(spec, record, arm, f"{stem}/{member}") for member in sides(spec)[side]]
    # A mean over fewer sets would be another quantity, under the same heading.
    shared = [seed for seed in members[0] if all(seed in each for each in members)]
    return {seed: fmean(each[seed] for each in members) for seed in shared}


def measured_cell(spec: StudySpec, record: StudyRecord, arm: str, metric: Metric) -> Cell:
    """``97.1 ± 0.3``; with its own n where complete trials of the arm have no finite value."""
    found = values(spec, record, arm, metric.name)
    summary = summarise(list(found.values()))
    regime, _ = split_name(metric.name, spec)
    complete = complete_count(spec, record, arm, regime)
    text = metric.show_mean_std(summary.mean, summary.std)
    fewer = f" (n = {summary.n})" if 0 < summary.n < complete else ""
    return Cell(text + fewer, summary=summary, source=source_of(spec, record, arm, regime, found))


def source_of(
    spec: StudySpec, record: StudyRecord, arm: str, regime: str, found: Mapping[int, float]
) -> Source | None:
    """The trials of the finite values in ``found``, by seed; None where there are none."""
    trials = confirm_trials(spec, record, arm, regime)
    keys = tuple(trials[seed].key for seed, value in found.items() if math.isfinite(value))
    return Source(arm, regime, keys) if keys else None


def metric_column(metric: Metric) -> Column:
    return Column(metric.label, metric.group + metric.place, numeric=True, name=metric.name, measured=True)


def arms_table(
    title: str, names: Sequence[str], spec: StudySpec, record: StudyRecord, notes: Sequence[str] = ()
) -> Table:
    """Arms as rows, the baseline first, and those of the metrics ``names`` that any arm has.

    Without rows where no arm has any.
    """
    arms = ordered_arms(spec)
    metrics = [
        describe(name, spec.evaluation.headline)
        for name in names
        if any(values(spec, record, arm, name) for arm in arms)
    ]
    rows = [
        (
            Cell(arm),
            Cell(seed_count(spec, record, arm)),
            *(measured_cell(spec, record, arm, metric) for metric in metrics),
        )
        for arm in arms
        if metrics
    ]
    columns = [metric_column(metric) for metric in metrics]
    if not any(column.label for column in columns):
        columns = [replace(column, label=column.group, group="") for column in columns]
    return Table(title, (Column("arm"), Column("n"), *columns), tuple(rows), tuple(notes))


def prevalence(spec: StudySpec, record: StudyRecord, arm: str, name: str) -> float | None:
    """The share of ID images in the test mixture with the OOD set ``name``."""
    found = confirm_values(spec, record, arm, f"ood/{name}/{spec.evaluation.headline}/id_prevalence")
    return summarise(list(found.values())).mean


def share(value: float | None) -> str:
    return numbers.MISSING if value is None else numbers.percent(value)
