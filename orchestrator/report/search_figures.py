"""The figures of the search: every searched parameter against what the search saw."""

from __future__ import annotations

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.bookkeeping import last_metrics
from orchestrator.report.canvas import (
    COLUMNS,
    Drawing,
    arm_colour,
    drawn,
    grid_of_panels,
    legend_below,
    slug,
)
from orchestrator.report.comparison import arm_record
from orchestrator.report.panels import OBJECTIVE, draw_search, search_measures
from orchestrator.study.spec import StudySpec


def search_figure(spec: StudySpec, record: StudyRecord, arm: str) -> Drawing | None:
    """A column of panels for each searched parameter of the arm."""
    space = {name: term for name, term in spec.arms[arm].space.items() if term.kind != "fixed"}
    entry = arm_record(record, arm)
    if not space or not any(c.trials for c in entry.configurations):
        return None
    known = {name for trial in entry.search_trials for name in last_metrics(trial)}
    measures = [
        m for m in search_measures(spec.evaluation.calibration.bins) if m is OBJECTIVE or m.name in known
    ]
    names = list(space)
    rows = [names[start : start + COLUMNS] for start in range(0, len(names), COLUMNS)]
    wide = len(rows[0])
    figure, panels = grid_of_panels(wide * len(rows) * len(measures), 2.5, columns=wide)
    figure.suptitle(arm, fontsize=11)
    places = iter(panels)
    for row in rows:
        for measure in measures:
            for index in range(wide):
                panel = next(places)
                if index >= len(row):
                    panel.set_axis_off()
                    continue
                draw_search(panel, entry, row[index], space[row[index]], arm_colour(spec, arm), measure)
                if index == 0:
                    panel.set_ylabel(measure.label)
    legend_below(figure, panels)
    against = ", ".join(m.label.removesuffix(" (%)") for m in measures)
    return drawn(
        figure,
        f"search-{slug(arm)}",
        f"Search of {arm}: {', '.join(space)} against {against}",
        "Every search trial of this arm, at its last report, on validation data and noise. Dots ran to "
        "their end, crosses were pruned, triangles at the bad edge failed; the ring marks the chosen "
        "configuration. ECE: before any temperature scaling.",
    )
