"""A search that is repeated: independent repeats, each with a winner, and nothing trained twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.campaign.standing import confirms_planned, is_settled, searches
from orchestrator.execution.forecast import seconds_left, trials_left
from orchestrator.study import repeats
from orchestrator.study.spec import ArmSpec, BudgetSpec, ConfirmSpec, SearchSpec, StudySpec
from tests.orchestrator.simulation import (
    PROTOCOLS,
    Killed,
    Metrics,
    Simulator,
    decisions,
    landscape,
    study,
)
from workloads.catalogue import Term
from workloads.contract import TrialConfig


def repeated(times: int, spec: StudySpec | None = None, **search: Any) -> StudySpec:
    spec = spec or study()
    return replace(spec, search=replace(spec.search, repeats=times, **search))


def log_of(folder: Path) -> list[dict[str, Any]]:
    return list(read_events(folder / "ledger.jsonl"))


def lone_arm(space: dict[str, Term], **search: Any) -> StudySpec:
    arms = {"logitnorm": ArmSpec("logitnorm", "logitnorm", space)}
    return study(arms=arms, baseline="logitnorm", search=SearchSpec(repeats=3, **search))


def test_the_first_of_several_searches_is_the_only_one_of_a_study_without_repeats(tmp_path: Path) -> None:
    alone = Simulator(study(), tmp_path / "alone").run()
    first = Simulator(repeated(3), tmp_path / "three", order=4).run()
    assert {name: decisions(first)[name] for name in study().arms} == decisions(alone)
    assert set(alone.trials) < set(first.trials)


def test_each_repeat_draws_and_trains_by_itself_and_has_its_own_winner(tmp_path: Path) -> None:
    record = Simulator(repeated(3), tmp_path).run()
    for arm in record.arms.values():
        assert [(s.repeat, len(s.configurations)) for s in arm.searches] == [(0, 8), (1, 8), (2, 8)]
        tried = [frozenset(str(c.params) for c in s.configurations) for s in arm.searches]
        assert not tried[0] & tried[1]
        assert not tried[1] & tried[2]
        seeds = [{t.seed for t in s.search_trials} for s in arm.searches]
        assert seeds == [{0, 1}, {10_000, 10_001}, {20_000, 20_001}]
        for search in arm.searches:
            assert search.selected is not None
            chosen = search.configurations[search.selected]
            assert search.selection["params"] == chosen.params
            assert {s: t.params for s, t in search.confirms["standard"].items()} == dict.fromkeys(
                (100, 101, 102), chosen.params
            )
            assert {t.repeat for t in (*search.search_trials, *search.confirm_trials)} == {search.repeat}


@pytest.mark.parametrize("budget", [BudgetSpec(), BudgetSpec(trials=6)], ids=["free", "limited"])
def test_decisions_of_repeated_searches_do_not_depend_on_the_order_of_arrival(
    tmp_path: Path, budget: BudgetSpec
) -> None:
    spec = replace(repeated(3), budget=budget)
    first = Simulator(spec, tmp_path / "first", slots=2, order=1).run()
    for order, slots in ((2, 1), (3, 5), (4, 12)):
        other = Simulator(spec, tmp_path / str(order), slots=slots, order=order).run()
        assert decisions(other) == decisions(first)
    limits = {search.spent is not None for arm in first.arms.values() for search in arm.searches}
    assert True in limits or budget.trials is None


@pytest.mark.parametrize("budget", [BudgetSpec(), BudgetSpec(trials=6)], ids=["free", "limited"])
def test_a_study_with_repeats_killed_at_any_event_ends_like_an_undisturbed_one(
    tmp_path: Path, budget: BudgetSpec
) -> None:
    spec = replace(repeated(2), budget=budget)
    undisturbed = Simulator(spec, tmp_path / "undisturbed").run()
    count = sum(1 for _ in read_events(tmp_path / "undisturbed" / "ledger.jsonl"))
    for moment in range(2, count, 83):
        folder = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed):
            Simulator(spec, folder, kill_at=moment).run()
        ended = {
            k for k, t in StudyRecord.fold(read_events(folder / "ledger.jsonl")).trials.items() if t.ended
        }
        again = Simulator(spec, folder, order=moment, slots=3)
        assert decisions(again.run()) == decisions(undisturbed)
        assert not ended & set(again.starts), "a finished trial ran again"
        started = {(e["key"], e.get("repeat", 0)) for e in log_of(folder) if e["event"] == "started"}
        assert len(started) == len({key for key, _ in started}), "went on in another repeat"


TAUS = Term("grid", (0.02, 0.04, 0.08))


def steep(config: TrialConfig, epoch: int) -> Metrics:
    """The smallest tau wins on every seed."""
    fpr95 = 10 * float(config.to_dict()["loss_params"]["tau"])
    return {"validation/accuracy": 0.97, "noise/fpr95": fpr95, "noise/auroc": 0.9}


@pytest.mark.parametrize("order", range(5))
def test_a_winner_that_another_repeat_has_too_is_trained_once_and_counts_in_both(
    tmp_path: Path, order: int
) -> None:
    spec = lone_arm({"tau": TAUS}, sampler="grid", trials=3)
    simulator = Simulator(spec, tmp_path, slots=4, order=order, metrics=steep)
    record = simulator.run()
    arm = record.arms["logitnorm"]
    assert [s.selection["params"] for s in arm.searches] == [{"tau": 0.02}] * 3
    confirmed = [t for t in record.trials.values() if t.stage == "confirm"]
    assert len(confirmed) == 3
    assert {t.repeat for t in confirmed} == {0}
    for search in arm.searches:
        assert {s: t.key for s, t in search.confirms["standard"].items()} == {
            t.seed: t.key for t in confirmed
        }
    assert max(Counter(simulator.starts).values()) == 1
    assert is_settled(spec, record)


def test_an_arm_with_nothing_to_search_is_not_searched_again(tmp_path: Path) -> None:
    arms = {**study().arms, "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {})}
    spec = repeated(3, study(arms=arms))
    record = Simulator(spec, tmp_path).run()
    assert [len(arm.searches) for arm in record.arms.values()] == [1, 3, 3]
    assert repeats.count(spec, "cross_entropy") == 1


def test_repeats_are_confirmed_in_the_main_regime_alone(tmp_path: Path) -> None:
    spec = repeated(2, study(protocols=PROTOCOLS))
    reason = {("hem", "standard"): "does not fit"}
    record = Simulator(spec, tmp_path, skipped=reason).run()
    for arm in record.arms.values():
        skipped = arm.name == "hem"
        assert len(arm.confirms) == (4 if skipped else 5)
        assert list(arm.again[1].confirms) == ([] if skipped else ["standard"])
        assert confirms_planned(spec, record, arm) == (12 if skipped else 15)
        assert confirms_planned(spec, record, arm.again[1]) == (0 if skipped else 3)
    assert is_settled(spec, record)
    assert trials_left(spec, record) == (0.0, 0.0)
    assert seconds_left(spec, record, 1) == 0.0


def test_a_repeat_without_a_winner_does_not_hold_up_the_study(tmp_path: Path) -> None:
    def failing(config: TrialConfig, epoch: int) -> Metrics:
        return landscape(config, epoch)

    from orchestrator.campaign.campaign import Outcome

    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        lost = config.arm == "hem" and config.seed // 10_000 == 1
        return Outcome("failed", {}, 0.5, "diverged", "NaN") if lost else None

    record = Simulator(repeated(3), tmp_path, metrics=failing, failures=failures).run()
    hem = record.arms["hem"]
    assert [bool(s.failure) for s in hem.searches] == [False, True, False]
    assert len(hem.again[2].confirm_trials) == 3
    assert is_settled(repeated(3), record)


def test_first_searches_come_first(tmp_path: Path) -> None:
    simulator = Simulator(repeated(2, parallel=4), tmp_path, slots=1)
    record = simulator.run()
    stages = [(t.stage, t.repeat) for t in (record.trials[key] for key in simulator.starts)]
    assert stages == sorted(stages, key=lambda s: (s[0] == "confirm", s[1]))


def test_a_budget_counts_for_each_repeat_and_the_study_s_time_for_all_of_them(tmp_path: Path) -> None:
    spec = replace(repeated(2), budget=BudgetSpec(trials=6))
    record = Simulator(spec, tmp_path / "trials").run()
    assert all(4 <= len(s.search_trials) <= 6 for arm in record.arms.values() for s in arm.searches)
    spec = replace(repeated(2), budget=BudgetSpec(wall_seconds=0.4))
    record = Simulator(spec, tmp_path / "wall", slots=1).run()
    for arm in record.arms.values():
        assert arm.selected == 0
        # Without time for one configuration a repeat is given up; an arm never is.
        assert arm.again[1].configurations == []
        assert (
            arm.again[1].failure == "the budget ended (wall_seconds 0.4) before a configuration was complete"
        )
    assert is_settled(spec, record)


def test_what_is_planned_counts_repeats_that_have_not_begun() -> None:
    spec = repeated(2)
    opened = {"event": "opened", "t": 0.0, "study": "simulated", "arms": list(spec.arms)}
    record = StudyRecord.fold([opened])
    assert [(a.name, a.repeat) for a in searches(spec, record)] == [
        (name, repeat) for name in spec.arms for repeat in (0, 1)
    ]
    assert not is_settled(spec, record)
    assert trials_left(spec, record)[1] == 2 * 3 * 3
    for arm in spec.arms:
        record.apply({"event": "unselected", "t": 0.0, "arm": arm, "reason": "all failed"})
    assert not is_settled(spec, record), "the repeats have not begun"


def test_a_search_with_nothing_to_confirm_is_still_to_be_done() -> None:
    spec = repeated(2, study(arms={"hem": study().arms["hem"]}, baseline="hem"))
    opened = {"event": "opened", "t": 0.0, "study": "simulated", "arms": ["hem"]}
    skipped = {"event": "skipped", "t": 0.0, "arm": "hem", "regime": "standard", "reason": "does not fit"}
    record = StudyRecord.fold([opened, skipped])
    assert not is_settled(spec, record)
    for repeat in ({}, {"repeat": 1}):
        assert not is_settled(spec, record)
        record.apply({"event": "selected", "t": 0.0, "arm": "hem", **repeat, "number": 0})
    assert is_settled(spec, record)


def test_the_seeds_of_a_repeat_are_far_from_those_of_the_others() -> None:
    spec = repeated(3, seeds=(3, 5))
    assert [repeats.search_seeds(spec, r) for r in range(3)] == [(3, 5), (10_003, 10_005), (20_003, 20_005)]
    drawn = {repeats.as_repeat(spec, r).search.sampler_seed for r in range(50)}
    assert len(drawn) == 50
    assert repeats.as_repeat(spec, 0) is spec
    other = repeated(3, sampler_seed=1)
    assert repeats.as_repeat(other, 1).search.sampler_seed not in drawn
    assert replace(spec, confirm=ConfirmSpec((7,))).confirm.seeds == (7,)
