from __future__ import annotations

import dataclasses
import statistics

import pytest

from orchestrator.report.cells import Table
from orchestrator.report.contents import assemble
from orchestrator.report.protocol_tables import compact, protocol_table, protocol_tables
from orchestrator.report.text import table_text
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import ProtocolSpec
from workloads.protocol_config import ContinualConfig, LongTailedConfig

from .protocol_stories import (
    PROTOCOLS,
    REASON,
    STUDY,
    confirm_in,
    matrix_of,
    protocol_story,
    with_protocols,
)
from .stories import Story


def rows_of(table: Table) -> dict[tuple[str, str], dict[str, str]]:
    """Cells by arm and variant, then by heading."""
    heads = [f"{c.group} {c.label}".strip() for c in table.columns]
    return {
        (row[0].text, row[1].text): dict(zip(heads, (cell.text for cell in row), strict=True))
        for row in table.rows
    }


def shown(values: list[float]) -> str:
    return f"{100 * statistics.mean(values):.2f} ± {100 * statistics.stdev(values):.2f}"


def test_every_cell_of_long_tailed_training_is_of_its_regime_and_arm() -> None:
    record = protocol_story().record()
    table = protocol_table(STUDY, record, "long_tailed")
    names = {
        "accuracy balanced": "imbalance/balanced_accuracy",
        "accuracy worst class": "imbalance/worst_class",
        "accuracy by class size many": "imbalance/accuracy/many",
        "accuracy by class size medium": "imbalance/accuracy/medium",
        "accuracy by class size few": "imbalance/accuracy/few",
        "mean over classes macro-F1": "imbalance/macro_f1",
        "mean over classes G-mean": "imbalance/g_mean",
        "ECE by class size many": "imbalance/ece_15/many",
        "ECE by class size medium": "imbalance/ece_15/medium",
        "ECE by class size few": "imbalance/ece_15/few",
        "AUROC near": "ood/near/msp/auroc",
        "AUROC far": "ood/far/msp/auroc",
    }
    found = rows_of(table)
    for arm, method in found:
        if (arm, method) == ("hem", "drw"):
            continue
        trials = record.arms[arm].confirms[f"long_tailed/{method}"].values()
        expected = {head: shown([t.metrics[name] for t in trials]) for head, name in names.items()}
        assert found[arm, method] == {"arm": arm, "method": method, "n": "3", **expected}
    # The worst class of logitnorm under drw has .5 + 2 (.02 + .01) + luck.
    assert found["logitnorm", "drw"]["accuracy worst class"] == "56.00 ± 1.00"


def test_arms_of_one_method_stand_together_with_the_baseline_first() -> None:
    spec = dataclasses.replace(STUDY, baseline="logitnorm")
    table = protocol_table(spec, protocol_story(spec).record(), "long_tailed")
    arms = ["logitnorm", "cross_entropy", "hem"]
    assert list(rows_of(table)) == [(arm, method) for method in ("plain", "drw") for arm in arms]


def test_an_arm_that_was_not_trained_has_a_row_that_says_why() -> None:
    table = protocol_table(STUDY, protocol_story().record(), "long_tailed")
    row = next(row for row in table.rows if (row[0].text, row[1].text) == ("hem", "drw"))
    assert row[2].text == f"not trained: {REASON}"
    assert row[2].spread
    assert {cell.text for cell in row[3:]} == {""}
    text = table_text(table, keys=3)
    assert text.count("not trained") == 1
    assert max(map(len, text.splitlines())) <= 100


def test_every_cell_of_continual_learning_follows_from_the_matrix() -> None:
    record = protocol_story().record()
    row = rows_of(protocol_table(STUDY, record, "continual"))["hem", "replay"]
    accuracies, incremental, learning, best, first = [], [], [], [], []
    for seed in STUDY.confirm.seeds:
        R = [[v or 0.0 for v in r] for r in matrix_of(STUDY, "hem", "continual/replay", seed)]
        accuracies.append(sum(R[2]) / 3)
        incremental.append((R[0][0] + (R[1][0] + R[1][1]) / 2 + sum(R[2]) / 3) / 3)
        learning.append((R[0][0] + R[1][1] + R[2][2]) / 3)
        first.append((R[0][0] - R[2][0] + R[1][1] - R[2][1]) / 2)
        # The first task is best known after the second.
        best.append((R[1][0] - R[2][0] + R[1][1] - R[2][1]) / 2)
    assert row["accuracy ACC"] == shown(accuracies)
    assert row["accuracy avg. incremental"] == shown(incremental)
    assert row["accuracy learning"] == shown(learning)
    assert (row["forgetting from best"], row["forgetting from first"]) == (shown(best), shown(first))
    assert row["transfer BWT"] == shown([-value for value in first])
    assert row["task told masked ACC"] == shown([value / 2 + 0.5 for value in accuracies])
    assert (row["AUROC near"], row["AUROC far"]) == ("60.00 ± 0.00", "70.00 ± 0.00")
    assert (row["ECE before TS"], row["ECE after TS"]) == ("20.00 ± 0.00", "10.00 ± 0.00")
    assert "transfer FWT" not in row


def test_a_joint_run_has_only_what_is_measured_at_the_end() -> None:
    row = rows_of(protocol_table(STUDY, protocol_story().record(), "continual"))["hem", "joint"]
    assert row["accuracy ACC"] == "96.00 ± 1.00"
    assert row["forgetting from best"] == row["accuracy learning"] == row["transfer BWT"] == "n/a"


def test_each_entry_has_its_own_table_and_file() -> None:
    tables = protocol_tables(STUDY, protocol_story().record())
    assert {name: table.title for name, table in tables.items()} == {
        "long_tailed": "Long-tailed training",
        "continual": "Continual learning",
        "continual-turned": "Continual learning: turned",
    }
    row = rows_of(tables["continual-turned"])["cross_entropy", "naive"]
    assert row["transfer FWT"] == "5.00 ± 0.00"
    assert "task told masked ACC" not in row


def test_entries_named_like_other_files_do_not_replace_them() -> None:
    spec = dataclasses.replace(
        STUDY,
        protocols={
            **PROTOCOLS,
            "trials": ProtocolSpec("long_tailed", ("plain",), LongTailedConfig()),
            "calibration": ProtocolSpec("continual", ("naive",), ContinualConfig()),
        },
    )
    assert set(protocol_tables(spec, Story(spec).opened().record())) >= {
        "long_tailed-trials",
        "continual-calibration",
    }


def test_a_table_says_what_its_regimes_are() -> None:
    tables = protocol_tables(STUDY, protocol_story().record())
    notes = " ".join(tables["long_tailed"].notes)
    assert "factor 15; 220 training images, 150 of the largest class and 10 of the smallest." in notes
    assert "many (more than 100 training images), medium (20 to 100) and few (fewer than 20)" in notes
    assert "plain, the loss as it is; drw, images weighted by 1 / effective number" in notes
    assert "crt" not in notes
    notes = " ".join(tables["continual"].notes)
    # The entry's own recipe has four epochs, the study's ten.
    assert "3 tasks of 4 epochs each, groups of classes; classes drawn by the seed" in notes
    assert "40 images in a reservoir" in notes
    assert "Masked ACC" in notes
    assert "FWT" not in notes
    notes = " ".join(tables["continual-turned"].notes)
    assert "3 tasks of 10 epochs each, all classes, the images rotated" in notes
    assert "angles in their natural order" in notes
    assert "those of the whole stream" in notes
    assert "reservoir" not in notes


def test_classes_that_are_cut_into_thirds_are_said_to_be() -> None:
    story = protocol_story()
    for event in story.events:
        if "imbalance/train_images/0" in event.get("metrics", {}):
            event["metrics"]["imbalance/train_images/0"] = 90.0
    notes = " ".join(protocol_table(STUDY, story.record(), "long_tailed").notes)
    assert "thirds of the classes, sorted by training images; many 1 class, medium 1 class, few 1" in notes
    assert "more than 100" not in notes


def test_a_running_study_shows_what_has_begun_and_names_the_rest() -> None:
    story = Story(STUDY).opened()
    for arm in STUDY.arms:
        story.configured(arm, 0, {"lr": 0.1})
    confirm_in(story, "hem", "long_tailed/plain", (100,))
    story.started("cross_entropy", "confirm", 0, 100, regime="long_tailed/drw")
    tables = protocol_tables(STUDY, story.record())
    rows = rows_of(tables["long_tailed"])
    assert [key[1] for key in rows] == ["plain"] * 3
    assert rows["hem", "plain"]["n"] == "1 of 3 (2 not finished)"
    assert rows["hem", "plain"]["accuracy balanced"] == "70.00"
    assert rows["cross_entropy", "plain"]["accuracy balanced"] == "n/a"
    assert "No trial has finished yet: drw." in tables["long_tailed"].notes
    assert tables["continual"].rows == ()
    contents = assemble(STUDY, story.record())
    assert "continual" not in contents.evaluations
    assert "long_tailed" in contents.evaluations


def test_a_failed_trial_is_left_out_and_counted() -> None:
    story = protocol_story()
    key = next(e["key"] for e in story.events if e["event"] == "started" and e["regime"] == "long_tailed/drw")
    end = next(e for e in story.events if e["event"] == "finished" and e["key"] == key)
    end.update(state="failed", metrics={}, reason="the loss is NaN")
    row = rows_of(protocol_table(STUDY, story.record(), "long_tailed"))["cross_entropy", "drw"]
    assert row["n"] == "2 of 3 (1 failed)"
    # Without the seed of least luck, .75 + .01 + 0 and + .01.
    assert row["accuracy balanced"] == shown([0.76, 0.77])


@pytest.mark.parametrize(("entry", "name"), [("long_tailed", "plain"), ("continual", "replay")])
def test_a_terminal_has_room_for_the_compact_table(entry: str, name: str) -> None:
    table = protocol_table(STUDY, protocol_story().record(), entry)
    small = compact(STUDY, table, regimes(STUDY)[f"{entry}/{name}"])
    lines = table_text(small, keys=3, notes=False).splitlines()
    # One block: a heading, a rule and the rows.
    assert len(lines) == 2 + len(table.rows)
    assert max(map(len, lines)) <= 100
    assert rows_of(small)["logitnorm", name]["AUROC far"] == rows_of(table)["logitnorm", name]["AUROC far"]


def test_the_compact_table_counts_seeds_in_few_words() -> None:
    story = protocol_story(skip=False)
    story.events.pop()
    end = next(e for e in reversed(story.events) if "hem" in e["key"] and "drw" in e["key"])
    end.update(state="failed", metrics={}, reason="the loss is NaN")
    table = protocol_table(STUDY, story.record(), "long_tailed")
    small = compact(STUDY, table, regimes(STUDY)["long_tailed/drw"])
    assert rows_of(table)["hem", "drw"]["n"] == "2 of 3 (1 failed)"
    assert rows_of(small)["hem", "drw"]["n"] == "2 of 3"


@pytest.mark.parametrize(
    ("entries", "title", "groups"),
    [
        (
            ("long_tailed",),
            "Test results, long_tailed/plain, msp score",
            ["Balanced accuracy", "accuracy by class size", "worst class", "FPR95 (ID+)"],
        ),
        (
            ("turned",),
            "Test results, turned/naive, msp score",
            ["ACC", "avg. incremental", "learning", "forgetting", "BWT", "FWT", "AUROC near"],
        ),
        (
            ("continual",),
            "Test results, continual/joint, msp score",
            ["ACC", "masked ACC", "AUROC near", "AUROC far", "ECE before TS", "ECE after TS"],
        ),
    ],
)
def test_a_study_of_one_protocol_begins_with_its_metrics(
    entries: tuple[str, ...], title: str, groups: list[str]
) -> None:
    spec = with_protocols(*entries)
    contents = assemble(spec, protocol_story(spec).record())
    assert contents.main.title == title
    found = list(dict.fromkeys(column.group for column in contents.main.columns[2:]))
    assert found[: len(groups)] == groups
    assert contents.axes.rows == ()
    assert contents.answers
    assert all(cell.text != "n/a" for row in contents.main.rows for cell in row)
    assert not [text for text in contents.main.notes if "FPR95" in text and entries != ("long_tailed",)]
