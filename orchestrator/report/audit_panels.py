"""The figures of the audits: stopped configurations run to the end, and noise against real OOD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.audit import pruning_audits
from orchestrator.report.canvas import COLUMNS, Drawing, arm_colour, drawn, grid_of_panels, legend_below
from orchestrator.report.comparison import ordered_arms
from orchestrator.report.metrics import sides
from orchestrator.report.panels import INK, NEUTRAL
from orchestrator.report.proxy_audit import Point, arm_mean, configurations
from orchestrator.report.pruning_audit import PruningAudit
from orchestrator.study.spec import StudySpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKS = ("o", "s", "^", "D", "v", "P", "X")
"""So that arms are told apart without colour, too."""


def audit_figures(spec: StudySpec, record: StudyRecord) -> tuple[Drawing, ...]:
    """Those of the audits that the study asks for and that have something to show. Wants ``canvas.style``."""
    pruning = [audit for audit in pruning_audits(spec, record) if _seen(audit)]
    return (*_pruning_figure(spec, pruning), *_proxy_figure(spec, record))


def _pruning_figure(spec: StudySpec, audits: Sequence[PruningAudit]) -> list[Drawing]:
    if not audits:
        return []
    figure, panels = grid_of_panels(len(audits))
    for index, (panel, audit) in enumerate(zip(panels, audits, strict=True)):
        panel.set_title(audit.arm)
        draw_pruned(panel, audit, arm_colour(spec, audit.arm))
        panel.set_xlabel("noise FPR95 when stopped (%)")
        if index % COLUMNS == 0:
            panel.set_ylabel("at the end (%)")
    legend_below(figure, panels)
    caption = (
        "Configurations that the pruner stopped, drawn at random and run to the end; means over the search "
        "seeds. Below the dashed line the noise FPR95 is lower than that of the chosen configuration; filled "
        "marks would have been chosen before it, which the accuracy guard may forbid."
    )
    return [drawn(figure, "audit-pruning", "Audit of pruning: what stopped configurations came to", caption)]


def _proxy_figure(spec: StudySpec, record: StudyRecord) -> list[Drawing]:
    arms = ordered_arms(spec)
    audited = {
        side: {arm: configurations(spec, record, arm, side) for arm in arms}
        for side in (sides(spec) if spec.audit.proxy is not None else ())
    }
    if not any(points for by_arm in audited.values() for points in by_arm.values()):
        return []
    figure, panels = grid_of_panels(len(audited), height=3.3)
    colours = {arm: arm_colour(spec, arm) for arm in arms}
    for panel, (side, by_arm) in zip(panels, audited.items(), strict=True):
        winners = {arm: arm_mean(spec, record, arm, side) for arm in arms}
        draw_proxy(panel, by_arm, {arm: mean for arm, mean in winners.items() if mean is not None}, colours)
        panel.set_xlabel("noise FPR95 on validation (%)")
        panel.set_ylabel(f"{side} OOD FPR95 (%)")
    legend_below(figure, panels)
    caption = (
        "Configurations drawn at random from all that were searched, trained to the end: means over the "
        "search seeds. Ringed: each arm's winner, mean over the confirm seeds. Where noise orders as real "
        "OOD does, marks rise from left to right."
    )
    return [drawn(figure, "audit-proxy", "Audit of the proxy: noise FPR95 against that of real OOD", caption)]


def draw_pruned(panel: Axes, audit: PruningAudit, colour: str) -> None:
    """Noise FPR95 (%) of audited configurations where they were stopped and at the end."""
    for better, label in ((False, "not better than chosen"), (True, "better than chosen")):
        points = [(e.then, e.fpr95) for e in audit.audited if e.better == better and e.then is not None]
        if points:
            panel.scatter(
                [100 * then for then, _ in points],
                [100 * end for _, end in points],
                s=34,
                facecolors=colour if better else "none",
                edgecolors=colour,
                linewidths=1.3,
                label=label,
                clip_on=False,
                zorder=3,
            )
    panel.axhline(100 * audit.chosen_fpr95, color=INK, linewidth=1.0, linestyle="--", label="chosen")
    panel.plot([0, 100], [0, 100], color=NEUTRAL, linewidth=0.9, linestyle=":", label="as when stopped")
    panel.set_xlim(-3, 103)
    panel.set_ylim(-3, 103)


def draw_proxy(
    panel: Axes,
    audited: Mapping[str, Sequence[Point]],
    winners: Mapping[str, Point],
    colours: Mapping[str, str],
) -> None:
    """Noise FPR95 (%) against that of real OOD, a mark for each audited configuration and each winner."""
    for place, (arm, points) in enumerate(audited.items()):
        mark = _MARKS[place % len(_MARKS)]
        if points:
            panel.scatter(
                [100 * point.noise for point in points],
                [100 * point.real for point in points],
                s=26,
                marker=mark,
                color=colours[arm],
                alpha=0.8,
                linewidths=0,
                label=arm,
                clip_on=False,
                zorder=3,
            )
        if arm in winners:
            panel.scatter(
                [100 * winners[arm].noise],
                [100 * winners[arm].real],
                s=80,
                marker=mark,
                color=colours[arm],
                edgecolors=INK,
                linewidths=1.4,
                clip_on=False,
                zorder=4,
            )
    panel.set_xlim(-3, 103)
    panel.set_ylim(-3, 103)


def _seen(audit: PruningAudit) -> bool:
    return any(each.then is not None for each in audit.audited)
