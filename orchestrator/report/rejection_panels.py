"""One panel of a rejection figure each: score densities, ROC curves, a heat map, a map of softmax outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orchestrator.report.outputs import PooledScores, Scores
from orchestrator.report.panels import INK, NEUTRAL
from orchestrator.report.protocol_panels import MATRIX_COLOURS, ON_DARK, ON_LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GRID = np.linspace(0.0, 1.0, 81) ** 2
"""False positive rates at which curves are averaged: denser where thresholds of practice lie."""
NEAR, FAR = "#E69F00", "#CC79A7"
"""Of OOD points in a map, the same for every arm."""
BINS = 40
CHANCE = 50.0
"""AUROC of guessing, in percent: whatever is lower has the darkest colour too."""


def draw_densities(panel: Axes, scores: PooledScores, near: Sequence[str], colour: str) -> None:
    """The scores of ID test images, and under them those of every OOD set, each on a line of its own.

    Args:
        near: the sets that are near OOD; the others are far.
    """
    everything = np.concatenate([values for several in scores.by_set.values() for values in several])
    low, high = (float(value) for value in np.percentile(everything, [0.1, 99.9]))
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, BINS + 1)
    names = list(scores.by_set)
    for place, name in enumerate(names):
        density = _density(np.concatenate(scores.by_set[name]), edges)
        top = float(density.max()) or 1.0
        base = float(len(names) - 1 - place)
        fill, alpha = (colour, 0.6) if name == "id_test" else (NEUTRAL, 0.8 if name in near else 0.45)
        panel.stairs(
            base + 0.86 * density / top, edges, baseline=base, fill=True, color=fill, alpha=alpha, linewidth=0
        )
        panel.axhline(base, color=NEUTRAL, linewidth=0.6, alpha=0.6)
    threshold = float(np.percentile(scores.id_test, 5))
    panel.axvline(threshold, color=INK, linestyle=":", linewidth=1.1)
    panel.set_yticks([len(names) - 1 - p + 0.3 for p in range(len(names))], _set_labels(names))
    panel.tick_params(axis="y", length=0, labelsize=8)
    panel.spines["left"].set_visible(False)
    panel.set_ylim(-0.05, len(names))
    panel.set_xlim(low, high)
    panel.grid(visible=False)


def roc_curve(accepted: Scores, rejected: Scores) -> Scores:
    """The share of ``accepted`` (ID) that is accepted where shares ``GRID`` of ``rejected`` (OOD) are too.

    Straight between thresholds, so that the area under it counts ties as one half.
    """
    thresholds = np.unique(np.concatenate([accepted, rejected]))[::-1]
    positive, negative = np.sort(accepted), np.sort(rejected)
    true = 1 - np.searchsorted(positive, thresholds, side="left") / len(positive)
    false = 1 - np.searchsorted(negative, thresholds, side="left") / len(negative)
    true, false = np.concatenate([[0.0], true]), np.concatenate([[0.0], false])
    # At one share of OOD the highest share of ID counts.
    last = np.append(np.diff(false) > 0, True)
    first = np.insert(np.diff(false) > 0, 0, True)
    kept = last | first
    return np.asarray(_upper_interp(GRID, false[kept], true[kept]), dtype=np.float64)


def _upper_interp(at: Scores, x: Scores, y: Scores) -> Scores:
    """Linear interpolation; where ``x`` repeats, the last (highest) value counts."""
    place = np.searchsorted(x, at, side="right") - 1
    after = np.minimum(place + 1, len(x) - 1)
    gap = x[after] - x[place]
    share = np.divide(at - x[place], gap, out=np.zeros_like(at), where=gap > 0)
    return np.asarray(y[place] + share * (y[after] - y[place]), dtype=np.float64)


def draw_roc(
    panel: Axes, curves: Mapping[str, Scores], colours: Mapping[str, str], lines: Mapping[str, str]
) -> None:
    """A line for each arm: mean over the seeds, in percent."""
    panel.axhline(95, color=NEUTRAL, linewidth=0.9, linestyle=":")
    for arm, curve in curves.items():
        panel.plot(
            100 * GRID, 100 * curve, color=colours[arm], linestyle=lines[arm], linewidth=1.5, label=arm
        )
    panel.set_xlim(0, 100)
    panel.set_ylim(0, 101)


def draw_heat(panel: Axes, values: NDArray[np.float64], rows: Sequence[str], columns: Sequence[str]) -> None:
    """A cell for each pair, its number in it; what was not measured stays empty.

    Args:
        values: [rows, columns], in percent, NaN where not measured.
    """
    known = values[np.isfinite(values)]
    low, high = float(known.min()), float(known.max())
    if high > CHANCE:
        # One score that fails entirely would leave the others a single colour.
        low = max(low, CHANCE)
    if high - low < 1:
        low, high = low - 0.5, high + 0.5
    panel.pcolormesh(
        np.arange(len(columns) + 1),
        np.arange(len(rows) + 1),
        np.ma.masked_invalid(values),
        cmap=MATRIX_COLOURS,
        vmin=low,
        vmax=high,
        zorder=2,
    )
    for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True):
        bright = (values[i, j] - low) / (high - low) > 0.55
        panel.text(
            j + 0.5,
            i + 0.5,
            f"{values[i, j]:.1f}",
            ha="center",
            va="center",
            color=ON_LIGHT if bright else ON_DARK,
            fontsize=8,
            zorder=3,
        )
    panel.set_ylim(len(rows), 0)
    panel.set_yticks(np.arange(len(rows)) + 0.5, list(rows))
    panel.set_xticks(
        np.arange(len(columns)) + 0.5, list(columns), rotation=40, ha="right", rotation_mode="anchor"
    )
    panel.tick_params(length=0)
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)


def simplex_map(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax outputs [images, classes] as points of the plane [images, 2].

    Class c stands at angle pi / 2 + 2 pi c / classes on the unit circle, and a point is the mean of the
    classes' places weighted by their probabilities: sure outputs lie at a corner, unsure ones further inside.
    """
    angles = 2 * math.pi * np.arange(probabilities.shape[1]) / probabilities.shape[1] + math.pi / 2
    corners = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.asarray(probabilities @ corners, dtype=np.float64)


def draw_map(panel: Axes, points: Mapping[str, tuple[NDArray[np.float64], str]], classes: int) -> None:
    """Points of :func:`simplex_map` by kind, each with its colour; the corners are numbered.

    Args:
        points: by label, in the order of drawing.
    """
    corners = simplex_map(np.eye(classes))
    closed = np.vstack([corners, corners[:1]])
    panel.plot(closed[:, 0], closed[:, 1], color=NEUTRAL, linewidth=0.8, zorder=1)
    for place, (x, y) in enumerate(corners):
        panel.text(1.13 * x, 1.13 * y, str(place), ha="center", va="center", fontsize=8)
    for label, (at, colour) in points.items():
        # As pixels: thousands of marks would make the page slow.
        panel.scatter(at[:, 0], at[:, 1], s=9, color=colour, alpha=0.55, linewidths=0, rasterized=True)
        panel.scatter([], [], s=36, color=colour, linewidths=0, label=label)
    panel.set_xlim(-1.25, 1.25)
    panel.set_ylim(-1.25, 1.25)
    panel.set_aspect("equal")
    panel.set_axis_off()


def _set_labels(names: Sequence[str]) -> list[str]:
    return ["ID test" if name == "id_test" else name for name in names]


def _density(values: Scores, edges: Scores) -> Scores:
    counts, _ = np.histogram(values, edges)
    return counts / (max(len(values), 1) * np.diff(edges))
