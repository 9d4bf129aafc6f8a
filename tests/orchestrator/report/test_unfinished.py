"""A report of a study that is not there yet, or went wrong, says what is missing."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.report.build import write_report
from orchestrator.report.figures import Gallery
from orchestrator.report.summary import summary_text
from orchestrator.study.spec import ConfirmSpec

from .stories import Story, confirm_metrics, trial_key, whole_story, with_arms, write_outputs

SMALL = dataclasses.replace(with_arms("cross_entropy", "hem"), confirm=ConfirmSpec((100, 101)))
"""Every figure takes time to draw: few arms and few seeds."""


def nothing_yet() -> Story:
    return Story(SMALL).opened()


def confirmed() -> Story:
    """Nothing searched, everything confirmed."""
    story = nothing_yet()
    for arm in SMALL.arms:
        story.configured(arm, 0, {"lr": 0.1})
        story.selected(arm, 0, {"lr": 0.1})
        for seed in SMALL.confirm.seeds:
            story.confirmed(arm, 0, seed, confirm_metrics(SMALL, 0.3 + seed / 5000, 0.1))
    return story


def only_running() -> Story:
    story = nothing_yet()
    for arm in SMALL.arms:
        story.configured(arm, 0, {"lr": 0.1})
        story.started(arm, "search", 0, 0)
    return story


def all_failed() -> Story:
    story = nothing_yet()
    for arm in SMALL.arms:
        for number in range(2):
            story.configured(arm, number, {"lr": 0.1})
            story.searched(arm, number, 0, 0.5, state="failed", epochs=0, reason="the loss is NaN")
            story.add("settled", arm=arm, number=number, state="failed", value=None, reason="")
        story.add("unselected", arm=arm, reason="every configuration failed")
    story.add("closed", reason="failed")
    return story


def half_pruned() -> Story:
    """Searched, some of it pruned, and nothing confirmed yet."""
    story = whole_story(SMALL)
    story.events = [e for e in story.events if "confirm" not in e.get("key", "")][:-1]
    return story


def one_arm_without_a_result() -> Story:
    story = whole_story(SMALL)
    kept = [e for e in story.events if not (e.get("arm") == "hem" and e["event"] == "selected")]
    story.events = [e for e in kept if not e.get("key", "").startswith("hem-confirm")]
    story.add("unselected", arm="hem", reason="no configuration met the guard")
    return story


def every_confirm_trial_failed() -> Story:
    story = confirmed()
    for event in story.events:
        if event["event"] == "finished" and "confirm" in event["key"]:
            event.update(state="failed", metrics={}, reason="out of memory")
    return story


CASES: list[tuple[Callable[[], Story], list[str]]] = [
    (nothing_yet, ["No confirm trial has finished yet", "Nothing has run yet that could be drawn"]),
    (only_running, ["No confirm trial has finished yet", "Not finished: 0 of 4 confirm trials complete"]),
    (all_failed, ["every configuration failed", "the loss is NaN", "No confirm trial has finished yet"]),
    (half_pruned, ["No confirm trial has finished yet", "Pruning: what was cut when", "Search of hem"]),
    (
        one_arm_without_a_result,
        ["no configuration met the guard", "Nothing can be said: no arm has two seeds"],
    ),
    (every_confirm_trial_failed, ["4 confirm trials ended, and every one of them failed", "out of memory"]),
]


@pytest.mark.parametrize(("tell", "expected"), CASES, ids=[tell.__name__ for tell, _ in CASES])
def test_every_unfinished_study_has_a_report_that_says_what_is_missing(
    tell: Callable[[], Story], expected: list[str], tmp_path: Path
) -> None:
    story = tell()
    files = write_report(SMALL, story.record(), tmp_path)
    page, markdown = files.html.read_text(), files.markdown.read_text()
    for text in expected:
        assert text in page
    # The other formats say the same, and no number is invented.
    assert expected[0] in markdown
    assert re.search(r"\bnan\b", summary_text(SMALL, story.record(), tmp_path)) is None
    assert all(path.read_text() for path in files.tables)


def test_one_complete_seed_is_shown_and_not_tested(tmp_path: Path) -> None:
    story = nothing_yet()
    for arm in SMALL.arms:
        story.configured(arm, 0, {"lr": 0.1})
        story.selected(arm, 0, {"lr": 0.1})
        story.confirmed(arm, 0, 100, confirm_metrics(SMALL, 0.3, 0.1))
    page = write_report(SMALL, story.record(), tmp_path).html.read_text()
    assert "Nothing can be said: no arm has two seeds complete that cross_entropy has too." in page
    assert "97.00</a>" in page


def test_damaged_outputs_leave_out_a_figure_and_name_the_trials(tmp_path: Path) -> None:
    record = confirmed().record()
    write_outputs(SMALL, record, tmp_path)
    for path in tmp_path.rglob("scores.npz"):
        path.write_bytes(b"PK\x03\x04 cut short")
    path = tmp_path / "trials" / trial_key("hem", "confirm", 0, 100) / "outputs" / "patches.npz"
    path.write_bytes(path.read_bytes()[:-1])
    files = write_report(SMALL, record, tmp_path)
    names = {path.stem for path in files.figures}
    assert not {"scores", "roc"} & names
    assert {"reliability", "softmax-map"} <= names
    page = files.html.read_text()
    notes = page[
        page.index("against every OOD set: not drawn, as the saved outputs of all trials are missing") :
    ]
    assert "cross_entropy seed 100 (trials/cross_entropy-confirm-0-100), cross_entropy seed 101" in notes
    assert "orchestrate study &#39;studies/my digits.yaml&#39;" in notes
    # One file of one arm: the others are drawn.
    caption = page[page.index('id="figure-softmax-map"') :].split("</figure>")[0]
    assert "missing or damaged: hem seed 100 (trials/hem-confirm-0-100)" in caption
    assert "hem seed 100" not in page[page.index('id="figure-reliability"') :].split("</figure>")[0]


def test_a_figure_that_raises_takes_no_other_with_it() -> None:
    gallery = Gallery()

    def broken() -> None:
        raise ZeroDivisionError("division by zero\nand more")

    gallery.hang("Search", "Pruning", broken)
    gallery.hang("Search", "Nothing", lambda: None)
    gallery.hang("Search", "Said", lambda: "Scores: not drawn, as ...")
    assert gallery.drawings == []
    assert gallery.undrawn == [
        "Pruning: not drawn (ZeroDivisionError: division by zero).",
        "Scores: not drawn, as ...",
    ]
