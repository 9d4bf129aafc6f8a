"""A clock that is set back or forward while a study runs: times in the record stay in order."""

from __future__ import annotations

from typing import Any

from orchestrator.campaign.record import StudyRecord

DAY = 86400.0


def events(*times: float) -> list[dict[str, Any]]:
    """A study with one confirm trial of two epochs, each event at its time."""
    own: list[dict[str, Any]] = [
        {"event": "opened", "study": "s", "arms": ["a"]},
        {"event": "configured", "arm": "a", "number": 0, "params": {"lr": 0.1}},
        {"event": "started", "key": "k", "arm": "a", "stage": "confirm", "protocol": "standard", "number": 0}
        | {"seed": 100, "attempt": 1},
        {"event": "reported", "key": "k", "epoch": 1, "metrics": {}},
        {"event": "reported", "key": "k", "epoch": 2, "metrics": {}},
        {"event": "finished", "key": "k", "state": "complete", "metrics": {}, "seconds": 1.0, "reason": ""},
        {"event": "closed", "reason": "done"},
    ]
    return [{**event, "t": t} for event, t in zip(own, times, strict=True)]


def all_times(record: StudyRecord) -> list[float]:
    trial = record.trials["k"]
    assert trial.ended is not None
    reported = list(trial.report_times.values())
    return [record.sessions[0]["t"], trial.started, *reported, trial.ended, record.closed[0]["t"]]


def test_a_clock_that_runs_on_is_taken_at_its_word() -> None:
    record = StudyRecord.fold(events(10, 11, 12, 13, 14, 15, 16))
    assert all_times(record) == [10, 12, 13, 14, 15, 16]


def test_a_clock_that_was_set_back_stands_until_it_has_caught_up() -> None:
    record = StudyRecord.fold(events(10, 11, 12, 12 - DAY, 13 - DAY, 15, 14))
    assert all_times(record) == [10, 12, 12, 12, 15, 15]


def test_the_events_themselves_stay_as_they_are() -> None:
    given = events(10, 9, 8, 7, 6, 5, 4)
    StudyRecord.fold(given)
    assert [event["t"] for event in given] == [10, 9, 8, 7, 6, 5, 4]


def test_a_session_measures_itself_whatever_the_time_of_day_says() -> None:
    given = events(10, 10 + DAY, 10 - DAY, 11, 12, 13 + DAY, 14)
    for k, event in enumerate(given[1:], 1):
        event["up"] = float(k)
    record = StudyRecord.fold([*given, {"event": "opened", "study": "s", "arms": ["a"], "t": 5.0}])
    assert (record.earlier_seconds, record.session_seconds) == (6.0, 0.0)
