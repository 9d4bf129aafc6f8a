"""What each search spent, beside what it was given."""

from __future__ import annotations

import dataclasses

import pytest

from orchestrator.report.budget import budget_table, unequal_spending
from orchestrator.report.cautions import cautions
from orchestrator.study.spec import ArmSpec, BudgetSpec

from .stories import SPEC, Story, whole_story
from .test_selection import REPEATED, repeated_story, rows

LIMITED = dataclasses.replace(SPEC, budget=BudgetSpec(trials=12, device_seconds=90.0))


def spending() -> Story:
    """Three search trials of hem: one complete, one pruned, both at their second attempt; one failed."""
    story = Story(LIMITED).opened()
    story.configured("hem", 0, {"lr": 0.1})
    for seed, state, seconds in ((0, "complete", 4.0), (1, "pruned", 2.0)):
        key = story.started("hem", "search", 0, seed)
        story.add("attempt_failed", key=key, reason="lost: gone", seconds=1.5)
        story.started("hem", "search", 0, seed, attempt=2)
        story.finished(key, state, {}, seconds)
    story.configured("hem", 1, {"lr": 0.2})
    key = story.started("hem", "search", 1, 0)
    for _ in range(2):
        story.add("attempt_failed", key=key, reason="exception: no", seconds=0.5)
    story.finished(key, "failed", {}, 0.0, "exception: no")
    return story


def hem(story: Story) -> dict[str, str]:
    return next(r for r in rows(budget_table(story.spec, story.record())) if r["arm"] == "hem")


def test_retries_are_counted_apart_from_trials_and_their_time_apart_from_that_of_pruned_ones() -> None:
    row = hem(spending())
    assert [row[f"search trials {name}"] for name in ("started", "complete", "pruned", "failed")] == [
        *("3", "1", "1", "1")
    ]
    # One retry each of the first two, one of the third: its second failure was the last.
    assert row["search trials retries"] == "3"
    # 4 + 2 of ends, 2 x 1.5 + 2 x .5 of failed attempts.
    assert (row["busy time search"], row["busy time of it pruned"]) == ("10.0 s", "2.0 s")
    assert row["busy time of it failed attempts"] == "4.0 s"


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("trials", "yes, by its trials"),
        ("device_seconds", "yes, by its busy time"),
        ("wall_seconds", "yes, by the study's time"),
    ],
)
def test_the_table_says_what_each_search_was_given_and_whether_that_ended_it(limit: str, words: str) -> None:
    story = spending()
    assert (hem(story)["budget limit"], hem(story)["budget ended the search"]) == (
        "12 trials, 1 min 30 s",
        "not yet",
    )
    story.add("budget_spent", arm="hem", limit=limit, allowed=12, spent=12)
    assert hem(story)["budget ended the search"] == words
    free = spending()
    free.selected("hem", 0, {"lr": 0.1})
    assert hem(free)["budget ended the search"] == "no"
    fixed = dataclasses.replace(LIMITED, arms={**SPEC.arms, "hem": ArmSpec("hem", "hem", {})})
    free.spec = fixed
    assert hem(free)["budget limit"] == "nothing to search"


def test_without_a_budget_no_column_speaks_of_one() -> None:
    heads = {c.group for c in budget_table(SPEC, whole_story().record()).columns}
    assert "budget" not in heads
    assert "repeat" not in {c.label for c in budget_table(SPEC, whole_story().record()).columns}


def test_each_repeat_has_a_row_and_no_second_is_counted_twice() -> None:
    story = repeated_story()
    first = next(e for e in story.events if e["event"] == "started" and e["key"] == "hem-again-1-100")
    story.add("shared", arm="hem", repeat=2, key=first["key"], regime="standard", seed=100)
    table = rows(budget_table(REPEATED, story.record()))
    shown = [(r["arm"], r["repeat"], r["busy time confirm"]) for r in table if r["arm"] == "hem"]
    # Five confirm trials of 1.5 s, then of 2 s each; of the last repeat one belongs to the one before.
    assert shown == [("hem", "0", "7.5 s"), ("hem", "1", "10.0 s"), ("hem", "2", "8.0 s")]


def test_arms_that_were_searched_at_unequal_cost_are_named_once_all_searches_are_over() -> None:
    story = whole_story()
    assert unequal_spending(SPEC, story.record()) == []
    ends = [e for e in story.events if e["event"] == "finished" and e["key"].startswith("hem-search")]
    usual = sum(e["seconds"] for e in ends)
    ends[0]["seconds"] += usual
    (said,) = unequal_spending(SPEC, story.record())
    other = sum(
        e["seconds"]
        for e in story.events
        if e["event"] == "finished" and e["key"].startswith("logitnorm-search")
    )
    assert (
        f"busy seconds of the search cross_entropy {other:.1f}, logitnorm {other:.1f}, hem {2 * usual:.1f}"
        in said
    )
    assert "search trials" not in said
    assert said in cautions(SPEC, story.record())
    ends[0]["seconds"] -= 0.55 * usual
    # 1.45 times the least.
    assert unequal_spending(SPEC, story.record()) == []
    ends[0]["seconds"] += usual
    story.events = [e for e in story.events if e["event"] != "selected" or e["arm"] != "logitnorm"]
    assert unequal_spending(SPEC, story.record()) == []


def test_numbers_of_trials_may_be_what_is_unequal() -> None:
    story = whole_story()
    story.events = [
        e
        for e in story.events
        if not str(e.get("key", "")).startswith(tuple(f"hem-search-{n}-" for n in (2, 3, 4)))
    ]
    # Nine search trials instead of fifteen.
    (said,) = unequal_spending(SPEC, story.record())
    assert "search trials cross_entropy 15, logitnorm 15, hem 9" in said


def test_what_repeats_cost_is_no_part_of_that_comparison() -> None:
    story = repeated_story()
    for arm, seconds in (("cross_entropy", 1.0), ("logitnorm", 1.0), ("hem", 30.0)):
        key = f"{arm}-search-again"
        where = {"arm": arm, "repeat": 2, "number": 0}
        story.add("started", key=key, stage="search", protocol="standard", seed=10_000, attempt=1, **where)
        story.finished(key, "complete", {}, seconds)
    assert story.record().arms["hem"].again[2].search_seconds == 30.0
    assert unequal_spending(REPEATED, story.record()) == []
