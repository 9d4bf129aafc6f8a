"""The status of a study, from its record alone."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import Any

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.status_text import status_text
from orchestrator.study.spec import ArmSpec, BudgetSpec, ConfirmSpec, SearchSpec
from workloads.catalogue import Term

from .test_dump import SPEC

TAU = Term("uniform", (0.001, 1.0))
STUDY = dataclasses.replace(
    SPEC,
    arms={**SPEC.arms, "logitnorm": ArmSpec("logitnorm", "logitnorm", {"tau": TAU})},
    search=SearchSpec(trials=5),
    confirm=ConfirmSpec((100, 101)),
)
START = 1_700_000_000.0
COMMAND = ["orchestrate", "study", "'my study.yaml'"]


def opened(t: float) -> dict[str, Any]:
    arms = list(STUDY.arms)
    return {"event": "opened", "t": t, "study": "small", "arms": arms, "command": COMMAND}


def configured(arm: str, number: int, **params: float) -> dict[str, Any]:
    return {"event": "configured", "t": START, "arm": arm, "number": number, "params": params}


def started(key: str, arm: str, number: int, stage: str = "search", seed: int = 0) -> dict[str, Any]:
    where = {"arm": arm, "stage": stage, "protocol": "standard", "number": number, "seed": seed}
    return {"event": "started", "t": START, "key": key, "attempt": 1, **where}


def finished(key: str, state: str, reason: str = "") -> dict[str, Any]:
    return {
        "event": "finished",
        "t": START,
        "key": key,
        "state": state,
        "metrics": {},
        "seconds": 2.0,
        "reason": reason,
    }


def settled(arm: str, number: int, state: str, value: float | None) -> dict[str, Any]:
    where = {"arm": arm, "number": number, "state": state, "value": value}
    return {"event": "settled", "t": START, "reason": "", **where}


EVENTS = [
    opened(START),
    configured("logitnorm", 0, tau=0.5),
    configured("logitnorm", 1, tau=0.25),
    configured("logitnorm", 2, tau=0.0123456),
    configured("logitnorm", 3, tau=0.9),
    started("a", "logitnorm", 0),
    finished("a", "complete"),
    settled("logitnorm", 0, "complete", 0.3),
    started("b", "logitnorm", 1),
    finished("b", "complete"),
    settled("logitnorm", 1, "complete", 0.125),
    started("c", "logitnorm", 2),
    finished("c", "failed", "the loss became NaN in epoch 3"),
    settled("logitnorm", 2, "failed", None),
    started("d", "logitnorm", 3),
]


def shown(*more: dict[str, Any], running: bool = False, written: float = START + 60) -> str:
    record = StudyRecord.fold([*EVENTS, *more])
    now = START + 100
    return status_text(STUDY, record, Path("out/small"), running=running, written=written, now=now)


def test_configurations_are_counted_by_state_and_the_trials_that_ended() -> None:
    row = next(line for line in shown().splitlines() if line.startswith("  logitnorm  "))
    assert re.split(r"  +", row.strip()) == [
        "logitnorm",
        "4 of at most 5",
        *("1", "2", "0", "1"),
        "3 of 4",
        "0 of 2",
    ]


def test_the_best_finished_configuration_is_shown_with_its_value() -> None:
    assert "  logitnorm: best so far tau=0.25, noise FPR95 0.1250" in shown()
    assert "  cross_entropy: no finished configuration yet" in shown()


def test_a_value_above_one_is_called_what_it_is() -> None:
    better = [{**settled("logitnorm", n, "complete", 1.5)} for n in (0, 1)]
    record = StudyRecord.fold([*(e for e in EVENTS if e["event"] != "settled"), *better])
    text = status_text(STUDY, record, Path("out"), running=False, written=START, now=START)
    assert "tau=0.5, but its validation accuracy is too low" in text


def test_failed_trials_are_listed_with_their_reason() -> None:
    lines = shown().splitlines()
    failed = re.split(r"  +", lines[lines.index("Failed trials") + 1].strip())
    assert failed == ["logitnorm", "search", "seed 0", "c", "the loss became NaN in epoch 3 (1 attempt)"]


def test_a_stopped_study_says_how_to_go_on_and_a_running_one_does_not() -> None:
    assert shown().splitlines()[0] == "Study small: stopped"
    assert shown().splitlines()[-1] == "To go on: orchestrate study 'my study.yaml'"
    assert shown(running=True).splitlines()[0] == "Study small: running"
    assert "To go on" not in shown(running=True)


def test_a_finished_study_says_how_to_see_the_result() -> None:
    ends = [
        {"event": "unselected", "t": START, "arm": "cross_entropy", "reason": "nothing met the guard"},
        {"event": "selected", "t": START, "arm": "logitnorm", "number": 1},
        *(started(f"s{seed}", "logitnorm", 1, "confirm", seed) for seed in (100, 101)),
        *(finished(f"s{seed}", "complete") for seed in (100, 101)),
    ]
    text = shown(*ends)
    assert text.splitlines()[0] == "Study small: done"
    assert "  logitnorm: selected tau=0.25, noise FPR95 0.1250" in text
    assert "  cross_entropy: no winner (nothing met the guard)" in text
    assert "2 of 2" in text
    assert text.splitlines()[-1] == "To see the result: orchestrate report out/small"
    assert shown(*ends[:-1]).splitlines()[0] == "Study small: stopped"


def test_elapsed_time_is_that_of_the_sessions_and_not_of_the_pauses_between_them() -> None:
    closed = {"event": "closed", "t": START + 10, "reason": "interrupted"}
    again = opened(START + 50)
    assert "elapsed       20 s" in shown(closed, again)
    assert "elapsed       1 min 0 s" in shown(closed, again, running=True)


def test_elapsed_time_is_what_the_sessions_measured_whatever_was_done_to_the_clock() -> None:
    day = 86400.0
    closed = {"event": "closed", "t": START + 2 * day, "reason": "interrupted", "up": 12.0}
    reopened = {"event": "reopened", "t": START - day, "key": "a", "reason": "damaged", "up": 30.0}
    assert "elapsed       42 s" in shown(closed, opened(START - day), reopened)
    # A driver that works has worked since its last line, too; a clock set back takes nothing away.
    assert "elapsed       1 min 22 s" in shown(closed, opened(START - day), reopened, running=True)
    late = shown(closed, opened(START - day), reopened, running=True, written=START + day)
    assert "elapsed       42 s" in late
    assert "(0.0 s ago)" in late


def test_a_killed_session_lasts_until_the_ledger_was_written() -> None:
    assert "elapsed       1 min 0 s" in shown()
    local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(START + 60))
    assert f"last written  {local} (40 s ago)" in shown()


def test_the_share_of_the_budget_that_is_spent_is_shown() -> None:
    budget = BudgetSpec(trials=5, device_seconds=10.0, wall_seconds=50.0)
    spec = dataclasses.replace(STUDY, budget=budget)
    more = [
        {"event": "none", "t": START, "up": 20.0},
        opened(START),
        {"event": "none", "t": START, "up": 0.5},
    ]
    record = StudyRecord.fold([*EVENTS, *more])
    lines = status_text(spec, record, Path("out"), running=False, written=START, now=START).splitlines()
    spent = [re.split(r"  +", line.strip()) for line in lines[lines.index("Budget spent") + 1 :][:3]]
    # Four trials began; three ended after two seconds each. The sessions lasted 20 and 0.5 seconds.
    assert spent == [
        ["logitnorm", "trials 4 of 5", "80 %"],
        ["logitnorm", "device_seconds 6.0 of 10", "60 %"],
        ["all searches", "wall_seconds 20.5 of 50", "41 %"],
    ]
    ended = {
        "event": "budget_spent",
        "t": START,
        "arm": "logitnorm",
        "limit": "trials",
        "allowed": 5,
        "spent": 4,
    }
    record.apply(ended)
    text = status_text(spec, record, Path("out"), running=False, written=START, now=START)
    assert "80 %  its search has ended" in text
    assert text.count("its search has ended") == 1
    assert "Budget spent" not in shown()


def test_repeats_have_rows_of_their_own() -> None:
    spec = dataclasses.replace(STUDY, search=SearchSpec(trials=5, repeats=2))
    again = {**configured("logitnorm", 0, tau=0.7), "repeat": 1}
    record = StudyRecord.fold([*EVENTS, again])
    lines = status_text(spec, record, Path("out"), running=False, written=START, now=START).splitlines()
    rows = [re.split(r"  +", line.strip()) for line in lines if line.startswith("  logitnorm")]
    assert [row[:4] for row in rows[:2]] == [
        ["logitnorm", "4 of at most 5", "1", "2"],
        ["logitnorm, repeat 1", "1 of at most 5", "1", "0"],
    ]
    assert not any(line.startswith("  cross_entropy, repeat") for line in lines), "nothing to search"
