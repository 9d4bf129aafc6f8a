"""Audits: drawn by a rule that no result bears on, run when everything is chosen, changing nothing of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.campaign.audit import Draw, draw, stop_of
from orchestrator.campaign.campaign import Outcome
from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import ArmRecord, ConfigurationRecord, StudyRecord
from orchestrator.campaign.standing import audits_ended, audits_planned, is_searched, is_settled
from orchestrator.execution.forecast import seconds_left
from orchestrator.study.spec import ArmSpec, AuditSpec, ProxySpec, SearchSpec, StudySpec
from orchestrator.study.terms import space_size
from tests.orchestrator.simulation import PROTOCOLS, Killed, Simulator, decisions, study
from workloads.contract import TrialConfig

BOTH = AuditSpec(pruned=2, proxy=ProxySpec(3))


def audited(spec: StudySpec | None = None, audit: AuditSpec = BOTH) -> StudySpec:
    return replace(spec or study(), audit=audit)


def checked(record: StudyRecord) -> dict[str, dict[tuple[int, int], tuple[str, dict[str, float]]]]:
    """Every audit trial by arm, configuration and seed: its state and what it measured."""
    return {
        name: {(t.number, t.seed): (t.state, dict(t.metrics)) for t in arm.audit_trials}
        for name, arm in record.arms.items()
    }


def made_up_arm(states: list[str], selected: int = 0) -> ArmRecord:
    """An arm whose configurations ended so; ``stopped`` by its pruner, ``pruned`` otherwise."""
    arm = ArmRecord("logitnorm", selected=selected, selection={"value": 0.1})
    for number, state in enumerate(states):
        configuration = ConfigurationRecord("logitnorm", number, {"tau": 0.1 + number})
        configuration.state = "pruned" if state == "stopped" else state  # type: ignore[assignment]
        if state == "stopped":
            configuration.reason = "stopped by the median pruner at epoch 3 of seed 0"
        arm.configurations.append(configuration)
    return arm


def test_every_audited_configuration_is_trained_on_all_search_seeds_and_measured_on_real_ood(
    tmp_path: Path,
) -> None:
    spec = audited()
    simulator = Simulator(spec, tmp_path)
    record = simulator.run()
    for arm in record.arms.values():
        drawn = draw(spec, arm)
        assert (len(drawn.pruned), len(drawn.proxy)) == (2, 3)
        assert set(arm.audits) == set(drawn.numbers)
        for number, trials in arm.audits.items():
            assert set(trials) == {0, 1}
            for trial in trials.values():
                assert trial.params == arm.configurations[number].params
                assert (trial.stage, trial.state, trial.place) == ("audit", "complete", "audit")
                assert len(trial.reports) == spec.training.epochs
    assert max(Counter(simulator.starts).values()) == 1
    assert is_settled(spec, record)


def test_nothing_that_is_chosen_or_confirmed_depends_on_an_audit(tmp_path: Path) -> None:
    without = Simulator(study(), tmp_path / "without", slots=3).run()
    record = Simulator(audited(), tmp_path / "with", slots=3, order=5).run()
    assert decisions(record) == decisions(without)
    assert {k for k, t in record.trials.items() if t.stage != "audit"} == set(without.trials)


@pytest.mark.parametrize("order", range(4))
def test_audits_begin_when_no_search_is_open_and_after_the_confirm_trials(tmp_path: Path, order: int) -> None:
    spec = audited(replace(study(), search=replace(study().search, repeats=2)))
    # With room for everything at once: only the rule holds audits back.
    record = Simulator(spec, tmp_path, slots=60, order=order).run()
    events = list(read_events(tmp_path / "ledger.jsonl"))
    stages = [(e["event"], e.get("stage")) for e in events]
    first = stages.index(("started", "audit"))
    assert all(event not in ("selected", "settled", "configured") for event, _ in stages[first:])
    assert ("started", "confirm") not in stages[first:]
    assert all(not search.audits for arm in record.arms.values() for search in arm.searches[1:])


def test_audits_do_not_depend_on_the_order_of_arrival(tmp_path: Path) -> None:
    first = Simulator(audited(), tmp_path / "first", slots=2, order=1).run()
    for order, slots in ((2, 1), (3, 7)):
        other = Simulator(audited(), tmp_path / str(order), slots=slots, order=order).run()
        assert checked(other) == checked(first)


def test_a_study_killed_in_its_audits_goes_on_with_them(tmp_path: Path) -> None:
    undisturbed = Simulator(audited(), tmp_path / "undisturbed").run()
    events = list(read_events(tmp_path / "undisturbed" / "ledger.jsonl"))
    first = next(i for i, e in enumerate(events) if e.get("stage") == "audit")
    for moment in range(first - 3, len(events), 37):
        folder = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed):
            Simulator(audited(), folder, kill_at=moment).run()
        ended = {
            k for k, t in StudyRecord.fold(read_events(folder / "ledger.jsonl")).trials.items() if t.ended
        }
        again = Simulator(audited(), folder, order=moment, slots=3)
        record = again.run()
        assert checked(record) == checked(undisturbed)
        assert decisions(record) == decisions(undisturbed)
        assert not ended & set(again.starts), "a finished trial ran again"


def test_audits_may_be_asked_for_when_a_study_is_done_and_more_of_them_later(tmp_path: Path) -> None:
    done = Simulator(study(), tmp_path).run()
    assert is_settled(study(), done)
    assert not is_settled(audited(), done)
    few = Simulator(audited(audit=AuditSpec(pruned=1)), tmp_path)
    record = few.run()
    assert {t.stage for key, t in record.trials.items() if key in few.starts} == {"audit"}
    assert not is_settled(audited(), record)
    more = Simulator(audited(), tmp_path)
    record = more.run()
    assert not set(few.starts) & set(more.starts), "an audited configuration was trained again"
    assert decisions(record) == decisions(done)
    assert checked(record) == checked(Simulator(audited(), tmp_path / "at once").run())


def test_an_audit_trial_that_fails_is_tried_again_and_then_left(tmp_path: Path) -> None:
    spec = audited()

    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        if config.stage != "audit" or config.seed == 1 or (config.arm != "hem" and attempt > 1):
            return None
        return Outcome("failed", {}, 0.5, "lost", "gone")

    record = Simulator(spec, tmp_path, failures=failures).run()
    states = {(t.arm, t.seed): {t.state, t.attempts} for a in record.arms.values() for t in a.audit_trials}
    tries = 1 + spec.execution.retries.lost
    assert states["hem", 0] == {"failed", tries}
    assert states["hem", 1] == {"complete", 1}
    assert states["logitnorm", 0] == {"complete", 2}
    assert is_settled(spec, record)


def test_what_the_search_could_not_win_any_more_is_not_drawn_for_the_pruning_audit() -> None:
    spec = audited(audit=AuditSpec(pruned=10, proxy=ProxySpec(10)))
    arm = made_up_arm(["complete", "stopped", "pruned", "failed", "stopped", "running"])
    drawn = draw(spec, arm)
    assert set(drawn.pruned) == {1, 4}
    assert set(drawn.proxy) == {0, 1, 2, 4}
    assert [stop_of(spec, c) is not None for c in arm.configurations] == [0, 1, 0, 0, 1, 0]
    assert drawn.of(4) == ("pruned", "proxy")
    assert drawn.of(2) == ("proxy",)


def test_nothing_is_drawn_before_the_winner_is_frozen_nor_of_a_repeat_nor_without_an_audit() -> None:
    arm = made_up_arm(["complete", "stopped", "stopped"])
    assert draw(audited(), arm) != Draw()
    assert draw(study(), arm) == Draw()
    assert draw(audited(), replace(arm, selected=None)) == Draw()
    assert draw(audited(), replace(arm, repeat=1)) == Draw()
    fixed = {**study().arms, "logitnorm": ArmSpec("logitnorm", "logitnorm", {})}
    assert draw(audited(replace(study(), arms=fixed)), arm) == Draw()


def test_a_larger_number_adds_to_a_smaller_one_and_both_draws_share_what_they_can() -> None:
    arm = made_up_arm(["stopped", "complete", "stopped"] * 20)
    draws = [draw(audited(audit=AuditSpec(pruned=n, proxy=ProxySpec(n))), arm) for n in range(1, 40)]
    for fewer, more in pairwise(draws):
        assert more.pruned[: len(fewer.pruned)] == fewer.pruned
        assert more.proxy[: len(fewer.proxy)] == fewer.proxy
    # The first of all that were tried and that was stopped is the first of those that were stopped.
    last = draws[-1]
    assert [n for n in last.proxy if n in last.pruned] == list(last.pruned)[
        : sum(n in last.pruned for n in last.proxy)
    ]


def test_every_stopped_configuration_is_drawn_equally_often_whatever_its_value() -> None:
    arm = made_up_arm(["complete", *["stopped"] * 10])
    counts: Counter[int] = Counter()
    for seed in range(400):
        spec = audited(replace(study(), search=SearchSpec(sampler_seed=seed)), AuditSpec(pruned=3))
        counts.update(draw(spec, arm).pruned)
    # 120 each on average, standard deviation sqrt(400 * .3 * .7) = 9.2: within four of them.
    assert set(counts) == set(range(1, 11))
    assert all(abs(count - 120) < 37 for count in counts.values()), counts
    other = replace(arm, name="hem")
    assert draw(audited(), other).pruned != draw(audited(), arm).pruned


def test_an_arm_with_nothing_to_audit_holds_up_nobody(tmp_path: Path) -> None:
    arms = {**study().arms, "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {})}
    spec = audited(study(arms=arms))

    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        return Outcome("failed", {}, 0.5, "diverged", "NaN") if config.arm == "hem" else None

    record = Simulator(spec, tmp_path, failures=failures).run()
    assert space_size(arms["cross_entropy"].space) == 1
    assert [bool(arm.audits) for arm in record.arms.values()] == [False, True, False]
    assert is_settled(spec, record)


def test_audits_are_of_the_standard_protocol_in_a_study_of_several_regimes(tmp_path: Path) -> None:
    spec = audited(study(protocols=PROTOCOLS), AuditSpec(pruned=1))
    record = Simulator(spec, tmp_path).run()
    trials = [t for arm in record.arms.values() for t in arm.audit_trials]
    assert {(t.protocol, t.regime) for t in trials} == {("standard", "standard")}
    assert len(trials) == 6


def test_what_is_left_counts_audits_before_and_while_they_run(tmp_path: Path) -> None:
    spec = audited()
    Simulator(spec, tmp_path).run()
    events = list(read_events(tmp_path / "ledger.jsonl"))
    record = StudyRecord.fold(events)
    assert seconds_left(spec, record, 1) == 0.0
    arm = record.arms["hem"]
    assert audits_planned(spec, arm) == audits_ended(spec, arm) == 2 * len(draw(spec, arm).numbers)
    first = next(i for i, e in enumerate(events) if e.get("stage") == "audit")
    begun = StudyRecord.fold(events[: first + 1])
    assert sum(audits_ended(spec, a) for a in begun.arms.values()) == 0, "one runs, none has ended"
    before = StudyRecord.fold(events[:first])
    assert is_searched(spec, before)
    planned = sum(audits_planned(spec, a) for a in before.arms.values())
    # Confirm trials may still run when audits begin, and take .6 s each, as audits do.
    running = sum(t.ended is None for t in before.trials.values())
    assert seconds_left(spec, before, 1) == pytest.approx(0.6 * (planned + running))
    assert seconds_left(study(), before, 1) == pytest.approx(0.6 * running)
