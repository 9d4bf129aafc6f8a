"""Every arm on every axis of a study with several protocols: does one loss win everywhere?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Table
from orchestrator.report.comparison import ordered_arms
from orchestrator.report.measured import measured_cell, metric_column, values
from orchestrator.report.metric import Metric
from orchestrator.report.metrics import headings, headline_names, sides
from orchestrator.report.readings import describe
from orchestrator.report.statistics import summarise
from orchestrator.study.metric_names import resolve
from orchestrator.study.regimes import full_name
from orchestrator.study.spec import StudySpec

TIED = 12
"""Decimals to which equal means are equal: a mean over seeds may differ in its last digits."""


@dataclass(frozen=True)
class AxisColumn:
    """One metric of an axis; the metrics of an axis share its weight."""

    axis: str
    metric: Metric
    regime: str


def axis_columns(spec: StudySpec, record: StudyRecord) -> list[AxisColumn]:
    """What any arm has a value of; empty for a study without the standard protocol and another one."""
    standard, *others = headings(spec)
    if standard.name != "standard" or not others:
        return []
    bins = spec.evaluation.calibration.bins
    names = {
        "accuracy": ["test/accuracy"],
        "OOD": [resolve(f"ood/{side}/auroc", spec) for side in sides(spec)],
        "calibration": [f"calibration/ece_{bins}_ts"],
    }
    every = [(axis, name, standard.name) for axis, several in names.items() for name in several]
    for regime in others:
        axis = "long-tailed" if regime.long_tailed is not None else "continual"
        every += [(axis, full_name(regime.name, name, spec), regime.name) for name in headline_names(regime)]
    return [
        AxisColumn(axis, _short(describe(name, spec.evaluation.headline)), regime)
        for axis, name, regime in every
        if any(values(spec, record, arm, name) for arm in spec.arms)
    ]


def axes_table(spec: StudySpec, record: StudyRecord) -> Table:
    """An arm a row, with its mean rank over the axes; without rows where there is one axis only."""
    columns = axis_columns(spec, record)
    ranked = mean_ranks(spec, record, columns)
    rows = [
        (
            Cell(arm),
            *(measured_cell(spec, record, arm, column.metric) for column in columns),
            Cell(numbers.fixed(ranked[arm], 2)),
        )
        for arm in ordered_arms(spec)
    ]
    heads = [
        replace(metric_column(c.metric), group=c.regime, label=c.metric.title.removesuffix(c.metric.place))
        for c in columns
    ]
    table_columns = (Column("arm"), *heads, Column("mean rank", numeric=True, name="mean_rank"))
    several = len({column.regime for column in columns}) > 1
    return Table("All axes", table_columns, tuple(rows) if several else (), _notes(spec, record, columns))


def ranks(means: Mapping[str, float], *, lower: bool) -> dict[str, float]:
    """1 for the best; equal means share the mean of their ranks.

    Args:
        means: by arm.
        lower: whether lower is better.
    """
    rounded = {arm: round(mean if lower else -mean, TIED) for arm, mean in means.items()}
    ordered = sorted(rounded.values())
    return {arm: ordered.index(value) + (ordered.count(value) + 1) / 2 for arm, value in rounded.items()}


def mean_ranks(
    spec: StudySpec, record: StudyRecord, columns: Sequence[AxisColumn]
) -> dict[str, float | None]:
    """By arm, the mean over the axes of the mean rank in an axis's columns; None where one has no value."""
    axes = axis_ranks(spec, record, columns, tuple(spec.arms))
    return {
        arm: fmean(ranked[arm] for ranked in axes.values())
        if axes and all(arm in ranked for ranked in axes.values())
        else None
        for arm in spec.arms
    }


def axis_ranks(
    spec: StudySpec, record: StudyRecord, columns: Sequence[AxisColumn], arms: Sequence[str]
) -> dict[str, dict[str, float]]:
    """By axis and arm, the mean over the axis's columns of the rank among ``arms``; an arm that lacks a value
    in one of them has none."""
    axes: dict[str, list[dict[str, float]]] = {}
    for column in columns:
        means = {arm: mean for arm, mean in _means(spec, record, column).items() if arm in arms}
        axes.setdefault(column.axis, []).append(ranks(means, lower=column.metric.better == "lower"))
    return {
        axis: {
            arm: fmean(each[arm] for each in several) for arm in arms if all(arm in each for each in several)
        }
        for axis, several in axes.items()
    }


def _means(spec: StudySpec, record: StudyRecord, column: AxisColumn) -> dict[str, float]:
    found = {
        arm: summarise(list(values(spec, record, arm, column.metric.name).values())).mean
        for arm in ordered_arms(spec)
    }
    return {arm: mean for arm, mean in found.items() if mean is not None}


def _notes(spec: StudySpec, record: StudyRecord, columns: Sequence[AxisColumn]) -> tuple[str, ...]:
    if not columns:
        return ()
    best: dict[tuple[str, ...], list[str]] = {}
    for column in columns:
        found = ranks(_means(spec, record, column), lower=column.metric.better == "lower")
        first = tuple(arm for arm in found if found[arm] == min(found.values()))
        best.setdefault(first, []).append(_named(column))
    told = "; ".join(f"{' and '.join(arms)} in {', '.join(names)}" for arms, names in best.items())
    everywhere = [arm for arm in ordered_arms(spec) if all(arm in arms for arms in best)]
    verdict = (
        f"The best mean in every column: {' and '.join(everywhere)}."
        if everywhere
        else f"No arm has the best mean in every column: {told}."
    )
    axes = {axis: [c for c in columns if c.axis == axis] for axis in dict.fromkeys(c.axis for c in columns)}
    shared = [axis for axis, several in axes.items() if len(several) > 1]
    halves = f" ({' and '.join(shared)}: the mean rank of its two columns)" if shared else ""
    return (
        verdict,
        f"Mean rank, 1 is best: over {numbers.counted(len(axes), 'axis', 'axes')} of equal weight, "
        f"{', '.join(axes)}{halves}; equal means share their ranks, and an arm without a value has none.",
        "Ranks are of means over the seeds: neighbours may not be distinguishable, which only the paired "
        "comparison tells. In percent.",
    )


def _named(column: AxisColumn) -> str:
    title = column.metric.title.removesuffix(column.metric.place)
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def _short(metric: Metric) -> Metric:
    """The scenario stands in the regime's settings; here it would widen the column."""
    return replace(metric, label="") if metric.group in ("ACC", "forgetting") else metric
