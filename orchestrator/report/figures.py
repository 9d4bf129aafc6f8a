"""The report's figures: what the search saw, how scores separate, how confidence matches accuracy."""

from __future__ import annotations

from pathlib import Path

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.canvas import (
    COLUMNS,
    Drawing,
    arm_colour,
    drawn,
    grid_of_panels,
    left_out,
    legend_below,
    slug,
    style,
)
from orchestrator.report.comparison import arm_record, ordered_arms
from orchestrator.report.outputs import pooled_reliability, pooled_scores
from orchestrator.report.panels import draw_histogram, draw_reliability, draw_search, empty_panel
from orchestrator.report.protocol_figures import protocol_figures
from orchestrator.study.regimes import main_regime, regimes
from orchestrator.study.spec import StudySpec


def draw_figures(spec: StudySpec, record: StudyRecord, study_dir: Path) -> tuple[Drawing, ...]:
    """All figures that the record and the saved outputs allow."""
    with style():
        search = [
            drawing
            for arm in ordered_arms(spec)
            if (drawing := _search_figure(spec, record, arm)) is not None
        ]
        # A stream's trials save neither scores nor reliability bins.
        stream = regimes(spec)[main_regime(spec)].continual is not None
        measures = () if stream else spec.evaluation.measures
        scores = _score_figure(spec, record, study_dir) if "ood" in measures else None
        reliability = _reliability_figure(spec, record, study_dir) if "calibration" in measures else None
        protocols = protocol_figures(spec, record, study_dir)
    return tuple(drawing for drawing in (*search, scores, reliability, *protocols) if drawing is not None)


def _search_figure(spec: StudySpec, record: StudyRecord, arm: str) -> Drawing | None:
    space = {name: term for name, term in spec.arms[arm].space.items() if term.kind != "fixed"}
    if not space or not any(c.trials for c in arm_record(record, arm).configurations):
        return None
    figure, panels = grid_of_panels(len(space))
    figure.suptitle(arm, fontsize=11)
    for index, (panel, (name, term)) in enumerate(zip(panels, space.items(), strict=True)):
        draw_search(panel, arm_record(record, arm), name, term, arm_colour(spec, arm))
        if index % COLUMNS == 0:
            panel.set_ylabel("noise FPR95 (%)")
    legend_below(figure, panels)
    return drawn(
        figure,
        f"search-{slug(arm)}",
        f"Search of {arm}: {', '.join(space)} against noise FPR95",
        "Every search trial of this arm, at its last report; lower is better. Dots ran to their end, crosses "
        "were pruned, triangles on the top edge failed; the ring marks the chosen configuration.",
    )


def _score_figure(spec: StudySpec, record: StudyRecord, study_dir: Path) -> Drawing | None:
    pooled = {arm: pooled_scores(spec, record, study_dir, arm) for arm in ordered_arms(spec)}
    if all(scores == () for scores in pooled.values()):
        return None
    figure, panels = grid_of_panels(len(pooled))
    missing = []
    for panel, (arm, scores) in zip(panels, pooled.items(), strict=True):
        panel.set_title(arm)
        if isinstance(scores, tuple):
            empty_panel(panel, "no saved scores" if scores else "no confirm trial yet")
            missing += [(arm, seed) for seed in scores]
            continue
        missing += [(arm, seed) for seed in scores.missing]
        draw_histogram(panel, scores, arm_colour(spec, arm))
        panel.set_xlabel(f"{spec.evaluation.headline} score")
    legend_below(figure, panels)
    return drawn(
        figure,
        "scores",
        "Scores of test images: in-distribution against OOD",
        "Confirm seeds pooled; densities, so that sets of different size compare; the outer 0.2 % of values "
        "lie outside the frame. The dotted line accepts 95 % of the pooled in-distribution images: OOD to "
        f"its right is accepted.{left_out(missing)}",
    )


def _reliability_figure(spec: StudySpec, record: StudyRecord, study_dir: Path) -> Drawing | None:
    pooled = {arm: pooled_reliability(spec, record, study_dir, arm) for arm in ordered_arms(spec)}
    if all(bins == () for bins in pooled.values()):
        return None
    figure, panels = grid_of_panels(len(pooled), height=3.4)
    missing = []
    for index, (panel, (arm, bins)) in enumerate(zip(panels, pooled.items(), strict=True)):
        panel.set_title(arm)
        if isinstance(bins, tuple):
            empty_panel(panel, "no saved bins" if bins else "no confirm trial yet")
            missing += [(arm, seed) for seed in bins]
            continue
        missing += [(arm, seed) for seed in bins.missing]
        draw_reliability(panel, bins, arm_colour(spec, arm))
        panel.set_xlabel("confidence")
        if index % COLUMNS == 0:
            panel.set_ylabel("accuracy")
    legend_below(figure, panels)
    return drawn(
        figure,
        "reliability",
        "Reliability before and after temperature scaling",
        "Test images in bins of confidence, mean over the confirm seeds weighted by the images in each bin; "
        f"larger marks hold more images. On the diagonal, confidence equals accuracy.{left_out(missing)}",
    )
