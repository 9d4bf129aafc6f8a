"""The figures of rejection: how scores separate, set by set and score by score, and outputs themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.report.absent import Missing, left_out, not_drawn
from orchestrator.report.canvas import (
    COLUMNS,
    Drawing,
    arm_colour,
    arm_line,
    drawn,
    grid_of_panels,
    legend_below,
)
from orchestrator.report.comparison import confirm_trials, ordered_arms
from orchestrator.report.measured import values
from orchestrator.report.metrics import sides
from orchestrator.report.ood_tables import score_labels
from orchestrator.report.outputs import PooledScores
from orchestrator.report.panels import empty_panel
from orchestrator.report.rejection_panels import (
    FAR,
    NEAR,
    draw_densities,
    draw_heat,
    draw_map,
    draw_roc,
    roc_curve,
    simplex_map,
)
from orchestrator.report.statistics import summarise
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec
from workloads.arrays import read_arrays

MAPPED = 250
"""Images of each kind in a map."""
MOST_CLASSES = 20
"""Of a map: more corners cannot be told apart."""

_AXES = {"msp": "msp score, as −log(1 − p)"}
"""What is drawn of a score, where its name alone would mislead."""

Pooled = Mapping[str, PooledScores | tuple[int, ...]]
"""By arm: its scores, or the seeds that should have some."""


def score_figure(spec: StudySpec, record: StudyRecord, pooled: Pooled) -> Drawing | str | None:
    """The densities of the headline score, a panel for each arm."""
    title = "Scores of test images: in-distribution against every OOD set"
    missing = _missing(spec, record, pooled)
    if not any(isinstance(scores, PooledScores) for scores in pooled.values()):
        return not_drawn(title, record, missing) if missing else None
    sets = 1 + len(near_sets(spec.data)) + len(far_sets(spec.data))
    figure, panels = grid_of_panels(len(pooled), height=1.1 + 0.27 * sets)
    for index, (panel, (arm, scores)) in enumerate(zip(panels, pooled.items(), strict=True)):
        panel.set_title(arm)
        if isinstance(scores, tuple):
            empty_panel(panel, "no saved scores" if scores else "no confirm trial yet")
            continue
        draw_densities(panel, scores, near_sets(spec.data), arm_colour(spec, arm))
        if index % COLUMNS and isinstance(pooled[ordered_arms(spec)[index - index % COLUMNS]], PooledScores):
            panel.tick_params(labelleft=False)
        panel.set_xlabel(_AXES.get(spec.evaluation.headline, f"{spec.evaluation.headline} score"))
    return drawn(
        figure,
        "scores",
        title,
        "Confirm seeds pooled; each density scaled to its own height; the outer 0.2 % of values lie outside "
        "the frame. In the arm's colour: in-distribution; grey: OOD, near sets darker. The dotted "
        "line accepts 95 % of the pooled in-distribution images: OOD to its right is accepted."
        f"{left_out(record, missing)}",
    )


def roc_figure(spec: StudySpec, record: StudyRecord, pooled: Pooled) -> Drawing | None:
    """ROC curves of the headline score, set by set; what is missing, the figure of the scores says."""
    saved = {arm: scores for arm, scores in pooled.items() if isinstance(scores, PooledScores)}
    if not saved:
        return None
    names = (*near_sets(spec.data), *far_sets(spec.data))
    if not names:
        return None
    figure, panels = grid_of_panels(len(names))
    colours = {arm: arm_colour(spec, arm) for arm in saved}
    lines = {arm: arm_line(spec, arm) for arm in saved}
    for index, (panel, name) in enumerate(zip(panels, names, strict=True)):
        curves = {
            arm: np.mean(
                [
                    roc_curve(inside, outside)
                    for inside, outside in zip(scores.by_set["id_test"], scores.by_set[name], strict=True)
                    if len(inside) and len(outside)
                ],
                axis=0,
            )
            for arm, scores in saved.items()
            if any(map(len, scores.by_set[name]))
        }
        draw_roc(panel, curves, colours, lines)
        panel.set_title(f"{name} ({'near' if name in near_sets(spec.data) else 'far'})")
        panel.set_xlabel("OOD accepted (%)")
        if index % COLUMNS == 0:
            panel.set_ylabel("ID accepted (%)")
    legend_below(figure, panels)
    return drawn(
        figure,
        "roc",
        f"ROC curves of the {spec.evaluation.headline} score, set by set",
        "Mean over the confirm seeds of the share of in-distribution images that are accepted, at every "
        "share of OOD images that are accepted with them. Where a curve meets the dotted line (95 %) lies "
        "its FPR95.",
    )


def heat_figure(spec: StudySpec, record: StudyRecord) -> Drawing | None:
    """AUROC of every score on every arm, a panel for each side."""
    labels = score_labels(spec, record)
    if len(labels) < 2:
        return None
    arms = ordered_arms(spec)
    tables = {
        side: np.asarray(
            [[_percent(spec, record, arm, f"ood/{side}/{label}/auroc") for label in labels] for arm in arms]
        )
        for side in sides(spec)
    }
    tables = {side: table for side, table in tables.items() if np.isfinite(table).any()}
    if not tables:
        return None
    wide = len(labels) > 8
    figure, panels = grid_of_panels(len(tables), height=1.5 + 0.3 * len(arms), columns=1 if wide else 2)
    figure.set_figwidth((1 if wide else len(tables)) * (1.2 + 0.52 * len(labels)) + 1.3)
    for panel, (side, table) in zip(panels, tables.items(), strict=True):
        draw_heat(panel, table, arms, labels)
        panel.set_title(f"{side} OOD")
        if panel is not panels[0] and not wide:
            panel.tick_params(labelleft=False)
    return drawn(
        figure,
        "loss-by-score",
        "Loss by score: AUROC",
        "In percent, mean over the confirm seeds and the sets of a side; yellow is high, 50 (guessing) or "
        f"less is darkest, and each panel has its own range. Only {spec.evaluation.headline} was searched "
        "for. Empty: the score does not fit the arm.",
    )


def map_figure(spec: StudySpec, record: StudyRecord, study_dir: Path) -> Drawing | str | None:
    """Where softmax puts test images and unknown ones, of each arm's first seed."""
    title = "Softmax outputs of test images and of OOD images"
    arms = ordered_arms(spec)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    seeds: set[int] = set()
    missing: list[tuple[str, TrialRecord]] = []
    for arm in arms:
        trial = next((t for t in confirm_trials(spec, record, arm).values() if t.state == "complete"), None)
        if trial is None:
            continue
        try:
            found[arm] = _probabilities(spec, study_dir / "trials" / trial.key / "outputs")
            seeds.add(trial.seed)
        except (ValueError, KeyError):
            missing.append((arm, trial))
    if not found:
        return not_drawn(title, record, missing) if missing else None
    classes = {each["ID test"].shape[1] for each in found.values()}
    if len(classes) > 1 or not 3 <= max(classes) <= MOST_CLASSES:
        return None
    figure, panels = grid_of_panels(len(found), height=3.3)
    for panel, (arm, kinds) in zip(panels, found.items(), strict=True):
        panel.set_title(arm)
        colours = {"ID test": "#0072B2", "near OOD": NEAR, "far OOD": FAR}
        points = {kind: (simplex_map(each), colours[kind]) for kind, each in kinds.items()}
        draw_map(panel, points, max(classes))
    legend_below(figure, panels)
    return drawn(
        figure,
        "softmax-map",
        title,
        f"Up to {MAPPED} images of each kind, of one confirm seed ({', '.join(map(str, sorted(seeds)))}). A "
        "corner is a class; a point is the mean of the corners weighted by its probabilities, so what "
        "softmax is sure of lies in a corner, and what it is unsure of inside. A linear map, the same for "
        "every arm, unlike t-SNE: distances compare between panels, but different outputs may fall on one "
        f"point.{left_out(record, missing)}",
    )


def _probabilities(spec: StudySpec, folder: Path) -> dict[str, NDArray[np.float64]]:
    """By kind, the softmax of some images, evenly picked [images, classes].

    Raises: ValueError or KeyError where the saved outputs are missing or damaged.
    """
    kinds = {"ID test": ("id_test",), "near OOD": near_sets(spec.data), "far OOD": far_sets(spec.data)}
    found = {}
    for kind, names in kinds.items():
        if names:
            logits = np.concatenate(
                [
                    _picked(read_arrays(folder / f"{name}.npz")["logits"], MAPPED // len(names))
                    for name in names
                ]
            ).astype(np.float64)
            raised = np.exp(logits - logits.max(axis=1, keepdims=True))
            found[kind] = raised / raised.sum(axis=1, keepdims=True)
    return found


def _picked(rows: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """At most so many rows, from the whole length."""
    places = np.linspace(0, len(rows) - 1, min(len(rows), max(most, 1))).astype(int)
    return np.asarray(rows[places], dtype=np.float64)


def _percent(spec: StudySpec, record: StudyRecord, arm: str, name: str) -> float:
    mean = summarise(list(values(spec, record, arm, name).values())).mean
    return float("nan") if mean is None else 100 * mean


def _missing(spec: StudySpec, record: StudyRecord, pooled: Pooled) -> Missing:
    return [
        (arm, confirm_trials(spec, record, arm)[seed])
        for arm, scores in pooled.items()
        for seed in (scores if isinstance(scores, tuple) else scores.missing)
    ]
