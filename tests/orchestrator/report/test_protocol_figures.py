from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from orchestrator.report.canvas import PAPER, Drawing, arm_colour, arm_line
from orchestrator.report.figures import draw_figures
from orchestrator.report.panels import INK
from orchestrator.report.protocol_panels import ON_DARK, ON_LIGHT, draw_axis, draw_matrix, draw_recalls
from orchestrator.study.spec import ArmSpec

from .protocol_stories import STUDY, confirm_in, protocol_story, stream_path, with_protocols, write_streams
from .stories import Story

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Drawing]:
    study_dir = tmp_path_factory.mktemp("study")
    story = protocol_story()
    write_streams(story, study_dir)
    return {drawing.name: drawing for drawing in draw_figures(STUDY, story.record(), study_dir).drawings}


def texts(drawing: Drawing) -> list[str]:
    return [text for text in ElementTree.fromstring(drawing.svg).itertext() if text.strip()]


def axes() -> Axes:
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def test_every_regime_has_its_figures_in_the_studys_order(drawings: dict[str, Drawing]) -> None:
    assert list(drawings) == [
        "all-axes",
        "pareto",
        "mean-ranks",
        "loss-by-score",
        "recall-long_tailed-plain",
        "recall-long_tailed-drw",
        "curves-continual",
        "matrix-continual-joint",
        "matrix-continual-replay",
        "curves-turned",
        "matrix-turned-naive",
    ]


def test_a_matrix_shows_percent_and_leaves_empty_what_was_not_measured(drawings: dict[str, Drawing]) -> None:
    shown = texts(drawings["matrix-continual-replay"])
    # cross_entropy by rows: the means over the seeds of its six measured cells.
    start = shown.index("98")
    assert shown[start : start + 6] == ["98", "99", "96", "60", "74", "94"]
    assert "nan" not in " ".join(shown)
    # All nine cells of a stream that measures tasks to come.
    turned = texts(drawings["matrix-turned-naive"])
    assert turned.count("30") == 9
    assert "30" not in shown
    assert all(arm in shown for arm in STUDY.arms)
    assert "every seed draws anew" in drawings["matrix-continual-replay"].caption
    assert "every seed draws anew" not in drawings["matrix-turned-naive"].caption


def test_numbers_in_cells_keep_their_colour_on_a_dark_page(drawings: dict[str, Drawing]) -> None:
    assert {ON_DARK, ON_LIGHT} & {INK, PAPER} == set()
    inline = drawings["matrix-turned-naive"].inline_svg
    assert ON_DARK in inline
    assert ON_LIGHT in inline
    assert "currentColor" in inline


def test_the_matrix_has_its_first_task_at_the_top_left() -> None:
    panel = axes()
    draw_matrix(panel, np.array([[0.9, np.nan], [0.2, 0.8]]))
    places = {text.get_text(): text.get_position() for text in panel.texts}
    # Column, row; rows are counted downwards.
    assert places == {"90": (0.5, 0.5), "20": (0.5, 1.5), "80": (1.5, 1.5)}
    assert panel.get_ylim() == (2.0, 0.0)


def test_a_long_stream_shows_colours_only() -> None:
    panel = axes()
    draw_matrix(panel, np.full((20, 20), 0.5))
    assert len(panel.texts) == 0


def test_classes_are_sorted_by_their_training_images() -> None:
    panel = axes()
    draw_recalls(panel, {0: [0.2, 0.4], 1: [0.9], 2: [0.5]}, {0: 10, 1: 99, 2: 10, 3: 40}, "#000000")
    labels = [label.get_text() for label in panel.get_xticklabels()]
    assert labels == ["1\n99", "3\n40", "0\n10", "2\n10"]
    boxes = [bar.get_window_extent().transformed(panel.transData.inverted()) for bar in panel.patches]
    bars = {round((box.x0 + box.x1) / 2): box.y1 for box in boxes}
    # Class 3 has no test image.
    assert bars == pytest.approx({0: 90.0, 2: 30.0, 3: 50.0}, rel=1e-9)
    # A whisker for the one class of two seeds.
    assert len(panel.collections) == 1


def test_recalls_name_classes_and_images_and_who_was_not_trained(drawings: dict[str, Drawing]) -> None:
    shown = texts(drawings["recall-long_tailed-drw"])
    assert [shown.count(label) for label in ("150", "10")] == [2, 2]
    assert "not trained" in shown
    assert "not trained" not in texts(drawings["recall-long_tailed-plain"])


def test_curves_have_a_panel_for_each_strategy_with_a_history(drawings: dict[str, Drawing]) -> None:
    shown = texts(drawings["curves-continual"])
    assert "replay" in shown
    assert "joint" not in shown
    assert "all tasks learned at once (joint)" in drawings["curves-continual"].caption
    assert "joint" not in drawings["curves-turned"].caption
    assert all(shown.count(arm) == 1 for arm in STUDY.arms)


def test_an_axis_shows_mean_deviation_and_every_seed() -> None:
    panel = axes()
    draw_axis(panel, {"a": [1.0, 3.0], "b": [], "c": [5.0]}, dict.fromkeys("abc", "#123456"), lower=True)
    (bar,) = panel.lines
    # Mean 2, standard deviation sqrt(2).
    assert np.asarray(bar.get_xdata()) == pytest.approx(np.array([2 - 2**0.5, 2 + 2**0.5]), rel=1e-12)
    offsets = [np.asarray(c.get_offsets()).tolist() for c in panel.collections]
    assert offsets == [[[1, 0], [3, 0]], [[2, 0]], [[5, 2]], [[5, 2]]]
    assert panel.get_xlabel() == "← better"
    assert panel.get_ylim() == (2.5, -0.5)


def test_all_axes_have_an_arrow_towards_the_better_end(drawings: dict[str, Drawing]) -> None:
    shown = texts(drawings["all-axes"])
    # Accuracy, AUROC near and far, balanced accuracy, ACC; and ECE, forgetting.
    assert (shown.count("better →"), shown.count("← better")) == (5, 2)
    assert "Balanced accuracy (%)" in shown
    assert "long_tailed/plain" in shown


def test_missing_streams_are_named_under_the_figures(tmp_path: Path) -> None:
    spec = with_protocols("continual")
    story = protocol_story(spec)
    write_streams(story, tmp_path)
    stream_path(tmp_path, "hem", 102, "continual/replay").unlink()
    drawn = {d.name: d for d in draw_figures(spec, story.record(), tmp_path).drawings}
    lost = "missing or damaged: hem seed 102 (trials/hem-confirm-0-102-continual-replay)"
    assert lost in drawn["matrix-continual-replay"].caption
    assert lost in drawn["curves-continual"].caption
    assert "damaged" not in drawn["matrix-continual-joint"].caption


def test_without_any_stream_there_is_a_sentence_that_says_so(tmp_path: Path) -> None:
    spec = with_protocols("continual")
    gallery = draw_figures(spec, protocol_story(spec).record(), tmp_path)
    names = [drawing.name for drawing in gallery.drawings]
    assert not [name for name in names if name.startswith(("matrix", "curves"))]
    said = [text for text in gallery.undrawn if "continual/replay" in text]
    assert len(said) == 1
    assert "hem seed 102 (trials/hem-confirm-0-102-continual-replay)" not in said[0]
    assert "cross_entropy seed 100 (trials/cross_entropy-confirm-0-100-continual-replay)" in said[0]
    assert said[0].endswith("orchestrate study 'studies/my digits.yaml'")


def test_a_running_study_draws_what_it_has(tmp_path: Path) -> None:
    story = Story(STUDY).opened()
    for arm in STUDY.arms:
        story.configured(arm, 0, {"lr": 0.1})
    confirm_in(story, "hem", "continual/replay", (100,))
    confirm_in(story, "hem", "long_tailed/drw", (100,))
    write_streams(story, tmp_path)
    drawn = {d.name: d for d in draw_figures(STUDY, story.record(), tmp_path).drawings}
    assert set(drawn) == {"recall-long_tailed-drw", "curves-continual", "matrix-continual-replay"}
    assert texts(drawn["matrix-continual-replay"]).count("no confirm trial yet") == 2


def test_a_study_of_streams_alone_asks_for_no_scores(tmp_path: Path) -> None:
    spec = with_protocols("turned")
    story = protocol_story(spec)
    write_streams(story, tmp_path)
    names = [drawing.name for drawing in draw_figures(spec, story.record(), tmp_path).drawings]
    assert names == ["pareto", "curves-turned", "matrix-turned-naive"]


def test_arms_of_one_colour_have_different_lines() -> None:
    spec = dataclasses.replace(
        STUDY, arms={f"a{i}": ArmSpec(f"a{i}", "hem", {}) for i in range(9)}, baseline="a0"
    )
    assert arm_colour(spec, "a0") == arm_colour(spec, "a7")
    assert len({(arm_colour(spec, arm), arm_line(spec, arm)) for arm in spec.arms}) == 9
