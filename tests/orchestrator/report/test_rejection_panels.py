from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from orchestrator.report.outputs import PooledScores, pooled_scores
from orchestrator.report.rejection_panels import (
    GRID,
    draw_densities,
    draw_heat,
    draw_map,
    roc_curve,
    simplex_map,
)

from .stories import SPEC, whole_story, write_outputs

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes() -> Axes:
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """The chance that an ID score is above an OOD score, ties as one half, pair by pair."""
    above = inside[:, None] - outside[None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


@pytest.mark.parametrize("decimals", [8, 0])
def test_the_area_under_a_curve_is_the_auroc_also_with_ties(decimals: int) -> None:
    generator = np.random.default_rng(2)
    inside = generator.normal(1.5, 1, 300).round(decimals)
    outside = generator.normal(0, 1, 400).round(decimals)
    area = float(np.trapezoid(roc_curve(inside, outside), GRID))
    # The grid's own error: the curve is concave and the grid has 80 steps.
    assert area == pytest.approx(auroc(inside, outside), abs=0.004)


def test_a_curve_holds_the_fpr95() -> None:
    generator = np.random.default_rng(3)
    inside, outside = generator.normal(2, 1, 1000), generator.normal(0, 1, 1000)
    threshold = np.sort(inside)[50]
    accepted = np.mean(outside >= threshold)
    assert np.interp(accepted, GRID, roc_curve(inside, outside)) == pytest.approx(0.95, abs=0.01)


def test_what_is_apart_and_what_is_alike_have_the_curves_of_the_textbook() -> None:
    apart = roc_curve(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert apart == pytest.approx(np.ones(len(GRID)))
    assert roc_curve(np.array([0.0]), np.array([1.0]))[:-1] == pytest.approx(np.zeros(len(GRID) - 1))
    assert roc_curve(np.ones(5), np.ones(3)) == pytest.approx(GRID)


def test_sure_outputs_lie_in_corners_and_uniform_ones_in_the_middle() -> None:
    assert simplex_map(np.full((1, 7), 1 / 7)) == pytest.approx(np.zeros((1, 2)), abs=1e-12)
    corners = simplex_map(np.eye(4))
    assert corners == pytest.approx(np.array([[0, 1], [-1, 0], [0, -1], [1, 0]]), abs=1e-12)
    half = simplex_map(np.array([[0.5, 0.5, 0.0, 0.0]]))
    assert half == pytest.approx(np.array([[-0.5, 0.5]]), abs=1e-12)


def test_a_map_numbers_its_corners_and_shows_every_point() -> None:
    panel = axes()
    points = simplex_map(np.full((6, 5), 0.2))
    draw_map(panel, {"ID test": (points, "#000000")}, 5)
    assert [text.get_text() for text in panel.texts] == ["0", "1", "2", "3", "4"]
    # The points, and an empty mark for the legend.
    assert [len(np.asarray(c.get_offsets())) for c in panel.collections] == [6, 0]


def test_a_heat_map_has_a_number_for_every_measured_cell_in_its_place() -> None:
    panel = axes()
    draw_heat(panel, np.array([[90.0, np.nan, 99.94], [16.5, 80.0, 70.0]]), ["a", "b"], ["x", "y", "z"])
    places = {text.get_text(): text.get_position() for text in panel.texts}
    assert places == {
        "90.0": (0.5, 0.5),
        "99.9": (2.5, 0.5),
        "16.5": (0.5, 1.5),
        "80.0": (1.5, 1.5),
        "70.0": (2.5, 1.5),
    }
    assert [label.get_text() for label in panel.get_yticklabels()] == ["a", "b"]
    # One score below chance does not take the colours from the others.
    assert panel.collections[0].get_clim() == (50.0, 99.94)


def test_densities_have_a_line_for_every_set_and_the_threshold_of_the_pooled_scores(tmp_path: Path) -> None:
    record = whole_story().record()
    write_outputs(SPEC, record, tmp_path)
    scores = pooled_scores(SPEC, record, tmp_path, "hem")
    assert isinstance(scores, PooledScores)
    assert list(scores.by_set) == ["id_test", "held_out", "patches", "blobs"]
    assert [len(each) for each in scores.by_set["patches"]] == [200] * 5
    panel = axes()
    draw_densities(panel, scores, ("held_out",), "#0072B2")
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["ID test", "held_out", "patches", "blobs"]
    # Bases from the top: ID on 3, the last set on 0; and each stays below the next.
    heights = [np.asarray(patch.get_path().vertices, float)[:, 1] for patch in panel.patches]
    bases = [float(each.min()) for each in heights]
    tops = [float(each.max()) for each in heights]
    assert bases == [3.0, 2.0, 1.0, 0.0]
    assert tops == pytest.approx([3.86, 2.86, 1.86, 0.86])
    (vertical,) = [line for line in panel.lines if np.ptp(np.asarray(line.get_xdata(), float)) == 0]
    assert np.asarray(vertical.get_xdata(), float)[0] == pytest.approx(np.percentile(scores.id_test, 5))
