from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

from orchestrator.report.ood_tables import score_labels, score_table, selective_table, set_table, tuned_text
from orchestrator.report.summary import summary_text
from workloads.contract import EvaluationConfig

from .stories import FULL, SPEC, Story, confirm_metrics, whole_story
from .test_tables import column


def test_every_ood_set_has_a_row_for_every_arm() -> None:
    rows = set_table(SPEC, whole_story().record()).rows
    assert [row[1].text for row in rows] == ["held_out", "patches", "blobs"] * 3
    assert rows[0][-1].text == "60 %"


def test_the_score_table_holds_each_score_and_marks_the_headline() -> None:
    rows = score_table(SPEC, whole_story().record()).rows
    assert [row[1].text for row in rows[:3]] == ["msp (headline)", "mls", "energy"]


def test_the_score_table_shows_oscr_of_the_score_and_the_side() -> None:
    record = whole_story(FULL).record()
    found = [
        100 * t.metrics["ood/far/mls/oscr"] for t in record.arms["logitnorm"].confirms["standard"].values()
    ]
    expected = f"{statistics.mean(found):.2f} ± {statistics.stdev(found):.2f}"
    table = score_table(FULL, record)
    assert expected == column(table, "OSCR", "far")[5]
    assert expected != column(table, "OSCR", "near")[5]


def test_no_score_is_bold() -> None:
    table = score_table(FULL, whole_story(FULL).record())
    assert not any(cell.bold for row in table.rows for cell in row)


def test_a_score_that_does_not_fit_has_no_numbers_and_says_so() -> None:
    table = score_table(FULL, whole_story(FULL).record())
    assert {cell.text for cell in table.rows[3][2:8]} == {"n/a"}
    assert table.rows[3][1].text == "cosine"
    assert any(note.startswith("n/a: the score does not fit") for note in table.notes)
    assert not any(note.startswith("n/a") for note in score_table(SPEC, whole_story().record()).notes)


def test_tuned_values_are_counted_and_the_most_frequent_comes_first() -> None:
    story = Story(FULL).opened()
    story.configured("hem", 0, {"lr": 0.1})
    for seed, accuracy in zip(FULL.confirm.seeds, (0.98, 0.97, 0.97, 0.98, 0.98), strict=True):
        story.confirmed("hem", 0, seed, confirm_metrics(FULL, 0.3, 0.1, accuracy))
    record = story.record()
    assert tuned_text(FULL, record, "hem", "energy-T_tuned") == "T = 0.2 (3 seeds), 0.1 (2 seeds)"
    assert tuned_text(FULL, record, "hem", "msp") == ""
    assert tuned_text(FULL, record, "logitnorm", "energy-T_tuned") == ""


def test_two_tuned_parameters_stand_apart() -> None:
    story = Story(FULL).opened()
    story.configured("hem", 0, {"lr": 0.1})
    story.confirmed("hem", 0, 100, {"tuned/odin/T": 10.0, "tuned/odin/epsilon": 0.0014})
    assert tuned_text(FULL, story.record(), "hem", "odin") == "T = 10 (1 seed); epsilon = 0.0014 (1 seed)"


def test_without_a_tuned_score_there_is_no_such_column() -> None:
    labels = [c.label for c in score_table(SPEC, whole_story().record()).columns]
    assert "tuned" not in labels
    assert [c.label for c in score_table(FULL, whole_story(FULL).record()).columns][-1] == "tuned"


def test_a_value_that_some_seed_lacks_says_of_how_many_it_is() -> None:
    story = whole_story(FULL)
    last = story.events[-2]["metrics"]
    for name in [name for name in last if name.startswith("ood/far/mls")]:
        del last[name]
    texts = column(score_table(FULL, story.record()), "AUROC", "far")
    assert [text.endswith("(n = 4)") for text in texts] == [False] * 9 + [True] + [False] * 2


def test_selective_prediction_is_of_the_headline_score() -> None:
    story = whole_story(FULL)
    table = selective_table(FULL, story.record())
    assert [c.label for c in table.columns] == ["arm", "n", "Accuracy", "AURC", "E-AURC", "failure AUROC"]
    errors = [
        1 - t.metrics["test/accuracy"] for t in story.record().arms["hem"].confirms["standard"].values()
    ]
    mean, std = (100 * f(errors) / 9 for f in (statistics.mean, statistics.stdev))
    assert table.rows[2][3].text == f"{mean:.3f} ± {std:.3f}"


def test_a_study_without_the_ood_evaluation_has_none_of_these_tables() -> None:
    spec = dataclasses.replace(SPEC, evaluation=EvaluationConfig(("calibration",)))
    record = whole_story(spec).record()
    assert score_labels(spec, record) == ()
    assert [f(spec, record).rows for f in (set_table, score_table, selective_table)] == [()] * 3


def test_before_a_confirm_trial_is_complete_there_are_no_rows() -> None:
    record = Story(FULL).opened().record()
    assert [f(FULL, record).rows for f in (set_table, score_table, selective_table)] == [()] * 3


def test_the_terminal_leaves_these_tables_to_the_files(tmp_path: Path) -> None:
    text = summary_text(FULL, whole_story(FULL).record(), tmp_path)
    assert not [title for title in ("Loss by score", "Geometry", "Robustness", "Selective") if title in text]
