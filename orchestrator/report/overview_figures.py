"""The figures that show all arms in all respects: axes, Pareto fronts, mean ranks."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.axes import axis_columns, axis_ranks, mean_ranks
from orchestrator.report.canvas import (
    COLUMNS,
    Drawing,
    arm_colour,
    drawn,
    grid_of_panels,
    legend_below,
)
from orchestrator.report.comparison import ordered_arms
from orchestrator.report.measured import values
from orchestrator.report.metric import Metric
from orchestrator.report.metrics import headings, headline_names, reading, sides
from orchestrator.report.overview_panels import Point, draw_front, draw_ranks
from orchestrator.report.protocol_panels import draw_axis
from orchestrator.report.ranking import cliques, critical_difference, friedman_p
from orchestrator.report.statistics import Summary, summarise
from orchestrator.study.metric_names import resolve
from orchestrator.study.regimes import full_name
from orchestrator.study.spec import StudySpec

MOST_RESPECTS = 5
FEWEST_RANKED = 3
"""Arms and axes, of a diagram of mean ranks."""


def axes_figure(spec: StudySpec, record: StudyRecord) -> Drawing | None:
    """Every metric of every axis, an arm a line."""
    columns = axis_columns(spec, record)
    if len({column.regime for column in columns}) < 2:
        return None
    arms = ordered_arms(spec)
    figure, panels = grid_of_panels(len(columns), height=0.95 + 0.26 * len(arms))
    colours = {arm: arm_colour(spec, arm) for arm in arms}
    for index, (panel, column) in enumerate(zip(panels, columns, strict=True)):
        metric = column.metric
        found = {arm: values(spec, record, arm, metric.name).values() for arm in arms}
        shown = {arm: [metric.scale * v for v in each if math.isfinite(v)] for arm, each in found.items()}
        draw_axis(panel, shown, colours, lower=metric.better == "lower")
        if index % COLUMNS:
            panel.tick_params(labelleft=False)
        panel.set_title(f"{metric.title.removesuffix(metric.place)} (%)\n{column.regime}", fontsize=10)
    return drawn(
        figure,
        "all-axes",
        "All axes: every arm in every respect",
        "A dot is the mean over the confirm seeds, the bar ± their standard deviation, a thin mark one seed; "
        "in percent. Ranges differ between the panels.",
    )


def pareto_figure(spec: StudySpec, record: StudyRecord) -> Drawing | None:
    """Every pair of the study's main respects, arms as dots, the front as a line."""
    found = {metric: _summaries(spec, record, metric) for metric in _respects(spec)}
    metrics = [metric for metric, arms in found.items() if len(arms) > 1][:MOST_RESPECTS]
    pairs = [
        (one, other)
        for one, other in combinations(metrics, 2)
        if len(found[one].keys() & found[other].keys()) > 1
    ]
    if not pairs:
        return None
    figure, panels = grid_of_panels(len(pairs), height=3.1)
    colours = {arm: arm_colour(spec, arm) for arm in spec.arms}
    for panel, (one, other) in zip(panels, pairs, strict=True):
        points: dict[str, Point] = {
            arm: (found[one][arm], found[other][arm])
            for arm in ordered_arms(spec)
            if arm in found[one] and arm in found[other]
        }
        draw_front(panel, points, colours, (one.better == "lower", other.better == "lower"))
        panel.set_xlabel(_axis_label(one))
        panel.set_ylabel(_axis_label(other))
    legend_below(figure, panels)
    return drawn(
        figure,
        "pareto",
        "Pareto fronts: what is paid for what",
        "Means over the confirm seeds, crosses ± standard deviation; in percent, better is up and to the "
        "right. Filled dots, joined by the dashed line, are on the front: no other arm is at least as good "
        "in both respects. The front is of means: a neighbour within the crosses may lie on it with other "
        "seeds.",
    )


def ranks_figure(spec: StudySpec, record: StudyRecord) -> Drawing | None:
    """A critical-difference diagram of the mean ranks over all axes."""
    columns = axis_columns(spec, record)
    complete = [arm for arm, rank in mean_ranks(spec, record, columns).items() if rank is not None]
    by_axis = axis_ranks(spec, record, columns, complete)
    if len(complete) < FEWEST_RANKED or len(by_axis) < FEWEST_RANKED:
        return None
    table = np.asarray([[ranked[arm] for arm in complete] for ranked in by_axis.values()])
    order = np.argsort(table.mean(axis=0), kind="stable")
    ranked = [(complete[i], float(table[:, i].mean())) for i in order]
    confidence = spec.report.confidence
    difference = critical_difference(len(complete), len(by_axis), confidence)
    groups = cliques(np.asarray([rank for _, rank in ranked]), difference)
    half = -(-len(complete) // 2)
    figure, panels = grid_of_panels(1, height=1.3 + 0.3 * half + 0.14 * len(groups))
    figure.set_figwidth(8.0)
    draw_ranks(panels[0], ranked, {arm: arm_colour(spec, arm) for arm in complete}, difference, groups)
    absent = [arm for arm in ordered_arms(spec) if arm not in complete]
    without = f" Left out, as they lack a value: {', '.join(absent)}." if absent else ""
    return drawn(
        figure,
        "mean-ranks",
        "Mean ranks over all axes, with their critical difference",
        f"1 is best. Over {len(by_axis)} axes of equal weight ({', '.join(by_axis)}), with the ranks of the "
        f"means over the seeds. Friedman's test, by permutation: p {numbers.p_equals(friedman_p(table))}. "
        "Arms under one bar differ by less than Nemenyi's critical difference at "
        f"{numbers.percent(confidence)} and are not distinguishable by their ranks. {len(by_axis)} axes are "
        "few, and they are neither a sample of axes nor independent of each other, as they were measured of "
        "the same trials or of the same losses: read this as a summary, and differences in the paired "
        f"comparison.{without}",
    )


def _respects(spec: StudySpec) -> list[Metric]:
    """Accuracy, FPR95 of the first side, ECE, then what each further protocol comes to."""
    main, *others = headings(spec)
    names = []
    if main.continual is None:
        names.append("test/accuracy")
        if "ood" in spec.evaluation.measures:
            names += [resolve(f"ood/{side}/fpr95", spec) for side in list(sides(spec))[:1]]
        if "calibration" in spec.evaluation.measures:
            names.append(f"calibration/ece_{spec.evaluation.calibration.bins}")
    for regime in (main, *others):
        names += [full_name(regime.name, name, spec) for name in reversed(headline_names(regime))]
    return [reading(name, spec) for name in dict.fromkeys(names)]


def _summaries(spec: StudySpec, record: StudyRecord, metric: Metric) -> dict[str, Summary]:
    """By arm, in the units that are shown; without the arms that have no value."""
    found = {}
    for arm in spec.arms:
        each = [metric.scale * value for value in values(spec, record, arm, metric.name).values()]
        summary = summarise(each)
        if summary.mean is not None:
            found[arm] = summary
    return found


def _axis_label(metric: Metric) -> str:
    place = f"\n{metric.regime}" if metric.regime else ""
    return f"{metric.title.removesuffix(metric.place)} (%){place}"
