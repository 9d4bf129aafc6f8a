from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from orchestrator.report.canvas import style
from orchestrator.report.overview_figures import pareto_figure, ranks_figure
from orchestrator.report.overview_panels import draw_front, draw_ranks, front
from orchestrator.report.statistics import Summary

from .protocol_stories import STUDY, confirm_in, protocol_story
from .stories import SPEC, Story, whole_story, with_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes() -> Axes:
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def point(x: float, y: float) -> tuple[Summary, Summary]:
    return Summary(3, x, 0.5), Summary(3, y, 0.25)


def test_the_front_holds_what_nothing_else_beats() -> None:
    points = {"a": (90.0, 10.0), "b": (95.0, 20.0), "c": (89.0, 15.0), "d": (80.0, 5.0)}
    assert front(points, (False, True)) == ["b", "a", "d"]
    assert front(points, (False, False)) == ["b"]
    assert front(points, (True, True)) == ["d"]


def test_equal_arms_share_the_front_and_an_arm_as_good_in_one_respect_alone_does_not() -> None:
    assert front({"a": (1.0, 1.0), "b": (1.0, 1.0)}, (False, False)) == ["a", "b"]
    assert front({"a": (1.0, 1.0), "b": (1.0, 2.0)}, (False, False)) == ["b"]


def test_better_is_up_and_to_the_right() -> None:
    panel = axes()
    draw_front(panel, {"a": point(90, 10), "b": point(95, 20)}, {"a": "#000", "b": "#111"}, (False, True))
    assert panel.get_xlim()[0] < panel.get_xlim()[1]
    assert panel.get_ylim()[0] > panel.get_ylim()[1]


def test_arms_off_the_front_are_hollow() -> None:
    from matplotlib.collections import PathCollection

    panel = axes()
    points = {"a": point(90, 10), "b": point(95, 5)}
    draw_front(panel, points, {"a": "#0072B2", "b": "#D55E00"}, (False, True))
    dots = [c for c in panel.collections if isinstance(c, PathCollection) and np.size(c.get_offsets())]
    assert [len(c.get_facecolor()) for c in dots] == [0, 1]


def test_every_pair_of_respects_that_two_arms_have_is_drawn() -> None:
    with style():
        drawing = pareto_figure(STUDY, protocol_story().record())
        assert drawing is not None
        shown = [text for text in ElementTree.fromstring(drawing.svg).itertext() if text.strip()]
        # Five respects are ten pairs: each stands on four panels.
        for label in ("Accuracy (%)", "FPR95 (ID+) near (%)", "Balanced accuracy (%)", "ECE before TS (%)"):
            assert shown.count(label) == 4
        assert shown.count("forgetting class-IL (%)") == 4
        assert pareto_figure(SPEC, Story().opened().record()) is None
        alone = with_arms("hem")
        assert pareto_figure(alone, whole_story(alone).record()) is None


def test_the_diagram_of_ranks_names_axes_tests_and_arms() -> None:
    with style():
        drawing = ranks_figure(STUDY, protocol_story().record())
        assert drawing is not None
    shown = [text for text in ElementTree.fromstring(drawing.svg).itertext() if text.strip()]
    # Ranks of the table: 2 in all but calibration, where all are alike.
    assert {"logitnorm (1.20)", "cross_entropy (2.00)", "hem (2.80)"} <= set(shown)
    # Three arms, five axes: 2.343 sqrt(12 / 30).
    assert "critical difference 1.48" in shown
    assert (
        "Over 5 axes of equal weight (accuracy, OOD, calibration, long-tailed, continual)" in drawing.caption
    )
    assert "Friedman's test, by permutation: p = ." in drawing.caption
    assert "neither a sample of axes nor independent" in drawing.caption


def test_an_arm_without_a_value_is_left_out_and_the_others_are_ranked_anew() -> None:
    story = Story(STUDY).opened()
    for arm in STUDY.arms:
        story.configured(arm, 0, {"lr": 0.1})
        confirm_in(story, arm, "standard")
    for arm in ("cross_entropy", "hem"):
        confirm_in(story, arm, "long_tailed/plain")
    with style():
        # Two arms are left: nothing to draw.
        assert ranks_figure(STUDY, story.record()) is None


def test_the_best_rank_stands_at_the_left_and_a_bar_joins_those_that_are_alike() -> None:
    panel = axes()
    draw_ranks(panel, [("a", 1.0), ("b", 2.5), ("c", 2.5)], dict.fromkeys("abc", "#123456"), 1.2, [(1, 2)])
    places = {text.get_text(): text.get_position() for text in panel.texts}
    assert places["a (1.00)"][0] < places["1"][0] < places["3"][0] < places["c (2.50)"][0]
    (bar,) = [line for line in panel.lines if line.get_linewidth() == pytest.approx(3.2)]
    assert np.asarray(bar.get_xdata(), float) == pytest.approx([2.45, 2.55])
    (scale,) = [line for line in panel.lines if line.get_marker() == "|"]
    assert np.ptp(np.asarray(scale.get_xdata(), float)) == pytest.approx(1.2)
