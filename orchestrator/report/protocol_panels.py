"""One panel of a protocol's figure each: an accuracy matrix, accuracy curves, recalls, an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.panels import INK, NEUTRAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MATRIX_COLOURS = "viridis"
"""Even steps look even, also to colour-blind readers and in grey."""
ON_DARK, ON_LIGHT = "#fefefe", "#101214"
"""Numbers inside cells; unlike text elsewhere they must not follow the page's colours."""
MOST_NUMBERS = 12
"""A matrix of more tasks shows colours only."""
MOST_LABELS = 12
"""Of the classes under bars; of more, some are left out."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A line with its band, [tasks]; where it ends if all tasks are learned at once, if that is known."""

    label: str
    colour: str
    line: str
    mean: Floats
    std: Floats
    joint: float | None = None


def draw_matrix(panel: Axes, mean: Floats) -> None:
    """Accuracy in % on each task (across) after each task (down); what was not measured stays empty."""
    steps, tasks = mean.shape
    shown = np.ma.masked_invalid(100 * mean)
    panel.pcolormesh(
        np.arange(tasks + 1), np.arange(steps + 1), shown, cmap=MATRIX_COLOURS, vmin=0, vmax=100, zorder=2
    )
    if tasks <= MOST_NUMBERS:
        for i, j in zip(*np.nonzero(~np.isnan(mean)), strict=True):
            colour = ON_LIGHT if mean[i, j] > 0.55 else ON_DARK
            panel.text(
                j + 0.5,
                i + 0.5,
                f"{100 * mean[i, j]:.0f}",
                ha="center",
                va="center",
                color=colour,
                fontsize=8,
                zorder=3,
            )
    panel.set_ylim(steps, 0)
    panel.set_aspect("equal")
    every = -(-tasks // MOST_NUMBERS)
    places = np.arange(0, tasks, every)
    panel.set_xticks(places + 0.5, [str(place + 1) for place in places])
    if steps == 1:
        panel.set_yticks([0.5], ["all"])
    else:
        panel.set_yticks(places + 0.5, [str(place + 1) for place in places])
    panel.tick_params(length=0)
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)


def draw_curves(panel: Axes, curves: Sequence[Curve], lowest: float) -> None:
    """Average accuracy (%) on the tasks so far, after each task.

    Args:
        lowest: where the axis begins, in percent.
    """
    for curve in curves:
        steps = np.arange(1, len(curve.mean) + 1)
        mean, std = 100 * curve.mean, 100 * curve.std
        panel.fill_between(steps, mean - std, mean + std, color=curve.colour, alpha=0.16, linewidth=0)
        panel.plot(
            steps,
            mean,
            color=curve.colour,
            linestyle=curve.line,
            linewidth=1.6,
            marker="o",
            markersize=3.2,
            label=curve.label,
        )
        if curve.joint is not None:
            panel.plot(
                [steps[-1] + 0.28],
                [100 * curve.joint],
                color=curve.colour,
                marker="_",
                markersize=10,
                markeredgewidth=1.8,
                linestyle="none",
                clip_on=False,
            )
    tasks = max(len(curve.mean) for curve in curves)
    panel.set_xticks(np.arange(1, tasks + 1, -(-tasks // MOST_NUMBERS)))
    panel.set_xlim(0.8, tasks + 0.4)
    panel.set_ylim(lowest, 100 + 0.03 * (100 - lowest))


def draw_recalls(
    panel: Axes, recalls: Mapping[int, Sequence[float]], images: Mapping[int, float], colour: str
) -> None:
    """Recall (%) of each class over the seeds, the class of most training images first.

    Args:
        recalls: by class index, a value a seed; a class without test images is absent.
        images: training images, by class index.
    """
    ordered = sorted(images, key=lambda c: (-images[c], c))
    for place, c in enumerate(ordered):
        found = 100 * np.asarray(recalls.get(c, ()), dtype=np.float64)
        if not found.size:
            continue
        panel.bar(place, found.mean(), width=0.78, color=colour, alpha=0.75, linewidth=0)
        if found.size > 1:
            std = float(found.std(ddof=1))
            panel.errorbar(place, found.mean(), yerr=std, color=INK, linewidth=1.0, capsize=2)
    every = -(-len(ordered) // MOST_LABELS)
    shown = range(0, len(ordered), every)
    panel.set_xticks(list(shown), [f"{ordered[i]}\n{images[ordered[i]]:.0f}" for i in shown])
    panel.tick_params(axis="x", length=0, labelsize=8)
    panel.set_ylim(0, 103)
    panel.grid(visible=False, axis="x")


def draw_axis(
    panel: Axes, values: Mapping[str, Sequence[float]], colours: Mapping[str, str], *, lower: bool
) -> None:
    """Arms from top to bottom: a thin mark for each seed, the mean as a dot, ± standard deviation as a bar.

    Args:
        values: by arm, as they are shown; an arm without any has an empty line.
        lower: whether lower is better.
    """
    for place, (arm, several) in enumerate(values.items()):
        found = np.asarray(several, dtype=np.float64)
        if not found.size:
            continue
        mean = float(found.mean())
        if found.size > 1:
            std = float(found.std(ddof=1))
            panel.plot(
                [mean - std, mean + std],
                [place, place],
                color=colours[arm],
                linewidth=5,
                alpha=0.35,
                solid_capstyle="butt",
            )
        panel.scatter(found, [place] * found.size, marker="|", s=70, color=NEUTRAL, linewidths=1.0, zorder=3)
        panel.scatter([mean], [place], s=34, color=colours[arm], linewidths=0, zorder=4)
    panel.set_yticks(range(len(values)), list(values))
    panel.set_ylim(len(values) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.set_xlabel("← better" if lower else "better →")
