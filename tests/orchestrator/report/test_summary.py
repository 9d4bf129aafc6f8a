from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

from orchestrator.report.summary import summary_text
from orchestrator.study.spec import ArmSpec
from workloads.catalogue import Term

from .protocol_stories import STUDY, confirm_in, protocol_story
from .stories import SPEC, Story, confirm_metrics, whole_story, with_arms


def test_no_line_is_wider_than_a_hundred_columns(tmp_path: Path) -> None:
    text = summary_text(SPEC, whole_story().record(), tmp_path)
    assert max(len(line) for line in text.splitlines()) <= 100


def test_the_parts_come_in_the_order_in_which_they_are_read(tmp_path: Path) -> None:
    text = summary_text(SPEC, whole_story().record(), tmp_path)
    titles = [
        "digits",
        "Does LogitNorm",
        "Answer",
        "Test results",
        "Paired comparison with cross_entropy",
        "Chosen parameters",
        "Budget",
        "Warnings",
        "Failures",
    ]
    places = [re.search(f"^{title}", text, re.MULTILINE) for title in titles]
    starts = [place.start() for place in places if place is not None]
    assert len(starts) == len(titles)
    assert starts == sorted(starts)


def test_every_block_of_the_table_names_its_arms(tmp_path: Path) -> None:
    text = summary_text(SPEC, whole_story().record(), tmp_path)
    table = text[text.index("Test results") : text.index("Mean ±")]
    assert table.count("\nlogitnorm ") == table.count("\narm ") >= 2


def test_a_study_without_confirm_trials_says_so(tmp_path: Path) -> None:
    story = Story().opened()
    story.configured("hem", 0, {"mu.scale": 2000.0, "lr": 0.05})
    story.searched("hem", 0, 0, 0.3)
    text = summary_text(SPEC, story.record(), tmp_path)
    assert text.count("No confirm trial has finished yet: there are no test results to show.") == 3
    assert "Not finished: 0 of 15 confirm trials complete" in text


def test_a_study_that_was_never_opened_can_be_summarised(tmp_path: Path) -> None:
    text = summary_text(SPEC, Story().record(), tmp_path)
    assert "Not finished" in text


def test_one_failed_seed_shows_in_the_table(tmp_path: Path) -> None:
    story = whole_story()
    finish = story.events[-2]
    finish.update(state="failed", metrics={}, reason="the loss is NaN at epoch 3")
    text = summary_text(SPEC, story.record(), tmp_path)
    assert re.search(r"^hem +4 of 5 \(1 failed\)", text, re.MULTILINE)
    assert "the loss is NaN at epoch 3" in text
    assert "nan" not in text.replace("NaN", "")


def test_an_arm_without_selection_is_named_with_its_reason(tmp_path: Path) -> None:
    story = Story(with_arms("cross_entropy", "hem")).opened()
    story.configured("cross_entropy", 0, {"lr": 0.1})
    story.selected("cross_entropy", 0, {"lr": 0.1})
    for seed in SPEC.confirm.seeds:
        story.confirmed("cross_entropy", 0, seed, confirm_metrics(SPEC, 0.3 + seed / 1e4, 0.1))
    story.add("unselected", arm="hem", reason="no configuration ran to its end")
    text = summary_text(story.spec, story.record(), tmp_path)
    assert "0 of 5 (nothing selected)" in text
    assert "! hem: nothing could be selected (no configuration ran to its end)." in text
    assert "Finished: 5 of 10 confirm trials complete" in text


def test_an_arm_with_nothing_to_choose_is_left_out_of_what_was_chosen(tmp_path: Path) -> None:
    single = ArmSpec("hem", "hem", {"lr": Term("fixed", (0.05,))})
    spec = dataclasses.replace(SPEC, arms={**SPEC.arms, "hem": single})
    text = summary_text(spec, whole_story().record(), tmp_path)
    chosen = text[text.index("Chosen parameters") : text.index("Budget")]
    assert "\nlogitnorm " in chosen
    assert "\nhem " not in chosen
    assert "And 1 arm of a single configuration, with nothing to choose." in chosen


def test_one_arm_alone_is_not_compared(tmp_path: Path) -> None:
    spec = with_arms("hem")
    text = summary_text(spec, whole_story(spec).record(), tmp_path)
    assert "The study has one arm: there is nothing to compare." in text


def test_the_terminal_text_loads_no_plotting_and_no_large_statistics() -> None:
    code = (
        "import sys; from orchestrator.report.summary import summary_text; "
        "print([m for m in ('matplotlib', 'scipy', 'scipy.stats', 'jinja2', 'torch', 'ray', 'mlflow') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tables_of_the_protocols_stand_in_the_terminal(tmp_path: Path) -> None:
    text = summary_text(STUDY, protocol_story().record(), tmp_path)
    titles = [
        "Test results, msp score",
        "All axes",
        "Paired comparison with",
        "Long-tailed training",
        "Continual learning",
        "Continual learning: turned",
        "Chosen parameters",
    ]
    starts = [text.index(f"\n{title}") for title in titles]
    assert starts == sorted(starts)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "The report's files have all columns (continual-turned.csv)" in text
    assert "hem            drw     not trained: the loss re-weights" in text
    assert "The best mean in every column: logitnorm." in text


def test_protocols_without_a_result_are_not_in_the_terminal(tmp_path: Path) -> None:
    story = Story(STUDY).opened()
    story.configured("hem", 0, {"lr": 0.1})
    confirm_in(story, "hem", "turned/naive", (100,))
    text = summary_text(STUDY, story.record(), tmp_path)
    assert "Continual learning: turned" in text
    assert "Long-tailed training" not in text
    assert "All axes" not in text
