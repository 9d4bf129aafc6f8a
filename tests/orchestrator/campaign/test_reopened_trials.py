"""A finished trial whose files were damaged goes on, and what was measured of it is never lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.campaign import Outcome
from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.record import StudyRecord, TrialRecord
from tests.orchestrator.simulation import Metrics, Simulator, decisions, landscape, study
from workloads.contract import TrialConfig

SPEC = study()
SPEC = replace(SPEC, search=replace(SPEC.search, trials=2, seeds=(0,)))


def test_a_reopened_trial_is_started_once_more_and_the_study_ends_as_before(tmp_path: Path) -> None:
    before = Simulator(SPEC, tmp_path).run()
    keys = reopen(tmp_path, before, 2)
    simulator = Simulator(SPEC, tmp_path)
    after = simulator.run()
    assert sorted(simulator.starts) == sorted(keys)
    assert decisions(after) == decisions(before)
    for key, trial in after.trials.items():
        assert trial.attempts == (2 if key in keys else 1)
        assert trial.reports == before.trials[key].reports
        assert trial.seconds == pytest.approx(before.trials[key].seconds, abs=1e-12)
    assert decisions(StudyRecord.fold(read_events(tmp_path / "ledger.jsonl"))) == decisions(before)


def test_while_it_is_reopened_a_trial_is_running_and_its_arm_unfinished(tmp_path: Path) -> None:
    (key,) = reopen(tmp_path, Simulator(SPEC, tmp_path).run(), 1)
    trial = StudyRecord.fold(read_events(tmp_path / "ledger.jsonl")).trials[key]
    assert (trial.state, trial.ended) == ("running", None)
    assert trial.seconds == pytest.approx(0.0, abs=1e-12)


def test_a_trial_that_cannot_be_made_again_keeps_what_was_measured_and_says_so(tmp_path: Path) -> None:
    before = Simulator(SPEC, tmp_path).run()
    (key,) = reopen(tmp_path, before, 1)

    def broken(config: TrialConfig, attempt: int) -> Outcome | None:
        return Outcome("failed", {}, 0.1, "exception", "no such device") if config.key == key else None

    after = Simulator(SPEC, tmp_path, failures=broken).run()
    assert decisions(after) == decisions(before)
    trial = after.trials[key]
    assert trial.metrics == before.trials[key].metrics
    (note,) = trial.notes
    assert note.startswith("its files were damaged and could not be made again: exception: no such device")
    again = StudyRecord.fold(read_events(tmp_path / "ledger.jsonl")).trials[key]
    assert (again.state, again.metrics, again.notes) == ("complete", trial.metrics, trial.notes)


def test_added_metrics_stay_where_the_numbers_come_back_as_they_were(tmp_path: Path) -> None:
    assert added(tmp_path, landscape) == {"ood/strange/mls/auroc": 0.75}


def test_added_metrics_of_another_model_do_not_stay(tmp_path: Path) -> None:
    def other(config: TrialConfig, epoch: int) -> Metrics:
        return {**landscape(config, epoch), "noise/fpr95": 0.123}

    assert added(tmp_path, other) == {}


def added(folder: Path, metrics: Any) -> dict[str, float]:
    """What is left of metrics that were added to a trial which then had to be made again."""
    before = Simulator(SPEC, folder).run()
    trial = confirm_trials(before)[0]
    rescored = {"event": "rescored", "t": 1.0, "key": trial.key, "scores": ["mls"], "sets": {"strange": "x"}}
    write(folder, {**rescored, "metrics": {"ood/strange/mls/auroc": 0.75}, "notes": ["few images"]})
    reopen(folder, before, 1)
    after = Simulator(SPEC, folder, metrics=metrics).run().trials[trial.key]
    left = {k: v for k, v in after.metrics.items() if k.startswith("ood/")}
    assert after.notes == (["few images"] if left else [])
    assert (after.rescored is not None) == bool(left)
    if left:
        assert {k: v for k, v in after.metrics.items() if k not in left} == dict(trial.metrics)
    else:
        assert after.metrics["noise/fpr95"] == 0.123
    return left


def confirm_trials(record: StudyRecord) -> list[TrialRecord]:
    return [trial for arm in record.arms.values() for trial in arm.confirm_trials]


def reopen(folder: Path, record: StudyRecord, count: int) -> list[str]:
    keys = [trial.key for trial in confirm_trials(record)[:count]]
    for key in keys:
        write(folder, {"event": "reopened", "t": 2.0, "key": key, "reason": "result.json is missing"})
    return keys


def write(folder: Path, event: dict[str, Any]) -> None:
    ledger = Ledger(folder / "ledger.jsonl")
    ledger.append(event)
    ledger.close()
