"""The live view and the plain lines say what the record says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.execution.display import Display, clock_text
from orchestrator.execution.forecast import seconds_left, trials_left
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import BudgetSpec, PrunerSpec, SearchSpec
from tests.orchestrator.simulation import PROTOCOLS, Killed, Simulator, study


@pytest.fixture
def halfway(tmp_path: Path) -> StudyRecord:
    with pytest.raises(Killed):
        Simulator(study(), tmp_path, kill_at=120).run()
    return StudyRecord.fold(read_events(tmp_path / "ledger.jsonl"))


def test_the_live_table_counts_what_the_record_holds(halfway: StudyRecord) -> None:
    console = Console(width=160, record=True, file=None, quiet=False)
    with console.capture() as shown:
        console.print(Display(study(), halfway, plain=True)._table())
    lines = shown.get().splitlines()
    for arm in halfway.arms.values():
        (line,) = (ln for ln in lines if ln.startswith(arm.name + " "))
        trials = [t for c in arm.configurations for t in c.trials.values()]
        settled = sum(c.state != "running" for c in arm.configurations)
        counts = [str(sum(t.state == s for t in trials)) for s in ("running", "complete", "pruned", "failed")]
        assert line.split()[1:7] == [f"{settled}/8", *counts, "0/3"]
    assert "Ctrl-C stops and keeps everything" in lines[-1]


def test_plain_lines_name_every_settled_configuration_and_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Simulator(study(), tmp_path).run()
    record = StudyRecord()
    display = Display(study(), record, plain=True)
    for event in read_events(tmp_path / "ledger.jsonl"):
        display.event(event)
        record.apply(event)
    printed = capsys.readouterr().out
    for arm in record.arms.values():
        for configuration in arm.configurations:
            assert f"{arm.name} #{configuration.number} {configuration.state} (" in printed
        assert f"{arm.name}: chosen " in printed
        assert f"{arm.name} confirm seed 102 complete" in printed


def test_nothing_is_left_of_a_finished_study(tmp_path: Path) -> None:
    record = Simulator(study(), tmp_path).run()
    assert trials_left(study(), record) == (0.0, 0.0)
    assert seconds_left(study(), record, 2) == 0.0


def test_what_is_left_shrinks_to_what_really_runs(halfway: StudyRecord, tmp_path: Path) -> None:
    search, confirm = trials_left(study(), halfway)
    assert confirm == 9
    ended = sum(t.ended is not None for t in halfway.trials.values())
    whole = Simulator(study(), tmp_path / "whole").run()
    really = sum(t.stage == "search" for t in whole.trials.values()) - ended
    # A guess from the settled configurations; half as many or twice as many would be useless.
    assert really / 2 < search < really * 2


def test_each_regime_is_expected_to_take_the_time_of_its_own_trials(tmp_path: Path) -> None:
    spec = replace(study(), protocols=PROTOCOLS)
    record = Simulator(spec, tmp_path).run()
    slow = list(regimes(spec))[-1]
    for arm in record.arms.values():
        for regime, trials in arm.confirms.items():
            for trial in trials.values():
                trial.seconds = 100.0 if regime == slow else 1.0
    left_open = next(iter(record.arms.values())).confirms[slow]
    last = list(left_open.values())[-1]
    last.ended = None
    assert seconds_left(spec, record, 2) == 50.0


def test_no_time_is_named_before_anything_has_ended() -> None:
    assert seconds_left(study(), StudyRecord(), 2) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (65, "1:05"), (3599.6, "1:00:00"), (-3, "0:00")]
)
def test_times_are_written_as_on_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_a_budget_shortens_what_is_left() -> None:
    search = SearchSpec(trials=8, seeds=(0,), pruner=PrunerSpec("none"), parallel=1)
    arms = {"hem": study().arms["hem"]}
    spec = study(arms=arms, baseline="hem", search=search)
    opened = {"event": "opened", "t": 0.0, "study": "simulated", "arms": ["hem"]}
    events: list[dict[str, Any]] = [opened]
    for number in range(4):
        events.append({"event": "configured", "t": 0.0, "arm": "hem", "number": number, "params": {}})
        started = {"event": "started", "t": 0.0, "key": str(number), "arm": "hem", "stage": "search"}
        events.append({**started, "protocol": "standard", "number": number, "seed": 0, "attempt": 1})
        ended = {"event": "finished", "t": 1.0, "key": str(number), "state": "complete", "metrics": {}}
        events.append({**ended, "seconds": 3.0, "reason": "", "up": 2.0 * number})
        settled = {"event": "settled", "t": 1.0, "arm": "hem", "number": number, "state": "complete"}
        events.append({**settled, "value": 0.1, "reason": ""})
    record = StudyRecord.fold(events)

    def left(**limits: Any) -> float | None:
        return seconds_left(replace(spec, budget=BudgetSpec(**limits)), record, 1)

    # Four configurations and three confirm trials to come, three seconds each; 12 and 6 seconds were spent.
    assert left() == 4 * 3 + 3 * 3
    assert left(trials=6) == 2 * 3 + 3 * 3
    assert left(device_seconds=17.0) == 5 + 3 * 3
    assert left(wall_seconds=10.0) == 4 + 3 * 3
    assert left(wall_seconds=1.0) == 3 * 3
    record.apply(
        {"event": "budget_spent", "t": 1.0, "arm": "hem", "limit": "trials", "allowed": 4, "spent": 4}
    )
    assert left() == 3 * 3
    again = replace(spec, search=replace(search, repeats=2))
    assert trials_left(again, record) == (8 * 1.0, 2 * 3)
