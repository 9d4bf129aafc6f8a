"""The report's figures, section by section; one that cannot be drawn says why in a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.absent import left_out, not_drawn
from orchestrator.report.audit_panels import audit_figures
from orchestrator.report.canvas import (
    COLUMNS,
    Drawing,
    arm_colour,
    drawn,
    grid_of_panels,
    legend_below,
    style,
)
from orchestrator.report.comparison import confirm_trials, ordered_arms
from orchestrator.report.outputs import PooledReliability, pooled_reliability, pooled_scores
from orchestrator.report.overview_figures import axes_figure, pareto_figure, ranks_figure
from orchestrator.report.panels import draw_reliability, empty_panel
from orchestrator.report.protocol_figures import protocol_figures
from orchestrator.report.rejection_figures import heat_figure, map_figure, roc_figure, score_figure
from orchestrator.report.search_figures import search_figure
from orchestrator.report.training_figures import norm_figure, pruning_figure
from orchestrator.study.regimes import main_regime, regimes
from orchestrator.study.spec import StudySpec

Drawn = Drawing | tuple[Drawing, ...] | str | None
"""Figures, why there is none, or nothing where there is nothing to draw."""


@dataclass
class Gallery:
    """The figures that the record and the saved outputs allow."""

    drawings: list[Drawing] = field(default_factory=list)
    undrawn: list[str] = field(default_factory=list)
    """Why figures are missing, in sentences."""

    def hang(self, section: str, name: str, draw: Callable[[], Drawn]) -> None:
        """Draw one or several figures; whatever is wrong with them, the others are drawn all the same."""
        try:
            found = draw()
        except Exception as error:
            said = str(error).splitlines()
            found = f"{name}: not drawn ({type(error).__name__}{f': {said[0]}' if said else ''})."
        if isinstance(found, str):
            self.undrawn.append(found)
        elif found is not None:
            several = found if isinstance(found, tuple) else (found,)
            self.drawings += [replace(drawing, section=section) for drawing in several]


def draw_figures(spec: StudySpec, record: StudyRecord, study_dir: Path) -> Gallery:
    """All figures that the record and the saved outputs allow, in the order of the page."""
    gallery = Gallery()
    with style():
        gallery.hang("All arms in all respects", "All axes", lambda: axes_figure(spec, record))
        gallery.hang("All arms in all respects", "Pareto fronts", lambda: pareto_figure(spec, record))
        gallery.hang("All arms in all respects", "Mean ranks", lambda: ranks_figure(spec, record))
        # A stream's trials save neither scores nor reliability bins.
        stream = regimes(spec)[main_regime(spec)].continual is not None
        measures = () if stream else spec.evaluation.measures
        if "ood" in measures:
            _hang_rejection(gallery, spec, record, study_dir)
        if "calibration" in measures:
            gallery.hang("Calibration", "Reliability", lambda: _reliability_figure(spec, record, study_dir))
        for section, name, draw in protocol_figures(spec, record, study_dir):
            gallery.hang(section, name, draw)
        gallery.hang("Training", "Length of the logits", lambda: norm_figure(spec, record))
        gallery.hang("Search", "Pruning", lambda: pruning_figure(spec, record))
        for arm in ordered_arms(spec):
            gallery.hang("Search", f"Search of {arm}", partial(search_figure, spec, record, arm))
        gallery.hang("Audits of the method", "Audits", lambda: audit_figures(spec, record))
    return gallery


def _hang_rejection(gallery: Gallery, spec: StudySpec, record: StudyRecord, study_dir: Path) -> None:
    section = "Rejection of unknown inputs"
    pooled = {arm: pooled_scores(spec, record, study_dir, arm) for arm in ordered_arms(spec)}
    gallery.hang(section, "Scores", lambda: score_figure(spec, record, pooled))
    gallery.hang(section, "ROC curves", lambda: roc_figure(spec, record, pooled))
    gallery.hang(section, "Loss by score", lambda: heat_figure(spec, record))
    gallery.hang(section, "Softmax outputs", lambda: map_figure(spec, record, study_dir))


def _reliability_figure(spec: StudySpec, record: StudyRecord, study_dir: Path) -> Drawn:
    title = "Reliability before and after temperature scaling"
    pooled = {arm: pooled_reliability(spec, record, study_dir, arm) for arm in ordered_arms(spec)}
    missing = [
        (arm, confirm_trials(spec, record, arm)[seed])
        for arm, bins in pooled.items()
        for seed in (bins if isinstance(bins, tuple) else bins.missing)
    ]
    if not any(isinstance(bins, PooledReliability) for bins in pooled.values()):
        return not_drawn(title, record, missing) if missing else None
    figure, panels = grid_of_panels(len(pooled), height=3.4)
    for index, (panel, (arm, bins)) in enumerate(zip(panels, pooled.items(), strict=True)):
        panel.set_title(arm)
        if isinstance(bins, tuple):
            empty_panel(panel, "no saved bins" if bins else "no confirm trial yet")
            continue
        draw_reliability(panel, bins, arm_colour(spec, arm))
        panel.set_xlabel("confidence")
        if index % COLUMNS == 0:
            panel.set_ylabel("accuracy")
    legend_below(figure, panels)
    return drawn(
        figure,
        "reliability",
        title,
        "Test images in bins of confidence, mean over the confirm seeds weighted by the images in each bin; "
        "larger marks hold more images. On the diagonal, confidence equals "
        f"accuracy.{left_out(record, missing)}",
    )
