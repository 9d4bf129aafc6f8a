"""The figures of protocols: recalls of classes, accuracies along a stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.absent import Missing, left_out, not_drawn
from orchestrator.report.canvas import (
    COLUMNS,
    Drawing,
    arm_colour,
    arm_line,
    drawn,
    grid_of_panels,
    legend_below,
    slug,
)
from orchestrator.report.comparison import arm_record, confirm_trials, ordered_arms
from orchestrator.report.panels import empty_panel
from orchestrator.report.protocol_notes import class_values, train_counts
from orchestrator.report.protocol_panels import Curve, draw_curves, draw_matrix, draw_recalls
from orchestrator.report.rows import begun
from orchestrator.report.streams import SavedStreams, saved_streams
from orchestrator.study.regimes import Regime, regimes
from orchestrator.study.spec import StudySpec

Saved = dict[str, SavedStreams | tuple[int, ...]]
"""By arm: its matrices, or the seeds that should have some."""


Entry = tuple[str, str, Callable[[], Drawing | str | None]]
"""A figure's section and name, and what draws it."""


def protocol_figures(spec: StudySpec, record: StudyRecord, study_dir: Path) -> Iterator[Entry]:
    """For each entry of the study's protocols what its regimes have."""
    for entry, each in spec.protocols.items():
        those = [regime for regime in regimes(spec).values() if regime.entry == entry]
        shown = begun(spec, record, those)
        if each.protocol == "long_tailed":
            section = f"Long-tailed training{_entry(entry, each.protocol)}"
            for regime in shown:
                yield section, f"Recall, {regime.name}", partial(_recall_figure, spec, record, regime)
        elif each.protocol == "continual":
            section = f"Continual learning{_entry(entry, each.protocol)}"
            saved = {r.name: _saved(spec, record, study_dir, r) for r in shown}
            yield section, f"Curves, {entry}", partial(_curve_figure, spec, record, shown, saved)
            for regime in shown:
                draw = partial(_matrix_figure, spec, record, regime, saved[regime.name])
                yield section, f"Matrix, {regime.name}", draw


def _entry(entry: str, protocol: str) -> str:
    return "" if entry == protocol else f": {entry}"


def _recall_figure(spec: StudySpec, record: StudyRecord, regime: Regime) -> Drawing | None:
    counts = dict(enumerate(train_counts(spec, record, [regime])))
    if not counts:
        return None
    arms = ordered_arms(spec)
    figure, panels = grid_of_panels(len(arms))
    for index, (panel, arm) in enumerate(zip(panels, arms, strict=True)):
        panel.set_title(arm)
        complete = [
            trial
            for trial in confirm_trials(spec, record, arm, regime.name).values()
            if trial.state == "complete"
        ]
        if not complete:
            empty_panel(panel, _absent(record, arm, regime))
            continue
        recalls: dict[int, list[float]] = {}
        for trial in complete:
            for c, recall in class_values(trial.metrics, "recall").items():
                recalls.setdefault(c, []).append(recall)
        draw_recalls(panel, recalls, counts, arm_colour(spec, arm))
        if index % COLUMNS == 0:
            panel.set_ylabel("recall (%)")
    figure.supxlabel("class, and its training images below", fontsize=9)
    return drawn(
        figure,
        f"recall-{slug(regime.name)}",
        f"Recall of each class, {regime.name}",
        "Share of a class's test images that are recognised, mean over the confirm seeds with ± standard "
        "deviation; the class of most training images first.",
    )


def _curve_figure(
    spec: StudySpec, record: StudyRecord, shown: list[Regime], saved: dict[str, Saved]
) -> Drawing | None:
    drawable = [
        r
        for r in shown
        if r.variant != "joint" and any(isinstance(s, SavedStreams) for s in saved[r.name].values())
    ]
    if not drawable:
        return None
    joint = next((saved[r.name] for r in shown if r.variant == "joint"), {})
    curves = {
        r.name: [
            _curve(spec, arm, streams, joint.get(arm))
            for arm, streams in saved[r.name].items()
            if isinstance(streams, SavedStreams)
        ]
        for r in drawable
    }
    low = min(float((curve.mean - curve.std).min()) for each in curves.values() for curve in each)
    figure, panels = grid_of_panels(len(drawable))
    for index, (panel, regime) in enumerate(zip(panels, drawable, strict=True)):
        panel.set_title(regime.variant)
        # The same for all panels, so that strategies compare at a glance.
        draw_curves(panel, curves[regime.name], 10 * max(0, math.floor(10 * low)))
        panel.set_xlabel("tasks learned")
        if index % COLUMNS == 0:
            panel.set_ylabel("average accuracy (%)")
    legend_below(figure, panels)
    entry = drawable[0].entry
    upper = " Short strokes at the right: all tasks learned at once (joint)." if joint else ""
    return drawn(
        figure,
        f"curves-{slug(entry)}",
        f"Accuracy along the stream, {entry}",
        "Mean accuracy on the tasks learned so far, each weighing the same; mean over the confirm seeds, "
        f"band ± standard deviation.{upper}{left_out(record, _missing(spec, record, drawable, saved))}",
    )


def _curve(
    spec: StudySpec, arm: str, streams: SavedStreams, joint: SavedStreams | tuple[int, ...] | None
) -> Curve:
    seen = streams.seen
    std = seen.std(axis=0, ddof=1) if len(seen) > 1 else np.zeros(seen.shape[1])
    bound = float(joint.R[:, -1].mean()) if isinstance(joint, SavedStreams) else None
    return Curve(arm, arm_colour(spec, arm), arm_line(spec, arm), seen.mean(axis=0), std, bound)


def _matrix_figure(
    spec: StudySpec, record: StudyRecord, regime: Regime, saved: Saved
) -> Drawing | str | None:
    title = f"Accuracy on every task after every task, {regime.name}"
    missing = _missing(spec, record, [regime], {regime.name: saved})
    if not any(isinstance(streams, SavedStreams) for streams in saved.values()):
        return not_drawn(title, record, missing) if missing else None
    joint = regime.variant == "joint"
    figure, panels = grid_of_panels(len(saved), height=1.4 if joint else 3.0)
    for index, (panel, (arm, streams)) in enumerate(zip(panels, saved.items(), strict=True)):
        panel.set_title(arm)
        if isinstance(streams, tuple):
            empty_panel(panel, "no saved stream" if streams else _absent(record, arm, regime))
            continue
        draw_matrix(panel, streams.mean)
        panel.set_xlabel("accuracy on task")
        if index % COLUMNS == 0:
            panel.set_ylabel("learned" if joint else "after task")
    order = regime.continual.order if regime.continual else "natural"
    drawn_order = " Tasks are in the order of learning, which every seed draws anew." * (order == "seed")
    return drawn(
        figure,
        f"matrix-{slug(regime.name)}",
        title,
        "Test accuracy in percent, mean over the confirm seeds; yellow is high. Below the diagonal: what is "
        f"left of earlier tasks. Empty: not measured, as the classes were not known yet.{drawn_order}"
        f"{left_out(record, missing)}"
        if not joint
        else "Test accuracy in percent after all tasks were learned at once, mean over the confirm seeds."
        f"{left_out(record, missing)}",
    )


def _saved(spec: StudySpec, record: StudyRecord, study_dir: Path, regime: Regime) -> Saved:
    return {arm: saved_streams(spec, record, study_dir, arm, regime.name) for arm in ordered_arms(spec)}


def _absent(record: StudyRecord, arm: str, regime: Regime) -> str:
    """Why an arm has nothing to show in a regime."""
    return "not trained" if regime.name in arm_record(record, arm).skipped else "no confirm trial yet"


def _missing(spec: StudySpec, record: StudyRecord, shown: list[Regime], saved: dict[str, Saved]) -> Missing:
    """Arms and trials whose file is missing; in which strategy, where several are shown."""
    found = []
    for regime in shown:
        where = f" {regime.variant}" if len(shown) > 1 else ""
        for arm, streams in saved[regime.name].items():
            trials = confirm_trials(spec, record, arm, regime.name)
            seeds = streams if isinstance(streams, tuple) else streams.missing
            found += [(arm + where, trials[seed]) for seed in seeds]
    return found
