"""A study whose sessions were not alike says so, and claims nothing that did not train it."""

from __future__ import annotations

from typing import Any

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.cautions import cautions
from orchestrator.report.provenance import provenance_table

from .stories import SPEC, Story, whole_story
from .test_bookkeeping import rows_of

GPU, CPU = "NVIDIA H200", "AMD EPYC"


def shown(record: StudyRecord) -> dict[str, str]:
    return {row["what"]: row["value"] for row in rows_of(provenance_table(SPEC, record))}


def another_session(story: Story, at: int, **changed: Any) -> None:
    """The command was run again before an event, with other facts."""
    opened = {**story.events[0], **changed, "t": story.events[at - 1]["t"], "session": 2}
    story.events.insert(at, opened)


def told(record: StudyRecord) -> list[str]:
    return [each for each in cautions(SPEC, record) if "not all made alike" in each]


def place_of(story: Story, count: int) -> int:
    """Where so many confirm trials have begun."""
    begun = [at for at, e in enumerate(story.events) if e["event"] == "started" and e["stage"] == "confirm"]
    return begun[count]


def test_a_session_that_trained_nothing_changes_no_provenance() -> None:
    story = whole_story()
    versions = {"torch": "2.16.0", "ray": "2.61.0"}
    another_session(story, len(story.events), commit="fedc", versions=versions, hardware={"cpus": 64})
    found = shown(story.record())
    assert (found["commit"], found["versions: torch"], found["driver's machine: cpus"]) == (
        *("0123abcd", "2.15.0"),
        "2",
    )
    assert found["runs of the command"] == "2"
    assert told(story.record()) == []


def test_confirm_trials_of_several_versions_and_commits_are_counted_and_warned_of() -> None:
    story = whole_story()
    another_session(story, place_of(story, 4), commit="fedc", versions={"torch": "2.16.0", "ray": "2.60.0"})
    record = story.record()
    confirms = [t for t in record.trials.values() if t.stage == "confirm" and t.state == "complete"]
    later = len(confirms) - 4
    (said,) = told(record)
    assert f"commit 0123abcd (4 trials), fedc ({later} trials); torch 2.15.0 (4 trials), 2.16.0" in said
    assert "ray" not in said, "what trains nothing changes no number"
    of_all = sum(t.sessions == [1] for t in record.trials.values())
    assert of_all > later
    everything = shown(record)["versions: torch"]
    assert everything == f"2.15.0 ({len(record.trials) - of_all} trials), 2.16.0 ({of_all} trials)"
    assert shown(record)["versions: ray"] == "2.60.0"


def test_a_trial_that_went_on_in_another_session_counts_for_both() -> None:
    story = whole_story()
    at = place_of(story, 0)
    another_session(story, at + 1, commit="fedc")
    story.events.insert(at + 2, {**story.events[at], "attempt": 2})
    record = story.record()
    assert record.trials[story.events[at]["key"]].sessions == [0, 1]
    assert "commit 0123abcd (1 trial), fedc" in told(record)[0]


def test_the_devices_of_the_trials_are_told_and_several_are_warned_of() -> None:
    story = whole_story()
    assert "trials finished on: device" not in shown(story.record()), "of an older ledger"
    ends = [e for e in story.events if e["event"] == "finished" and e["state"] == "complete"]
    for event in ends:
        event["environment"] = {"device": GPU, "torch": "2.15.0+cu130"}
    found = shown(story.record())
    assert (found["trials finished on: device"], found["trials finished on: torch"]) == (GPU, "2.15.0+cu130")
    assert told(story.record()) == []
    ends[-1]["environment"] = {"device": CPU, "torch": "2.15.0+cu130"}
    assert f"device {CPU} (1 trial), {GPU}" in told(story.record())[0]
    ends[-1]["environment"] = {"device": GPU, "torch": "2.16.0"}
    (said,) = told(story.record())
    assert "torch 2.15.0+cu130 (" in said, "a node of the cluster has another version"
    assert "2.16.0 (1 trial)" in said
    assert "device" not in said
