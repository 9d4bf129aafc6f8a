from __future__ import annotations

import dataclasses

from orchestrator.report.measured import measured_cell
from orchestrator.report.readings import describe
from orchestrator.report.runs import run_filter, run_urls, runs_table
from orchestrator.tracking.whereabouts import Whereabouts

from .protocol_stories import STUDY, protocol_story
from .stories import SPEC, Story, whole_story


def test_a_filter_finds_the_confirm_runs_of_an_arm_in_a_regime_of_this_very_study() -> None:
    story = protocol_story()
    story.events[0]["instance"] = "4711"
    record = story.record()
    trial = record.arms["hem"].confirms["continual/replay"][101]
    assert run_filter(record, trial) == (
        "tags.`orchestrate.arm` = 'hem' AND tags.`orchestrate.stage` = 'confirm' AND "
        "tags.`orchestrate.regime` = 'continual/replay' AND tags.`orchestrate.instance` = '4711'"
    )
    # With a second search, whose winner was confirmed too.
    record.search("hem", 1)
    assert "tags.`orchestrate.repeat` = '0'" in run_filter(record, trial)


def test_a_trial_that_regimes_share_is_looked_for_where_it_was_recorded() -> None:
    story = protocol_story()
    # The runs in MLflow have the regime for which they were trained.
    for seed in STUDY.confirm.seeds:
        key = f"hem-confirm-0-{seed}"
        story.add("shared", arm="hem", regime="turned/naive", seed=seed, key=key)
    record = story.record()
    shared = record.arms["hem"].confirms["turned/naive"][100]
    assert "'standard'" in run_filter(record, shared)


def test_the_table_lists_every_confirm_trial_by_its_seed() -> None:
    story = whole_story()
    story.events[-2].update(state="failed", metrics={}, reason="the loss is NaN")
    table = runs_table(SPEC, story.record())
    assert [row[0].text for row in table.rows] == ["cross_entropy", "logitnorm", "hem"]
    assert table.rows[2][2].text == (
        "100: hem-confirm-1-100, 101: hem-confirm-1-101, 102: hem-confirm-1-102, 103: hem-confirm-1-103, "
        "104: hem-confirm-1-104 (failed)"
    )
    assert "the experiment digits" in table.notes[1]
    named = dataclasses.replace(SPEC, tracking=dataclasses.replace(SPEC.tracking, experiment="mine"))
    assert "the experiment mine" in runs_table(named, story.record()).notes[1]


def test_before_any_confirm_trial_the_table_says_so() -> None:
    table = runs_table(SPEC, Story().opened().record())
    assert (table.rows, table.empty) == ((), "No confirm trial has started yet.")


def test_a_cell_knows_the_trials_of_its_finite_values() -> None:
    story = whole_story()
    event = next(e for e in story.events if e.get("key") == "hem-confirm-1-102" and e["event"] == "finished")
    event["metrics"]["test/accuracy"] = float("nan")
    cell = measured_cell(SPEC, story.record(), "hem", describe("test/accuracy", "msp"))
    assert cell.source is not None
    assert (cell.source.arm, cell.source.regime) == ("hem", "standard")
    assert cell.source.keys == tuple(f"hem-confirm-1-{seed}" for seed in (100, 101, 103, 104))


def test_only_a_server_has_pages_to_link() -> None:
    record = protocol_story().record()
    urls = run_urls(STUDY, record, Whereabouts("http://mlflow.example", "3"))
    # Three arms in six regimes, but for the one that hem cannot be trained in.
    assert len(urls) == 17
    assert ("hem", "long_tailed/drw") not in urls
    assert urls["hem", "continual/replay"].startswith(
        "http://mlflow.example/#/experiments/3/runs?workflowType=machine_learning&searchFilter="
    )
    assert run_urls(STUDY, record, Whereabouts("sqlite:///x.db", "3")) == {}
    assert run_urls(STUDY, record, None) == {}
