"""One panel of a figure each: a search, a score histogram, a reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.campaign.record import ArmRecord, TrialRecord
from orchestrator.report.bookkeeping import last_metrics
from orchestrator.report.outputs import PooledReliability, PooledScores, Scores
from workloads.catalogue import Term, Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#1b1f23"
"""Text, axes and rings; on an HTML page it becomes the page's own text colour."""
NEUTRAL = "#6b7280"
"""A grey that reads on white and on black."""
TOP = 104.0
"""Where failed trials stand, in percent: above every FPR95."""
LOG_SPAN = 20.0
"""A grid of positive values that spans more than this is drawn on a logarithmic axis."""


def draw_search(panel: Axes, arm: ArmRecord, name: str, term: Term, colour: str) -> None:
    """One searched parameter against the noise FPR95 (%) of every search trial."""
    place = _scale(panel, term)
    drawn: dict[str, list[tuple[float, float]]] = {"complete": [], "pruned": [], "running": [], "failed": []}
    ringed: list[tuple[float, float]] = []
    for configuration in arm.configurations:
        if name not in configuration.params:
            continue
        x = place(configuration.params[name])
        for trial in configuration.trials.values():
            y = _height(trial)
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
    panel.set_ylim(-4, TOP)
    panel.set_yticks([0, 25, 50, 75, 100])
    panel.set_xlabel(name)


def draw_histogram(panel: Axes, scores: PooledScores, colour: str) -> None:
    """Densities of the ID test scores (filled) against near and far OOD (lines)."""
    everything = np.concatenate([scores.id_test, scores.near, scores.far])
    low, high = (float(value) for value in np.percentile(everything, [0.1, 99.9]))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, 41)
    panel.stairs(_density(scores.id_test, edges), edges, fill=True, color=colour, alpha=0.55, label="ID test")
    for values, label, line in ((scores.near, "near OOD", "-"), (scores.far, "far OOD", "--")):
        if len(values):
            panel.stairs(
                _density(values, edges),
                edges,
                color=INK if line == "-" else NEUTRAL,
                linestyle=line,
                linewidth=1.4,
                label=label,
            )
    threshold = float(np.percentile(scores.id_test, 5))
    panel.axvline(threshold, color=INK, linestyle=":", linewidth=1.1, label="accepts 95 % of ID")
    panel.set_yticks([])
    panel.spines["left"].set_visible(False)
    panel.set_xlim(low, high)
    panel.grid(visible=False)


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
        _plain_decades(panel, high / low)
    elif high > low:
        if term.kind == "int_uniform":
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
    return float


def _plain_decades(panel: Axes, span: float) -> None:
    """Label a logarithmic axis with plain numbers, and with 2 and 5 as well where it spans little."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    subs = (1.0,) if span > 500 else (1.0, 3.0) if span > 60 else (1.0, 2.0, 5.0)
    panel.xaxis.set_major_locator(LogLocator(subs=subs))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _height(trial: TrialRecord) -> float | None:
    if trial.state == "failed":
        return TOP
    value = last_metrics(trial).get("noise/fpr95", math.nan)
    return 100 * value if math.isfinite(value) else None


def _density(values: Scores, edges: Scores) -> Scores:
    counts, _ = np.histogram(values, edges)
    return counts / (max(len(values), 1) * np.diff(edges))
