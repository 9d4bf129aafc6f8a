from __future__ import annotations

import dataclasses
import math
import statistics

from orchestrator.report.cells import Table
from orchestrator.report.comparison import compare
from orchestrator.report.measured import seed_count
from orchestrator.report.tables import comparison_table, main_table
from orchestrator.study.spec import StudySpec
from workloads.catalogue import Term
from workloads.contract import EvaluationConfig

from .stories import SPEC, Story, confirm_metrics, whole_story, with_arms


def column(table: Table, group: str, label: str) -> list[str]:
    index = next(i for i, c in enumerate(table.columns) if (c.group, c.label) == (group, label))
    return [row[index].text for row in table.rows]


def main_of(spec: StudySpec, story: Story) -> Table:
    record = story.record()
    return main_table(spec, record, compare(spec, record))


def test_the_main_table_holds_mean_and_deviation_over_the_seeds() -> None:
    story = whole_story()
    record = story.record()
    values = [
        100 * t.metrics["ood/near/msp/fpr95_id_positive"]
        for t in record.arms["logitnorm"].confirms["standard"].values()
    ]
    expected = f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"
    table = main_of(SPEC, story)
    assert [row[0].text for row in table.rows] == ["cross_entropy", "logitnorm", "hem"]
    assert column(table, "FPR95 (ID+)", "near")[1] == expected


def test_only_a_distinguishable_best_is_bold() -> None:
    table = main_of(SPEC, whole_story())
    bold = {
        (row[0].text, column.group, column.label)
        for row in table.rows
        for cell, column in zip(row, table.columns, strict=True)
        if cell.bold
    }
    assert bold == {
        ("logitnorm", group, "near")
        for group in ("FPR95 (ID+)", "FPR95 (OOD+)", "AUROC", "AUPR-in", "AUPR-out")
    }


def test_a_baseline_is_bold_where_every_other_arm_is_worse() -> None:
    spec = dataclasses.replace(with_arms("logitnorm", "cross_entropy"))
    table = main_of(spec, whole_story(spec))
    index = next(i for i, c in enumerate(table.columns) if (c.group, c.label) == ("FPR95 (ID+)", "near"))
    assert [row[index].bold for row in table.rows] == [True, False]


def test_missing_seeds_are_shown_with_their_reason() -> None:
    story = Story().opened()
    story.configured("hem", 0, {"lr": 0.1})
    for seed in (100, 101):
        story.confirmed("hem", 0, seed, confirm_metrics(SPEC, 0.3, 0.1))
    story.finished(story.started("hem", "confirm", 0, 102), "failed", {}, reason="out of memory")
    story.started("hem", "confirm", 0, 103)
    assert seed_count(SPEC, story.record(), "hem") == "2 of 5 (1 failed, 2 not finished)"
    assert seed_count(SPEC, story.record(), "logitnorm") == "0 of 5 (5 not finished)"
    story.add("unselected", arm="logitnorm", reason="all failed")
    assert seed_count(SPEC, story.record(), "logitnorm") == "0 of 5 (nothing selected)"
    assert seed_count(SPEC, whole_story().record(), "hem") == "5"


def test_a_metric_that_is_not_finite_is_left_out_of_the_mean() -> None:
    story = whole_story(with_arms("cross_entropy", "hem"))
    metrics = story.events[-2]["metrics"]
    metrics["test/accuracy"] = math.nan
    spec = story.spec
    accuracies = column(main_of(spec, story), "Accuracy", "")
    assert not any("nan" in text for text in accuracies)


def test_prevalence_is_stated_beside_aupr() -> None:
    notes = " ".join(main_of(SPEC, whole_story()).notes)
    assert "near 60 %, far 25 %" in notes


def test_before_the_first_confirm_trial_there_is_a_sentence_and_no_table() -> None:
    table = main_of(SPEC, Story().opened())
    assert table.rows == ()
    assert table.empty.startswith("No confirm trial has finished yet")


def test_the_comparison_table_shows_both_p_values_and_the_verdict() -> None:
    table = comparison_table(SPEC, compare(SPEC, whole_story().record()))
    labels = [c.label for c in table.columns]
    first = dict(zip(labels, (cell.text for cell in table.rows[0]), strict=True))
    assert first["arm"] == "logitnorm"
    assert first["sign-flip p"] == ".062"
    assert first["verdict"] == "better"
    assert first["pairs"] == "5"


def test_the_notes_explain_what_this_study_measured_and_did() -> None:
    searched = " ".join(main_table(SPEC, whole_story().record(), ()).notes)
    assert "the search was run once" in searched
    assert "FPR95 (ID+)" in searched
    fixed = {n: dataclasses.replace(a, space={"lr": Term("fixed", (0.1,))}) for n, a in SPEC.arms.items()}
    plain = dataclasses.replace(SPEC, arms=fixed, evaluation=EvaluationConfig(("calibration",)))
    table = main_table(plain, whole_story().record(), ())
    notes = " ".join(table.notes)
    assert table.title == "Test results"
    assert "TS: temperature scaling" in notes
    assert "search was run" not in notes
    assert "FPR95" not in notes
