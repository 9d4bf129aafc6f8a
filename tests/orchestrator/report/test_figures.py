from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator.report.canvas import Drawing, arm_colour
from orchestrator.report.figures import draw_figures
from orchestrator.study.spec import ArmSpec, ConfirmSpec
from workloads.catalogue import Term, Value
from workloads.contract import EvaluationConfig, Measure

from .stories import SPEC, Story, confirm_metrics, trial_key, whole_story, with_arms, write_outputs

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Drawing, ...]:
    study_dir = tmp_path_factory.mktemp("study")
    record = whole_story().record()
    write_outputs(SPEC, record, study_dir)
    gallery = draw_figures(SPEC, record, study_dir)
    assert gallery.undrawn == []
    return tuple(gallery.drawings)


def named(drawings: Sequence[Drawing], name: str) -> Drawing:
    return next(drawing for drawing in drawings if drawing.name == name)


def test_every_arm_has_a_search_figure_with_every_searched_parameter(drawings: tuple[Drawing, ...]) -> None:
    titles = {d.name: d.title for d in drawings}
    searches = [name for name in titles if name.startswith("search-")]
    assert searches == ["search-cross_entropy", "search-logitnorm", "search-hem"]
    expected = "Search of logitnorm: tau, lr against noise FPR95, validation accuracy, validation ECE"
    assert titles["search-logitnorm"] == expected


def test_every_search_trial_is_drawn(drawings: tuple[Drawing, ...]) -> None:
    root = ElementTree.fromstring(named(drawings, "search-logitnorm").svg)
    marks = [
        len(list(group.iter("{http://www.w3.org/2000/svg}use")))
        for group in root.iter("{http://www.w3.org/2000/svg}g")
        if (group.get("id") or "").startswith("PathCollection")
    ]
    # A panel: 12 complete, 2 pruned, 1 failed and the 2 rings; three measures of two parameters. Four
    # legend entries lie outside.
    assert sorted(marks, reverse=True)[:24] == [*[12] * 6, *[2] * 12, *[1] * 6]


def test_pictures_are_png_and_svg(drawings: tuple[Drawing, ...]) -> None:
    # That they are the same every time is seen where a second report replaces the first.
    assert all(d.png.startswith(PNG) for d in drawings)
    assert all(ElementTree.fromstring(d.svg).tag.endswith("}svg") for d in drawings)


def test_an_arm_has_one_colour_everywhere(drawings: tuple[Drawing, ...]) -> None:
    colour = arm_colour(SPEC, "logitnorm").lower()
    assert len({arm_colour(SPEC, arm) for arm in SPEC.arms}) == 3
    by_name = {d.name: d.svg for d in drawings}
    assert all(colour in by_name[name] for name in ("search-logitnorm", "scores", "reliability"))
    assert colour not in by_name["search-hem"]


def test_inline_figures_have_their_own_ids_and_the_ink_of_the_page(drawings: tuple[Drawing, ...]) -> None:
    page = "".join(d.inline_svg for d in drawings)
    ids = re.findall(r'\bid="([^"]+)"', page)
    references = re.findall(r'(?:href="#|url\(#)([^")]+)', page)
    assert len(ids) == len(set(ids))
    assert references
    assert set(references) <= set(ids)
    assert "currentColor" in page
    assert "#1b1f23" not in page


def test_nothing_is_drawn_of_a_study_that_has_not_begun(tmp_path: Path) -> None:
    gallery = draw_figures(SPEC, Story().opened().record(), tmp_path)
    assert (gallery.drawings, gallery.undrawn) == ([], [])


def unsearched() -> Story:
    """Two arms confirmed on two seeds, and nothing searched: few figures, quickly drawn."""
    spec = dataclasses.replace(with_arms("cross_entropy", "hem"), confirm=ConfirmSpec((101, 102)))
    story = Story(spec).opened()
    for arm in spec.arms:
        story.configured(arm, 0, {"lr": 0.1})
        for seed in spec.confirm.seeds:
            story.confirmed(arm, 0, seed, confirm_metrics(spec, 0.3 + seed / 5000, 0.1))
    return story


def test_missing_outputs_are_named_under_the_figure(tmp_path: Path) -> None:
    story = unsearched()
    record = story.record()
    write_outputs(story.spec, record, tmp_path)
    (tmp_path / "trials" / trial_key("hem", "confirm", 0, 102) / "outputs" / "scores.npz").unlink()
    scores = named(draw_figures(story.spec, record, tmp_path).drawings, "scores")
    assert scores.caption.endswith(
        "missing or damaged: hem seed 102 (trials/hem-confirm-0-102). The study's command makes them again: "
        "orchestrate study 'studies/my digits.yaml'"
    )


def test_an_arm_that_has_not_confirmed_yet_has_an_empty_panel(tmp_path: Path) -> None:
    story = Story(with_arms("cross_entropy", "hem")).opened()
    story.configured("hem", 0, {"lr": 0.1})
    story.confirmed("hem", 0, 100, confirm_metrics(SPEC, 0.3, 0.1))
    record = story.record()
    write_outputs(story.spec, record, tmp_path)
    drawn = draw_figures(story.spec, record, tmp_path).drawings
    assert [d.name for d in drawn] == ["scores", "roc", "loss-by-score", "softmax-map", "reliability"]
    assert "no confirm trial yet" in drawn[0].svg


def test_choices_grids_and_running_trials_are_drawn(tmp_path: Path) -> None:
    space = {
        "variant": Term("choice", ("plain", "a <b> & $c$")),
        "tau": Term("grid", (0.001, 0.01, 1.0)),
        "depth": Term("int_uniform", (1, 4)),
        "margin": Term("uniform", (0.0, 0.5)),
        "bias": Term("fixed", (1.0,)),
    }
    spec = dataclasses.replace(with_arms("hem"), arms={"hem": ArmSpec("hem", "hem", space)})
    story = Story(spec).opened()
    for number, variant in enumerate(("plain", "a <b> & $c$")):
        params: dict[str, Value] = {"variant": variant, "tau": 0.01, "depth": 2, "margin": 0.1, "bias": 1.0}
        story.configured("hem", number, params)
        story.searched("hem", number, 0, 0.3)
    key = story.started("hem", "search", 1, 1)
    story.add("reported", key=key, epoch=1, metrics={"noise/fpr95": 0.9})
    (drawing,) = draw_figures(spec, story.record(), tmp_path).drawings
    texts = [text for text in ElementTree.fromstring(drawing.svg).itertext() if text.strip()]
    assert "a <b> & $c$" in texts
    assert "running" in texts
    assert "bias" not in texts


def test_what_was_not_measured_has_no_figure(tmp_path: Path) -> None:
    story = unsearched()
    record = story.record()
    write_outputs(story.spec, record, tmp_path)
    cases: tuple[tuple[Measure, str, str], ...] = (
        ("ood", "scores", "reliability"),
        ("calibration", "reliability", "scores"),
    )
    for measured, there, absent in cases:
        spec = dataclasses.replace(story.spec, evaluation=EvaluationConfig((measured,)))
        names = {drawing.name for drawing in draw_figures(spec, record, tmp_path).drawings}
        assert there in names
        assert absent not in names
