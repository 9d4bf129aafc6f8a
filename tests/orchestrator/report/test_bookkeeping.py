from __future__ import annotations

from orchestrator.report.bookkeeping import chosen_table, failures_table
from orchestrator.report.budget import budget_table
from orchestrator.report.cells import Table
from orchestrator.report.provenance import provenance_table

from .protocol_stories import STUDY, protocol_story
from .stories import SPEC, Story, whole_story, with_arms


def rows_of(table: Table) -> list[dict[str, str]]:
    heads = [f"{c.group} {c.label}".strip() for c in table.columns]
    return [dict(zip(heads, (cell.text for cell in row), strict=True)) for row in table.rows]


def test_budgets_count_every_search_trial_by_how_it_ended() -> None:
    row = rows_of(budget_table(SPEC, whole_story().record()))[1]
    # Eight configurations of two seeds, of which number 6 got one.
    assert row["configurations"] == "8"
    assert row["search trials started"] == "15"
    ends = [row[f"search trials {state}"] for state in ("complete", "pruned", "failed", "running", "retries")]
    assert ends == ["12", "2", "1", "0", "0"]


def test_saved_time_is_the_epochs_not_run_at_the_mean_epoch() -> None:
    row = rows_of(budget_table(SPEC, whole_story().record()))[0]
    # Two pruned trials stopped at 5 of 10 epochs, one seed of 10 epochs never started; .15 s an epoch.
    assert (row["saved epochs"], row["saved time"]) == ("20", "3.0 s")
    assert row["busy time confirm"] == "7.5 s"


def test_chosen_parameters_are_those_of_the_selected_configuration() -> None:
    story = Story(with_arms("logitnorm")).opened()
    story.configured("logitnorm", 0, {"tau": 0.5, "lr": 0.2})
    story.configured("logitnorm", 1, {"tau": 0.31622, "lr": 0.05})
    story.searched("logitnorm", 1, 0, 0.125, auroc=0.9)
    story.searched("logitnorm", 1, 1, 0.25, auroc=0.8)
    story.selected("logitnorm", 1, {"tau": 0.31622, "lr": 0.05}, 0.1875)
    (row,) = rows_of(chosen_table(story.spec, story.record()))
    assert row["parameters"] == "tau = 0.3162, lr = 0.05"
    assert row["configuration"] == "no. 1 of 2"
    # Means over the two search seeds: (.125 + .25) / 2 and (.9 + .8) / 2.
    assert (row["noise FPR95"], row["noise AUROC"], row["guard"]) == ("18.8", "85.00", "met")


def test_an_unmet_guard_and_a_missing_selection_are_said() -> None:
    story = Story(with_arms("cross_entropy", "hem")).opened()
    story.configured("hem", 0, {"lr": 0.1})
    story.selected("hem", 0, {"lr": 0.1}, 1.6)
    still, unmet = rows_of(chosen_table(story.spec, story.record()))
    assert still["why"] == "still searching"
    assert unmet["guard"] == "not met"


def test_failures_name_the_trial_and_the_reason_also_after_a_retry() -> None:
    story = Story().opened()
    story.configured("hem", 0, {"lr": 0.1})
    key = story.started("hem", "search", 0, 0)
    story.add("attempt_failed", key=key, reason="the worker was lost", seconds=2.0)
    story.started("hem", "search", 0, 0, attempt=2)
    story.finished(key, "complete", {})
    story.finished(story.started("hem", "search", 0, 1), "failed", {}, reason="the loss is NaN")
    story.add("unselected", arm="hem", reason="no configuration ran to its end")
    retried, failed, arm = rows_of(failures_table(SPEC, story.record()))
    assert (retried["outcome"], retried["reason"]) == ("complete after retry", "the worker was lost")
    assert (failed["outcome"], failed["seed"], failed["reason"]) == ("failed", "1", "the loss is NaN")
    assert arm["reason"] == "no configuration ran to its end"


def test_provenance_holds_what_a_repetition_needs() -> None:
    shown = {row["what"]: row["value"] for row in rows_of(provenance_table(SPEC, whole_story().record()))}
    assert shown["command"] == "orchestrate study 'studies/my digits.yaml'"
    assert shown["commit"] == "0123abcd"
    assert shown["versions: torch"] == "2.15.0"
    assert shown["data: image_shape"] == "1 x 8 x 8"
    assert shown["confirm seeds"] == "100, 101, 102, 103, 104"


def test_each_data_set_has_one_line_of_provenance() -> None:
    record = whole_story().record()
    sets = {"train": {"kind": "train", "size": 434, "hash": "aff7"}, "blobs": {"kind": "far", "size": 9}}
    record.sessions[-1] = {**record.sessions[-1], "data": {"hash": "feed", "sets": sets}}
    shown = {row["what"]: row["value"] for row in rows_of(provenance_table(SPEC, record))}
    assert shown["data: sets: train"] == "kind train, size 434, hash aff7"
    assert shown["data: sets: blobs"] == "kind far, size 9"
    assert shown["data: hash"] == "feed"


def test_budgets_and_failures_are_of_all_regimes() -> None:
    story = protocol_story()
    for event in story.events:
        if event["event"] == "finished" and event["key"] == "hem-confirm-0-101-turned-naive":
            event.update(state="failed", reason="the loss is NaN")
    rows = {row["arm"]: row for row in rows_of(budget_table(STUDY, story.record()))}
    # Six regimes on three seeds, two seconds each (with luck of -.01, 0 and .01); hem in five of them.
    assert rows["logitnorm"]["busy time confirm"] == "36.0 s"
    assert rows["hem"]["busy time confirm"] == "30.0 s"
    (failed,) = rows_of(failures_table(STUDY, story.record()))
    assert (failed["stage"], failed["seed"], failed["reason"]) == (
        "confirm turned/naive",
        "101",
        "the loss is NaN",
    )


def test_provenance_says_what_each_regime_is() -> None:
    shown = {row["what"]: row["value"] for row in rows_of(provenance_table(STUDY, protocol_story().record()))}
    assert shown["confirmed in: standard"] == "standard protocol"
    assert shown["confirmed in: long_tailed"].startswith("long_tailed: plain, drw; profile exp, factor 15,")
    continual = shown["confirmed in: continual"]
    assert continual.startswith("continual: joint, replay; scenario class_il, stream split, tasks 3,")
    assert continual.endswith("parameters of the search's winner; training: epochs 4")
    assert shown["confirmed in: turned"].endswith("ood_images 2000; parameters at their defaults")
    standard = {row["what"] for row in rows_of(provenance_table(SPEC, whole_story().record()))}
    assert not [name for name in standard if name.startswith("confirmed in")]
