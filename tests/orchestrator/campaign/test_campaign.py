"""The campaign decides well, and decides the same again after any crash."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.campaign import Campaign, FailureKind, Outcome
from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.study.spec import (
    ArmSpec,
    ExecutionSpec,
    GuardSpec,
    PrunerSpec,
    RetrySpec,
    SearchSpec,
    StudySpec,
)
from tests.orchestrator.simulation import Killed, Metrics, Simulator, decisions, landscape, study
from workloads.catalogue import Term
from workloads.contract import TrialConfig


def searched(spec: StudySpec, **changes: Any) -> StudySpec:
    return replace(spec, search=replace(spec.search, **changes))


def test_every_arm_gets_the_same_number_of_configurations_and_every_confirm_seed_once(tmp_path: Path) -> None:
    record = Simulator(study(), tmp_path).run()
    assert {len(a.configurations) for a in record.arms.values()} == {8}
    for arm in record.arms.values():
        assert {name: sorted(trials) for name, trials in arm.confirms.items()} == {
            "standard": [100, 101, 102]
        }
        assert {t.state for t in arm.confirm_trials} == {"complete"}


def test_the_winner_is_the_best_complete_configuration(tmp_path: Path) -> None:
    record = Simulator(searched(study(), pruner=PrunerSpec("none"), seeds=(0,)), tmp_path).run()
    for arm in record.arms.values():
        assert arm.selected is not None
        complete = {c.number: c.value for c in arm.configurations if c.state == "complete"}
        assert complete[arm.selected] == min(v for v in complete.values() if v is not None)


@pytest.mark.parametrize("slots", [1, 2, 7])
@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_decisions_do_not_depend_on_the_order_of_arrival_in_deterministic_mode(
    tmp_path: Path, slots: int, parallel: int
) -> None:
    spec = searched(study(), parallel=parallel)
    first = Simulator(spec, tmp_path / "a", slots=2, order=1).run()
    other = Simulator(spec, tmp_path / "b", slots=slots, order=2).run()
    assert decisions(first) == decisions(other)


def test_a_configuration_waits_for_those_parallel_before_it_and_for_no_other(tmp_path: Path) -> None:
    spec = study(arms={"cross_entropy": study().arms["cross_entropy"]})
    spec = searched(spec, parallel=2, seeds=(0,), pruner=PrunerSpec("none"))
    Simulator(spec, tmp_path, slots=2, order=3).run()
    running: set[int] = set()
    overlaps = []
    for event in read_events(tmp_path / "ledger.jsonl"):
        if event["event"] == "configured":
            running.add(event["number"])
            overlaps.append(tuple(sorted(running)))
        elif event["event"] == "settled":
            running.discard(event["number"])
    assert all(numbers[0] > numbers[-1] - 2 for numbers in overlaps)
    assert {len(numbers) for numbers in overlaps[1:]} == {1, 2}
    assert any(len(numbers) == 2 and numbers[-1] % 2 == 0 for numbers in overlaps), "batches of two"


def test_without_deterministic_mode_a_free_worker_is_not_kept_waiting(tmp_path: Path) -> None:
    spec = searched(study(), parallel=4, deterministic=False)
    simulator = Simulator(spec, tmp_path, slots=12)
    record = simulator.run()
    assert {len(a.configurations) for a in record.arms.values()} == {8}


@pytest.mark.parametrize("pruner", ["median", "successive_halving", "hyperband", "wilcoxon"])
def test_a_study_killed_at_any_event_ends_like_an_undisturbed_one(tmp_path: Path, pruner: Any) -> None:
    params = {"n_startup_trials": 2} if pruner == "median" else {}
    spec = searched(study(), parallel=1, pruner=PrunerSpec(pruner, 2, params))
    undisturbed = Simulator(spec, tmp_path / "undisturbed").run()
    count = sum(1 for _ in read_events(tmp_path / "undisturbed" / "ledger.jsonl"))
    for moment in range(2, count, 23):
        folder = tmp_path / f"killed-{moment}"
        simulator = Simulator(spec, folder, kill_at=moment)
        with pytest.raises(Killed):
            simulator.run()
        ended = {
            k for k, t in StudyRecord.fold(read_events(folder / "ledger.jsonl")).trials.items() if t.ended
        }
        again = Simulator(spec, folder, order=moment)
        record = again.run()
        assert decisions(record) == decisions(undisturbed)
        assert not ended & set(again.starts), "a finished trial ran again"


def test_a_study_killed_again_and_again_still_ends_the_same(tmp_path: Path) -> None:
    spec = study()
    undisturbed = Simulator(spec, tmp_path / "undisturbed").run()
    record, kills = None, 0
    while record is None:
        try:
            record = Simulator(spec, tmp_path / "killed", order=kills, kill_at=40).run()
        except Killed:
            kills += 1
    assert kills > 5
    assert decisions(record) == decisions(undisturbed)


def test_no_trial_is_started_twice_in_an_undisturbed_study(tmp_path: Path) -> None:
    simulator = Simulator(study(), tmp_path, slots=3)
    simulator.run()
    assert max(Counter(simulator.starts).values()) == 1


def test_a_network_that_rejects_noise_but_cannot_classify_does_not_win(tmp_path: Path) -> None:
    def metrics(config: TrialConfig, epoch: int) -> Metrics:
        useless = config.training.lr < 0.1
        return {
            "validation/accuracy": 0.2 if useless else 0.95,
            "noise/fpr95": 0.0 if useless else 0.4,
            "noise/auroc": 1.0 if useless else 0.8,
        }

    spec = searched(study(), pruner=PrunerSpec("none"), guard=GuardSpec(max_drop=0.05))
    record = Simulator(spec, tmp_path, metrics=metrics).run()
    for arm in record.arms.values():
        assert arm.selected is not None
        lr = arm.configurations[arm.selected].params["lr"]
        assert isinstance(lr, float)
        assert lr >= 0.1


def test_a_configuration_that_cannot_win_any_more_does_not_get_its_remaining_seeds(tmp_path: Path) -> None:
    spec = searched(study(), pruner=PrunerSpec("none"), seeds=(0, 1, 2), parallel=1)
    record = Simulator(spec, tmp_path).run()
    stopped = [c for a in record.arms.values() for c in a.configurations if c.state == "pruned"]
    assert stopped
    for configuration in stopped:
        arm = record.arms[configuration.arm]
        best = min(
            c.value
            for c in arm.configurations[: configuration.number]
            if c.state == "complete" and c.value is not None
        )
        assert "cannot win any more" in configuration.reason
        assert len(configuration.trials) < 3 or "after 2 of 3" in configuration.reason
        assert configuration.value is not None
        # Even zeros on the seeds to come would have left its mean behind the best.
        through = 1 if "after 1" in configuration.reason else 2
        assert configuration.value * through / 3 > best


def test_a_trial_that_is_behind_is_stopped_before_its_last_epoch_but_not_before_the_warm_up(
    tmp_path: Path,
) -> None:
    record = Simulator(study(), tmp_path).run()
    pruned = [t for t in record.trials.values() if t.state == "pruned"]
    assert pruned
    assert all(2 <= max(t.reports) < 6 for t in pruned)


def failing(kind: FailureKind, until: int, arm: str = "hem") -> Any:
    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        if config.arm == arm and attempt <= until:
            return Outcome("failed", {}, 0.5, kind, "made to fail")
        return None

    return failures


def test_a_failed_attempt_is_retried_as_configured_and_costs_nothing_but_time(tmp_path: Path) -> None:
    spec = study(execution=ExecutionSpec(retries=RetrySpec(exception=2)))
    undisturbed = Simulator(spec, tmp_path / "a").run()
    retried = Simulator(spec, tmp_path / "b", failures=failing("exception", 2)).run()
    assert decisions(retried) == decisions(undisturbed)
    failed = [t for t in retried.trials.values() if t.arm == "hem"]
    assert all(t.failures == ["exception: made to fail"] * 2 for t in failed)
    assert all(t.seconds > 1.0 for t in failed), "the failed attempts' seconds must be accounted for"


def test_an_arm_whose_trials_all_fail_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    record = Simulator(study(), tmp_path, failures=failing("diverged", 99)).run()
    assert record.arms["hem"].selected is None
    assert "8 of 8 failed" in record.arms["hem"].failure
    assert "diverged: made to fail" in record.arms["hem"].failure
    assert len(record.arms["logitnorm"].confirm_trials) == 3


def test_a_diverged_trial_is_not_retried_by_default(tmp_path: Path) -> None:
    simulator = Simulator(study(), tmp_path, failures=failing("diverged", 99))
    simulator.run()
    assert max(Counter(simulator.starts).values()) == 1


def test_an_arm_with_one_point_is_confirmed_without_a_search(tmp_path: Path) -> None:
    spec = study()
    arms = {**spec.arms, "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {})}
    record = Simulator(replace(spec, arms=arms), tmp_path).run()
    stages = Counter(t.stage for t in record.trials.values() if t.arm == "cross_entropy")
    assert stages == {"confirm": 3}
    assert record.arms["cross_entropy"].configurations[0].trials == {}


def test_a_grid_is_walked_once_from_end_to_end(tmp_path: Path) -> None:
    taus = (0.01, 0.02, 0.04, 0.08)
    arms = {"logitnorm": ArmSpec("logitnorm", "logitnorm", {"tau": Term("grid", taus)})}
    spec = replace(study(), arms=arms, baseline="logitnorm", search=SearchSpec(sampler="grid", trials=10))
    record = Simulator(spec, tmp_path).run()
    assert [c.params["tau"] for c in record.arms["logitnorm"].configurations] == list(taus)


def test_a_small_space_is_not_searched_twice_over(tmp_path: Path) -> None:
    arms = {"logitnorm": ArmSpec("logitnorm", "logitnorm", {"tau": Term("choice", (0.04, 0.1, 0.5))})}
    spec = replace(study(), arms=arms, baseline="logitnorm")
    record = Simulator(spec, tmp_path).run()
    tried = [c.params["tau"] for c in record.arms["logitnorm"].configurations]
    assert sorted(tried) == [0.04, 0.1, 0.5]
    assert record.arms["logitnorm"].selected is not None


def test_an_arm_confirms_while_others_still_search(tmp_path: Path) -> None:
    arms = {**study().arms, "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {})}
    Simulator(replace(study(), arms=arms), tmp_path, slots=8).run()
    kinds = [(e["event"], e.get("stage"), e.get("arm")) for e in read_events(tmp_path / "ledger.jsonl")]
    first_confirm = kinds.index(("started", "confirm", "cross_entropy"))
    last_search = max(i for i, k in enumerate(kinds) if k[:2] == ("started", "search"))
    assert first_confirm < last_search


def test_search_trials_never_use_a_confirm_seed(tmp_path: Path) -> None:
    record = Simulator(study(), tmp_path).run()
    seeds = {
        stage: {t.seed for t in record.trials.values() if t.stage == stage} for stage in ("search", "confirm")
    }
    assert seeds == {"search": {0, 1}, "confirm": {100, 101, 102}}


def test_the_sampler_learns(tmp_path: Path) -> None:
    spec = searched(study(), trials=30, seeds=(0,), pruner=PrunerSpec("none"), parallel=1)
    record = Simulator(spec, tmp_path, metrics=landscape).run()
    values = [c.value for c in record.arms["cross_entropy"].configurations if c.value is not None]
    assert sum(values[20:]) / 10 < sum(values[:10]) / 10


def test_a_stop_that_comes_after_the_last_epoch_still_counts_as_pruned(tmp_path: Path) -> None:
    """Reports may travel together: a trial can have ended when the verdict on its middle is found."""

    class Late(Campaign):
        def report(self, key: str, epoch: int, metrics: Metrics) -> bool:
            super().report(key, epoch, metrics)
            return False

    at_once = Simulator(study(), tmp_path / "at-once").run()
    late = Simulator(study(), tmp_path / "late", campaign=Late).run()
    assert decisions(late) == decisions(at_once)
    pruned = {k for k, t in at_once.trials.items() if t.state == "pruned"}
    assert pruned
    assert {k for k, t in late.trials.items() if t.state == "pruned"} == pruned
