"""Budgets end a search where they say, whatever the order of arrival, and the best so far is confirmed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.budget import Meter
from orchestrator.campaign.campaign import Campaign, Outcome, TrialRequest
from orchestrator.campaign.journal import BufferedJournal
from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import ArmRecord, StudyRecord
from orchestrator.study.spec import ArmSpec, BudgetSpec, PrunerSpec, StudySpec
from tests.orchestrator.simulation import FACTS, Killed, Metrics, Simulator, decisions, study
from workloads.catalogue import Term
from workloads.contract import TrialConfig

NO_PRUNER = PrunerSpec("none")


def limited(spec: StudySpec | None = None, **limits: Any) -> StudySpec:
    return replace(spec or study(), budget=BudgetSpec(**limits))


def events(folder: Path) -> list[dict[str, Any]]:
    return list(read_events(folder / "ledger.jsonl"))


def runs(arm: ArmRecord) -> int:
    return sum(len(c.trials) for c in arm.configurations)


def charge(arm: ArmRecord, seeds: int) -> int:
    """By hand: a configuration that its first seed ended is charged one trial, any other all."""
    first = [next(iter(c.trials.values())) for c in arm.configurations]
    behind = [
        c.reason.startswith(("cannot win", "stopped")) and "after 1 of" in c.reason
        for c in arm.configurations
    ]
    through = [t.state == "complete" and not b for t, b in zip(first, behind, strict=True)]
    return sum(seeds if t else 1 for t in through)


# -- trials -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [2, 5, 9, 13])
def test_no_arm_trains_more_often_in_its_search_than_the_budget_says(tmp_path: Path, allowed: int) -> None:
    record = Simulator(limited(trials=allowed), tmp_path, slots=5).run()
    for arm in record.arms.values():
        assert runs(arm) <= charge(arm, 2) <= allowed
        assert arm.selected is not None
        assert {t.state for t in arm.confirm_trials} == {"complete"}
        if len(arm.configurations) < 8:
            # A further configuration of two seeds would not have fitted.
            assert charge(arm, 2) + 2 > allowed
            assert arm.spent is not None
            assert (arm.spent["limit"], arm.spent["allowed"]) == ("trials", allowed)
            assert arm.spent["spent"] == charge(arm, 2)


def test_what_a_configuration_stopped_at_its_first_seed_did_not_use_is_left_to_others(tmp_path: Path) -> None:
    record = Simulator(limited(trials=10), tmp_path).run()
    stopped = [a for a in record.arms.values() if any(len(c.trials) == 1 for c in a.configurations)]
    assert stopped
    assert all(len(a.configurations) > 5 for a in stopped)


def test_a_search_that_ends_by_itself_is_not_ended_by_its_budget(tmp_path: Path) -> None:
    record = Simulator(limited(trials=16), tmp_path).run()
    assert [(len(a.configurations), a.spent) for a in record.arms.values()] == [(8, None)] * 3
    assert decisions(record) == decisions(Simulator(study(), tmp_path / "free").run())


@pytest.mark.parametrize("sampler", ["tpe", "grid"])
@pytest.mark.parametrize(("allowed", "limits"), [(2, ["trials"]), (3, []), (4, [])])
def test_a_search_that_has_used_up_its_space_is_not_ended_by_its_budget(
    tmp_path: Path, sampler: Any, allowed: int, limits: list[str]
) -> None:
    space = {"tau": Term("grid" if sampler == "grid" else "choice", (0.02, 0.04, 0.08))}
    spec = study(arms={"logitnorm": ArmSpec("logitnorm", "logitnorm", space)}, baseline="logitnorm")
    spec = replace(spec, search=replace(spec.search, sampler=sampler, seeds=(0,), pruner=NO_PRUNER))
    arm = Simulator(limited(spec, trials=allowed), tmp_path).run().arms["logitnorm"]
    assert len(arm.configurations) == min(3, allowed)
    assert [event["limit"] for event in [arm.spent] if event is not None] == limits
    assert arm.exhausted is (allowed > 2)


@pytest.mark.parametrize("parallel", [1, 2, 3])
@pytest.mark.parametrize("seeds", [(0,), (0, 1), (0, 1, 2)])
def test_a_budget_of_trials_ends_a_search_at_the_same_place_whatever_the_order(
    tmp_path: Path, parallel: int, seeds: tuple[int, ...]
) -> None:
    spec = study()
    spec = limited(replace(spec, search=replace(spec.search, parallel=parallel, seeds=seeds)), trials=6)
    first = Simulator(spec, tmp_path / "first", slots=1, order=1).run()
    assert any(arm.spent for arm in first.arms.values())
    for order, slots in ((2, 2), (3, 4), (4, 9)):
        other = Simulator(spec, tmp_path / str(order), slots=slots, order=order).run()
        assert decisions(other) == decisions(first)


def test_seeds_that_happened_to_start_before_a_verdict_do_not_bear_on_the_budget(tmp_path: Path) -> None:
    """With one worker a failed second seed keeps the third from starting; with several it has started."""

    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        return Outcome("failed", {}, 0.5, "diverged", "NaN") if config.seed == 1 else None

    spec = study()
    search = replace(spec.search, seeds=(0, 1, 2), pruner=PrunerSpec("none"), parallel=1)
    spec = limited(replace(spec, search=search), trials=8)
    alone = Simulator(spec, tmp_path / "alone", slots=1, failures=failures).run()
    many = Simulator(spec, tmp_path / "many", slots=9, failures=failures).run()
    assert decisions(alone) == decisions(many)
    ran = [[len(c.trials) for arm in r.arms.values() for c in arm.configurations] for r in (alone, many)]
    # Two configurations of three seeds fit into eight; what was spared of them is not given to a third.
    assert ran[0] == [2] * 6
    assert max(ran[1]) == 3


def test_without_deterministic_mode_the_trials_that_really_ran_are_counted(tmp_path: Path) -> None:
    spec = study()
    search = replace(spec.search, deterministic=False, seeds=(0, 1, 2), parallel=3)
    record = Simulator(limited(replace(spec, search=search), trials=9), tmp_path, slots=7).run()
    for arm in record.arms.values():
        assert 7 <= runs(arm) <= 9
        assert arm.spent is not None
        assert arm.spent["spent"] == runs(arm)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_study_with_a_budget_of_trials_killed_at_any_event_ends_like_an_undisturbed_one(
    tmp_path: Path, parallel: int
) -> None:
    spec = study()
    spec = limited(replace(spec, search=replace(spec.search, parallel=parallel)), trials=7)
    undisturbed = Simulator(spec, tmp_path / "undisturbed").run()
    kinds = [e["event"] for e in events(tmp_path / "undisturbed")]
    ends = [i for i, kind in enumerate(kinds, 1) if kind in ("budget_spent", "selected")]
    for moment in sorted({*range(2, len(kinds), 61), *ends} - {len(kinds)}):
        folder = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed):
            Simulator(spec, folder, kill_at=moment).run()
        assert decisions(Simulator(spec, folder, order=moment).run()) == decisions(undisturbed)
        told = Counter(e["arm"] for e in events(folder) if e["event"] == "budget_spent")
        assert set(told.values()) == {1}


def test_a_retry_is_not_a_further_trial(tmp_path: Path) -> None:
    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        return Outcome("failed", {}, 0.5, "lost", "gone") if attempt == 1 else None

    spec = limited(trials=7)
    disturbed = Simulator(spec, tmp_path / "a", failures=failures).run()
    assert decisions(disturbed) == decisions(Simulator(spec, tmp_path / "b").run())


def test_an_arm_that_has_nothing_complete_at_its_last_trial_says_so(tmp_path: Path) -> None:
    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        return Outcome("failed", {}, 0.5, "diverged", "NaN") if config.arm == "hem" else None

    hem = Simulator(limited(trials=4), tmp_path, failures=failures).run().arms["hem"]
    # Charged one trial each, two of the four must be free for a third and none for a fourth.
    assert len(hem.configurations) == 3
    assert hem.selected is None
    assert "3 of 3 failed" in hem.failure
    assert hem.failure.endswith("the budget ended (trials 4)")


# -- seconds, by hand ---------------------------------------------------------------------------------------


class Desk:
    """A campaign over one arm, driven by hand with a clock that is set by hand."""

    def __init__(
        self, folder: Path, spec: StudySpec, *, pruner: PrunerSpec = NO_PRUNER, parallel: int = 2
    ) -> None:
        search = replace(spec.search, pruner=pruner, parallel=parallel)
        self.spec = replace(spec, search=search, arms={"hem": spec.arms["hem"]}, baseline="hem")
        self.path = folder
        self.log: list[dict[str, Any]] = []
        self.now = 0.0
        self.record = StudyRecord()
        self.open()

    def open(self) -> None:
        """A session, on what the log says."""
        self.record = StudyRecord.fold(self.log)
        opened = {"event": "opened", "t": 0.0, "study": "simulated", "arms": ["hem"], "data": {"hash": "0"}}
        self.log.append(opened)
        self.record.apply(opened)
        journal = BufferedJournal(self.path / "journal")
        self.campaign = Campaign(
            self.spec, FACTS, self.record, self.log.append, journal, monotonic=lambda: self.now
        )

    @property
    def arm(self) -> ArmRecord:
        return self.record.arms["hem"]

    def start(self) -> TrialRequest:
        request = self.campaign.next_trial()
        assert request is not None
        return request

    def complete(self, request: TrialRequest, seconds: float, fpr95: float = 0.3) -> None:
        self.campaign.finish(request.key, Outcome("complete", measured(fpr95), seconds))

    def kinds(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.log if e["event"] == kind]


def measured(fpr95: float) -> Metrics:
    return {"validation/accuracy": 0.97, "noise/fpr95": fpr95, "noise/auroc": 0.9}


def desk_of(tmp_path: Path, **limits: Any) -> Desk:
    return Desk(tmp_path, limited(**limits))


def test_device_seconds_are_those_of_ended_failed_and_running_trials(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, device_seconds=10.0)
    first = desk.start()
    desk.campaign.finish(first.key, Outcome("failed", {}, 3.0, "lost", "gone"))
    again = desk.start()
    assert again.key == first.key
    desk.complete(again, 4.0)
    second, other = desk.start(), desk.start()
    desk.now = 1.4
    # 3 + 4 of attempts that ended, twice 1.4 of trials that run: 9.8.
    assert not desk.campaign.report(second.key, 1, measured(0.3))
    assert desk.kinds("budget_spent") == []
    desk.now = 1.6
    desk.campaign.report(second.key, 2, measured(0.3))
    (spent,) = desk.kinds("budget_spent")
    assert {n: spent[n] for n in ("arm", "limit", "allowed")} == {
        "arm": "hem",
        "limit": "device_seconds",
        "allowed": 10.0,
    }
    assert spent["spent"] == pytest.approx(3 + 4 + 2 * 1.6)
    assert other.key in desk.record.trials


def test_what_runs_at_the_end_is_stopped_at_its_next_report_and_nothing_new_begins(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, device_seconds=10.0)
    for _ in range(2):
        desk.complete(desk.start(), 2.0)
    running = [desk.start(), desk.start()]
    assert [r.config.stage for r in running] == ["search", "search"]
    desk.now = 3.0
    assert desk.campaign.report(running[0].key, 1, measured(0.1))
    assert desk.campaign.report(running[1].key, 1, measured(0.1))
    assert [(c.state, c.value, c.reason) for c in desk.arm.configurations[1:]] == [
        ("pruned", None, "the budget ended (device_seconds 10)")
    ] * (len(desk.arm.configurations) - 1)
    for request in running:
        desk.campaign.finish(request.key, Outcome("stopped", {}, 3.0))
        assert desk.record.trials[request.key].reason == "the budget ended (device_seconds 10)"
    assert desk.arm.selected == 0
    assert [desk.start().config.stage for _ in range(3)] == ["confirm"] * 3
    assert desk.campaign.next_trial() is None


def test_a_trial_that_fails_after_the_end_is_not_tried_again(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, device_seconds=10.0)
    for _ in range(2):
        desk.complete(desk.start(), 2.0)
    running = desk.start()
    desk.now = 7.0
    desk.campaign.finish(running.key, Outcome("failed", {}, 7.0, "lost", "gone"))
    assert desk.start().config.stage == "confirm"
    assert desk.record.trials[running.key].state == "pruned"
    assert desk.record.trials[running.key].attempts == 1


def test_an_arm_goes_on_beyond_its_budget_with_its_first_configuration_until_that_is_complete(
    tmp_path: Path,
) -> None:
    desk = desk_of(tmp_path, device_seconds=1.0)
    first, second = desk.start(), desk.start()
    desk.now = 5.0
    assert desk.campaign.report(second.key, 1, measured(0.1))
    assert not desk.campaign.report(first.key, 1, measured(0.9))
    desk.campaign.finish(second.key, Outcome("stopped", {}, 5.0))
    desk.complete(first, 9.0)
    last = desk.start()
    assert (last.config.seed, last.params) == (1, first.params)
    assert desk.campaign.next_trial() is None
    desk.complete(last, 9.0)
    assert desk.arm.selected == 0
    assert [c.state for c in desk.arm.configurations] == ["complete", "pruned"]


def test_the_seconds_of_a_study_are_those_of_its_sessions_and_not_of_the_time_between(tmp_path: Path) -> None:
    desk = desk_of(tmp_path, wall_seconds=100.0)
    first = desk.start()
    desk.now = 60.0
    desk.campaign.report(first.key, 1, measured(0.3))
    assert [e["up"] for e in desk.log[1:]] == [0.0, 0.0, 60.0]
    desk.now = 5000.0
    desk.open()
    assert desk.start().key == first.key
    desk.now = 5039.0
    desk.campaign.report(first.key, 2, measured(0.3))
    assert desk.kinds("budget_spent") == []
    desk.now = 5041.0
    desk.campaign.report(first.key, 3, measured(0.3))
    (spent,) = desk.kinds("budget_spent")
    assert (spent["limit"], spent["spent"]) == ("wall_seconds", pytest.approx(101.0))
    # A third session begins with all of it spent.
    desk.open()
    assert desk.record.earlier_seconds == pytest.approx(101.0)
    assert desk.record.session_seconds == 0.0


def test_a_clock_that_runs_backwards_takes_no_seconds_back() -> None:
    now = [50.0]
    meter = Meter(BudgetSpec(device_seconds=1.0), StudyRecord(), lambda: now[0])
    arm = ArmRecord("hem", search_seconds=0.5)
    meter.started(arm, "a")
    now[0] = 20.0
    assert (meter.session_seconds, meter.device_seconds(arm)) == (0.0, 0.5)
    record = StudyRecord()
    for up in (3.0, 1.0):
        record.apply({"event": "reports_nothing", "t": -9.0, "up": up})
    assert record.session_seconds == 3.0


def test_a_clock_on_the_wall_that_jumps_changes_no_budget(tmp_path: Path) -> None:
    spec = limited(wall_seconds=6.0, device_seconds=9.0)
    usual = Simulator(spec, tmp_path / "usual").run()
    jumpy = Simulator(spec, tmp_path / "jumpy", wall_clock=lambda now: 1e9 - 1e6 * now).run()
    assert decisions(jumpy) == decisions(usual)
    assert any(arm.spent for arm in usual.arms.values())


def test_when_the_study_s_time_is_over_every_search_ends_and_an_arm_not_begun_still_gets_one(
    tmp_path: Path,
) -> None:
    record = Simulator(limited(wall_seconds=0.5), tmp_path, slots=1).run()
    for arm in record.arms.values():
        assert arm.spent is not None
        assert arm.spent["limit"] == "wall_seconds"
        assert [c.state for c in arm.configurations] == ["complete"]
        assert arm.selected == 0
        assert len(arm.confirm_trials) == 3


@pytest.mark.parametrize("limits", [{"device_seconds": 6.0}, {"wall_seconds": 5.0}], ids=["device", "wall"])
def test_a_study_with_a_budget_of_seconds_killed_at_any_event_ends_in_order(
    tmp_path: Path, limits: dict[str, Any]
) -> None:
    spec = limited(**limits)
    Simulator(spec, tmp_path / "undisturbed", slots=4).run()
    kinds = [e["event"] for e in events(tmp_path / "undisturbed")]
    ends = [i for i, kind in enumerate(kinds, 1) if kind in ("budget_spent", "settled")]
    for moment in sorted({*range(2, len(kinds), 31), *ends} - {len(kinds)}):
        folder = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed):
            Simulator(spec, folder, slots=4, kill_at=moment).run()
        record = Simulator(spec, folder, slots=4, order=moment).run()
        in_order(record, events(folder))


def in_order(record: StudyRecord, log: list[dict[str, Any]]) -> None:
    """Each search ends once; after that it goes on only where nothing of it is complete."""
    complete: set[str] = set()
    over: dict[str, bool] = {}
    for event in log:
        if event["event"] == "settled" and event["state"] == "complete":
            complete.add(event["arm"])
        elif event["event"] == "budget_spent":
            assert event["arm"] not in over
            over[event["arm"]] = event["arm"] in complete
        elif event["event"] == "started" and event["stage"] == "search" and event["arm"] in over:
            assert not over[event["arm"]]
    for arm in record.arms.values():
        assert arm.selected is not None
        assert arm.configurations[arm.selected].state == "complete"
        assert "running" not in {t.state for t in arm.search_trials}
        assert len(arm.confirm_trials) == 3
        late = [c for c in arm.configurations if c.reason.startswith("the budget ended")]
        assert all(c.state == "pruned" and c.value is None for c in late)


def test_the_last_hope_of_an_arm_is_not_pruned(tmp_path: Path) -> None:
    """Successive halving also compares with a configuration that did well until it failed."""
    pruner = PrunerSpec("successive_halving", 0, {"min_resource": 1, "reduction_factor": 2})
    desk = Desk(tmp_path, limited(device_seconds=5.0), pruner=pruner, parallel=1)
    good = desk.start()
    for epoch in (1, 2):
        desk.campaign.report(good.key, epoch, measured(0.1))
    desk.campaign.finish(good.key, Outcome("failed", {}, 1.0, "diverged", "NaN"))
    hope = desk.start()
    desk.now = 9.0
    for epoch in range(1, 7):
        assert not desk.campaign.report(hope.key, epoch, measured(0.9))
    assert len(desk.kinds("budget_spent")) == 1
    desk.complete(hope, 9.0, 0.9)
    last = desk.start()
    assert (last.config.stage, last.config.seed) == ("search", 1)
    desk.complete(last, 9.0, 0.9)
    assert desk.arm.selected == 1


def test_an_arm_with_nothing_to_search_has_no_budget(tmp_path: Path) -> None:
    spec = study()
    arms = {**spec.arms, "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {})}
    record = Simulator(limited(replace(spec, arms=arms), trials=2, wall_seconds=0.1), tmp_path).run()
    assert record.arms["cross_entropy"].spent is None
    assert record.arms["cross_entropy"].selected == 0
