"""One panel of a figure each: a search, a reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.campaign.record import ArmRecord, TrialRecord
from orchestrator.report.bookkeeping import last_metrics
from orchestrator.report.outputs import PooledReliability
from workloads.catalogue import Term, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

INK = "#1b1f23"
"""Text, axes and rings; on an HTML page it becomes the page's own text colour."""
NEUTRAL = "#6b7280"
"""A grey that reads on white and on black."""
EDGE = 4.0
"""How far beyond 0 and 100 % an axis reaches: failed trials stand at the bad end."""
LOG_SPAN = 20.0
"""A grid of positive values that spans more than this is drawn on a logarithmic axis."""


@dataclass(frozen=True)
class SearchMeasure:
    """What the search saw of a trial, a share in 0..1."""

    name: str
    label: str
    lower: bool
    """Whether lower is better."""


OBJECTIVE = SearchMeasure("noise/fpr95", "noise FPR95 (%)", lower=True)


def search_measures(bins: int) -> tuple[SearchMeasure, ...]:
    """What is drawn of a search: the objective first, and what a choice by it may cost.

    Args:
        bins: of the expected calibration error.
    """
    return (
        OBJECTIVE,
        SearchMeasure("validation/accuracy", "validation accuracy (%)", lower=False),
        SearchMeasure(f"validation/ece_{bins}", "validation ECE (%)", lower=True),
    )


def draw_search(
    panel: Axes,
    arm: ArmRecord,
    name: str,
    term: Term,
    colour: str,
    measure: SearchMeasure = OBJECTIVE,
) -> None:
    """One searched parameter against a measure (%) of every search trial."""
    place, lowest = _scale(panel, term), _lowest(arm, measure)
    drawn: dict[str, list[tuple[float, float]]] = {"complete": [], "pruned": [], "running": [], "failed": []}
    ringed: list[tuple[float, float]] = []
    for configuration in arm.configurations:
        if name not in configuration.params:
            continue
        x = place(configuration.params[name])
        for trial in configuration.trials.values():
            y = _height(trial, measure, lowest)
            if y is None:
                continue
            drawn[trial.state].append((x, y))
            if configuration.number == arm.selected:
                ringed.append((x, y))
    marks: dict[str, dict[str, Any]] = {
        "complete": {"marker": "o", "s": 26, "color": colour, "alpha": 0.8, "linewidths": 0},
        "pruned": {"marker": "x", "s": 30, "color": colour, "alpha": 0.75, "linewidths": 1.3},
        "running": {"marker": "o", "s": 24, "facecolors": "none", "edgecolors": colour, "linewidths": 1.0},
        "failed": {"marker": "v", "s": 34, "color": NEUTRAL, "linewidths": 0},
    }
    for state, points in drawn.items():
        if points:
            panel.scatter(
                [x for x, _ in points],
                [y for _, y in points],
                label=state,
                clip_on=False,
                zorder=3,
                **marks[state],
            )
    if ringed:
        panel.scatter(
            [x for x, _ in ringed],
            [y for _, y in ringed],
            s=110,
            marker="o",
            facecolors="none",
            edgecolors=INK,
            linewidths=1.4,
            label="chosen",
            clip_on=False,
            zorder=4,
        )
    panel.set_ylim(lowest - EDGE, 100 + EDGE)
    if measure.lower:
        panel.set_yticks([0, 25, 50, 75, 100])
    panel.set_xlabel(name)


def draw_reliability(panel: Axes, bins: PooledReliability, colour: str) -> None:
    """Accuracy against confidence, before and after temperature scaling."""
    panel.plot([0, 1], [0, 1], color=NEUTRAL, linewidth=0.9, linestyle=":", label="calibrated")
    before, after = bins.before, bins.after
    panel.plot(before.confidence, before.accuracy, color=NEUTRAL, linewidth=1.2, linestyle="--")
    panel.plot(after.confidence, after.accuracy, color=colour, linewidth=1.6)
    for curve, shade, label in ((before, NEUTRAL, "before"), (after, colour, "after temperature scaling")):
        size = 12 + 70 * curve.count / curve.count.max() if len(curve.count) else 12.0
        panel.scatter(
            curve.confidence, curve.accuracy, s=size, color=shade, linewidths=0, label=label, zorder=3
        )
    panel.set_xlim(0, 1.02)
    panel.set_ylim(0, 1.02)
    panel.set_aspect("equal")


def empty_panel(panel: Axes, message: str) -> None:
    """Says why there is nothing to see."""
    panel.set_axis_off()
    panel.text(0.5, 0.5, message, ha="center", va="center", transform=panel.transAxes)


def _scale(panel: Axes, term: Term) -> Callable[[Value], float]:
    """Prepare the horizontal axis for a term; where a value lies on it."""
    from matplotlib.ticker import MaxNLocator

    values = [value for value in term.values if not isinstance(value, bool | str)]
    if len(values) < len(term.values):
        names = [str(value) for value in term.values]
        panel.set_xticks(range(len(names)), names)
        panel.set_xlim(-0.5, len(names) - 0.5)
        return lambda value: float(names.index(str(value)))
    low, high = float(min(values)), float(max(values))
    if term.kind == "log_uniform" or (term.kind != "uniform" and low > 0 and high > LOG_SPAN * low):
        panel.set_xscale("log")
        margin = (high / low) ** 0.04
        panel.set_xlim(low / margin, high * margin)
        plain_decades(panel.xaxis, high / low)
    elif high > low:
        if term.kind == "int_uniform":
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    return float


def plain_decades(axis: Axis, span: float) -> None:
    """Label a logarithmic axis with plain numbers, and with 2 and 5 as well where it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1.0,) if span > 500 else (1.0, 3.0) if span > 60 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _lowest(arm: ArmRecord, measure: SearchMeasure) -> float:
    """Where the axis begins, in percent: a rate's at 0, an accuracy's below the lowest one."""
    found = [last_metrics(t).get(measure.name, math.nan) for t in arm.search_trials if t.state != "failed"]
    low = min((100 * value for value in found if math.isfinite(value)), default=0.0)
    return 0.0 if measure.lower else max(0.0, 10 * math.floor((low - EDGE) / 10))


def _height(trial: TrialRecord, measure: SearchMeasure, lowest: float) -> float | None:
    if trial.state == "failed":
        return 100 + EDGE if measure.lower else lowest - EDGE
    value = last_metrics(trial).get(measure.name, math.nan)
    return 100 * value if math.isfinite(value) else None
