"""The figures of training itself: logit norms over the epochs, and what the pruner cut."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from orchestrator.campaign.record import ArmRecord, StudyRecord
from orchestrator.report import numbers
from orchestrator.report.canvas import (
    COLUMNS,
    Drawing,
    arm_colour,
    arm_line,
    drawn,
    grid_of_panels,
    legend_below,
)
from orchestrator.report.comparison import arm_record, confirm_trials, ordered_arms
from orchestrator.report.panels import INK, NEUTRAL, plain_decades
from orchestrator.study.spec import StudySpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NORMS = {"validation/logit_norm": "validation images (ID)", "noise/logit_norm": "Gaussian noise"}
WIDE = 8.0
"""A range of positive values whose ends differ by more than this factor is drawn on a logarithmic axis."""


def norm_figure(spec: StudySpec, record: StudyRecord) -> Drawing | None:
    """The mean length of the logits over the epochs, of ID images and of noise."""
    found = {name: {arm: _by_epoch(spec, record, arm, name) for arm in ordered_arms(spec)} for name in NORMS}
    found = {name: {a: each for a, each in arms.items() if len(each) > 1} for name, arms in found.items()}
    found = {name: arms for name, arms in found.items() if arms}
    if not found:
        return None
    figure, panels = grid_of_panels(len(found))
    every = [
        v for arms in found.values() for each in arms.values() for several in each.values() for v in several
    ]
    low, high = min(every), max(every)
    for panel, (name, arms) in zip(panels, found.items(), strict=True):
        panel.set_title(NORMS[name])
        for arm, each in arms.items():
            _draw_norms(panel, each, arm, arm_colour(spec, arm), arm_line(spec, arm))
        if low > 0 and high > WIDE * low:
            panel.set_yscale("log")
            plain_decades(panel.yaxis, high / low)
            panel.set_ylim(0.9 * low, 1.1 * high)
        else:
            panel.set_ylim(min(0.0, low), 1.05 * high)
        panel.set_xlabel("epoch")
        if panel is panels[0]:
            panel.set_ylabel("mean length of the logits")
    legend_below(figure, panels)
    return drawn(
        figure,
        "logit-norm",
        "Length of the logits while training",
        "Confirm trials; mean over the seeds, band from the lowest to the highest seed. The same range in "
        "both panels. What grows without end on training images also grows on inputs that mean nothing.",
    )


def pruning_figure(spec: StudySpec, record: StudyRecord) -> Drawing | None:
    """How many search trials were still training at each epoch, an arm a panel."""
    curves = {
        arm: curve
        for arm in ordered_arms(spec)
        if (curve := still_training(arm_record(record, arm), len(spec.search.seeds), spec.training.epochs))
    }
    if not any(curve[0] > curve[-1] for curve in curves.values()):
        return None
    figure, panels = grid_of_panels(len(curves))
    for index, (panel, (arm, curve)) in enumerate(zip(panels, curves.items(), strict=True)):
        saved = 1 - sum(curve[1:]) / (curve[0] * (len(curve) - 1))
        panel.set_title(f"{arm}: {numbers.percent(saved, 0)} of epochs saved")
        _draw_pruning(panel, curve, arm_colour(spec, arm))
        panel.set_xlabel("epoch")
        if index % COLUMNS == 0:
            panel.set_ylabel("search trials in training")
    return drawn(
        figure,
        "pruning",
        "Pruning: what was cut when, and what it saved",
        "Filled: trials that trained in each epoch; grey: trials that would have, had nothing been cut, "
        "seeds that a pruned configuration no longer got among them. Each step down is a decision of the "
        "pruner, or a failure.",
    )


def still_training(arm: ArmRecord, seeds: int, epochs: int) -> list[int]:
    """How many of the arm's planned search trials trained in epoch 0 (all of them), 1, 2 ... ``epochs``.

    Configurations that are still running do not count; empty where there is no other.
    """
    settled = [c for c in arm.configurations if c.state != "running"]
    lengths = [
        epochs if trial.state == "complete" else max(trial.reports, default=0)
        for configuration in settled
        for trial in configuration.trials.values()
    ]
    # A configuration that failed got no further seeds either.
    return (
        [seeds * len(settled), *(sum(n >= e for n in lengths) for e in range(1, epochs + 1))]
        if settled
        else []
    )


def _by_epoch(spec: StudySpec, record: StudyRecord, arm: str, name: str) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for trial in confirm_trials(spec, record, arm).values():
        if trial.state == "complete":
            for epoch, metrics in trial.reports.items():
                if math.isfinite(metrics.get(name, math.nan)):
                    found.setdefault(epoch, []).append(metrics[name])
    return dict(sorted(found.items()))


def _draw_norms(panel: Axes, by_epoch: dict[int, list[float]], arm: str, colour: str, line: str) -> None:
    epochs = list(by_epoch)
    panel.fill_between(
        epochs,
        [min(v) for v in by_epoch.values()],
        [max(v) for v in by_epoch.values()],
        color=colour,
        alpha=0.15,
        lw=0,
    )
    means = [float(np.mean(v)) for v in by_epoch.values()]
    panel.plot(epochs, means, color=colour, linestyle=line, linewidth=1.6, label=arm)


def _draw_pruning(panel: Axes, curve: list[int], colour: str) -> None:
    from matplotlib.ticker import MaxNLocator

    edges = np.arange(len(curve))
    trained = np.asarray(curve[1:], dtype=np.float64)
    panel.stairs(np.full(len(trained), curve[0]), edges, fill=True, color=NEUTRAL, alpha=0.22, linewidth=0)
    panel.stairs(trained, edges, fill=True, color=colour, alpha=0.6, linewidth=0)
    panel.stairs(trained, edges, color=INK, linewidth=1.0, baseline=None)
    panel.set_xlim(0, len(trained))
    panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    panel.set_ylim(0, 1.05 * curve[0])
