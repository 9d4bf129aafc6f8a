from __future__ import annotations

from orchestrator.report.contents import assemble
from orchestrator.report.cost import cost_table

from .protocol_stories import STUDY, protocol_story
from .stories import SPEC, whole_story


def test_cost_is_that_of_the_complete_trials_of_a_regime() -> None:
    story = protocol_story()
    ends = [e for e in story.events if e["event"] == "finished" and "hem" in e["key"]]
    # The last three: hem in turned/naive, on seeds 100 to 102.
    for event, seconds in zip(ends[-3:], (3.0, 5.0, 7.0), strict=True):
        event["seconds"] = seconds
    ends[-1].update(state="failed", metrics={})
    table = cost_table(STUDY, story.record())
    rows = {(row[0].text, row[1].text): [cell.text for cell in row[2:]] for row in table.rows}
    # Mean and standard deviation of 3 and 5, and of 1100 and 1101.
    assert rows["hem", "turned/naive"] == ["2", "4.0 ± 1.4", "1100 ± 1"]
    assert rows["hem", "standard"] == ["3", "2.0 ± 0.0", "1101 ± 1"]
    assert ("hem", "long_tailed/drw") not in rows
    assert list(rows)[:4] == [
        ("cross_entropy", "standard"),
        ("logitnorm", "standard"),
        ("hem", "standard"),
        ("cross_entropy", "long_tailed/plain"),
    ]


def test_a_standard_study_that_chooses_no_images_has_no_cost_table() -> None:
    story = whole_story()
    assert cost_table(SPEC, story.record()).rows == ()
    assert "cost" not in assemble(SPEC, story.record()).evaluations


def test_chosen_images_are_shown_as_shares_of_the_last_epoch() -> None:
    story = whole_story()
    for event in story.events:
        if event["event"] == "finished" and event["key"].startswith("hem-confirm"):
            event["metrics"]["train/skipped"] = 0.25
            event["metrics"]["train/stressed"] = 0.5
    table = cost_table(SPEC, story.record())
    assert [column.label for column in table.columns] == [
        "arm",
        "regime",
        "n",
        "busy seconds",
        "skipped, %",
        "stressed, %",
    ]
    assert [cell.text for cell in table.rows[2]] == [
        "hem",
        "standard",
        "5",
        "1.5 ± 0.0",
        "25.0 ± 0.0",
        "50.0 ± 0.0",
    ]
    assert [cell.text for cell in table.rows[0][4:]] == ["n/a", "n/a"]
    assert "Skipped: sat out" in table.notes[1]
