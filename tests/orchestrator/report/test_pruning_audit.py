"""What pruning lost, against hand computation."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.campaign.stops import Stop
from orchestrator.report.budget import saved_by_pruning
from orchestrator.report.pruning_audit import PruningAudit, pruning_audit, step_text
from orchestrator.study.spec import AuditSpec, SearchSpec
from tests.orchestrator.simulation import Simulator, study

from .audit_stories import AUDITED, AUDITS, audited, audited_story, searched_story, told
from .stories import Story


def of_logitnorm(story: Story) -> PruningAudit:
    found = pruning_audit(story.spec, story.record(), "logitnorm")
    assert found is not None
    return found


def test_regret_and_share_are_as_by_hand() -> None:
    audit = of_logitnorm(audited_story())
    assert (audit.stopped, audit.ruled_out, audit.drawn, audit.failed) == (3, 1, 3, 0)
    # Means over two seeds: .15, .45 and .40 against .21; the tie-breaks are equal.
    ends = {each.number: (round(each.fpr95, 9), each.better) for each in audit.audited}
    assert ends == {2: (0.15, True), 3: (0.45, False), 4: (0.40, False)}
    assert audit.better == 1
    assert audit.regret == pytest.approx(0.06, abs=1e-12)
    assert audit.chosen_fpr95 == pytest.approx(0.21)
    assert audit.share is not None
    # Clopper and Pearson for 1 of 3 (tables): .0084 and .9057.
    assert list(audit.share) == pytest.approx([0.0084, 0.9057], abs=5e-5)
    assert audit.seconds == 12.0


def test_without_a_better_one_there_is_no_regret() -> None:
    story = searched_story()
    for number in (3, 4):
        for seed, rates in enumerate(AUDITS[number][:2]):
            audited(story, "logitnorm", number, seed, rates, 0.5, 0.5)
    audit = of_logitnorm(story)
    assert len(audit.audited) == 2, "one of the drawn has no trial yet"
    assert (audit.regret, audit.better) == (0.0, 0)
    assert audit.share is not None
    assert list(audit.share) == pytest.approx([0.0, 1 - 0.025**0.5])


def test_where_each_was_stopped_it_stood_where_the_pruner_saw_it() -> None:
    audited_ones = of_logitnorm(audited_story()).audited
    # Within seed 0; within seed 1, with the end of seed 0; after seed 0.
    assert {e.number: e.stop for e in audited_ones} == {2: Stop(0, 5), 3: Stop(1, 5), 4: Stop(1, 0)}
    then = {e.number: e.then for e in audited_ones}
    assert then == pytest.approx({2: 0.90, 3: (0.40 + 0.80) / 2, 4: 0.35})


def test_early_values_are_compared_with_final_ones_at_one_step_over_audited_and_completed() -> None:
    audit = of_logitnorm(audited_story())
    # The middle one of the three stops; at the end of seed 0 all five stand in their final order.
    assert audit.step == Stop(1, 0)
    assert audit.order is not None
    assert audit.order.n == 5
    assert audit.order.tau == pytest.approx(1.0)
    fewer = dataclasses.replace(AUDITED, audit=AuditSpec(pruned=1))
    one = of_logitnorm(audited_story(fewer))
    assert one.order is not None
    assert one.order.n == 3
    assert one.step == one.audited[0].stop


def test_an_early_order_that_is_not_the_final_one_is_seen() -> None:
    story = searched_story()
    # Stopped at epoch 5 of seed 0 with .90, worst of all, and best in the end.
    for seed, rates in enumerate(AUDITS[2][:2]):
        audited(story, "logitnorm", 2, seed, rates, 0.5, 0.5)
    audit = of_logitnorm(story)
    assert audit.step == Stop(0, 5)
    assert audit.order is not None
    # Then .60, .50, .90; in the end .31, .21, .15: one pair in order, two not.
    assert audit.order.tau == pytest.approx(-1 / 3)


def test_a_network_below_the_accuracy_guard_would_not_have_been_chosen() -> None:
    story = searched_story()
    for seed in (0, 1):
        audited(story, "logitnorm", 2, seed, (0.5, 0.01), 0.5, 0.5, accuracy=0.90)
    audit = of_logitnorm(story)
    assert audit.audited[0].fpr95 == pytest.approx(0.01)
    assert audit.better == 0
    # The guard is .97 - .05: at .93 it would have been.
    story = searched_story()
    for seed in (0, 1):
        audited(story, "logitnorm", 2, seed, (0.5, 0.01), 0.5, 0.5, accuracy=0.93)
    assert of_logitnorm(story).better == 1


def test_against_a_winner_below_the_guard_no_regret_is_given() -> None:
    story = searched_story()
    for event in story.events:
        if event["event"] == "selected" and event["arm"] == "logitnorm":
            event["value"] = 3.2
    for seed in (0, 1):
        audited(story, "logitnorm", 2, seed, (0.5, 0.1), 0.5, 0.5)
    audit = of_logitnorm(story)
    assert (audit.better, audit.regret) == (1, None)


def test_a_configuration_whose_trial_failed_is_counted_and_left_out() -> None:
    story = searched_story()
    audited(story, "logitnorm", 2, 0, (0.5, 0.1), 0.5, 0.5)
    key = story.started("logitnorm", "audit", 2, 1)
    told(story, key, (0.5,))
    story.finished(key, "failed", {}, 1.0, "lost")
    audit = of_logitnorm(story)
    assert (audit.audited, audit.failed, audit.regret, audit.order) == ((), 1, None, None)


def test_there_is_no_audit_where_none_is_asked_for_or_nothing_was_chosen_by_search() -> None:
    story = audited_story()
    assert pruning_audit(AUDITED, story.record(), "cross_entropy") is not None
    quiet = dataclasses.replace(AUDITED, audit=AuditSpec())
    assert pruning_audit(quiet, story.record(), "logitnorm") is None
    assert pruning_audit(AUDITED, Story(AUDITED).opened().record(), "logitnorm") is None


def test_what_pruning_saved_is_as_by_hand() -> None:
    arm = audited_story().record().arms["logitnorm"]
    epochs, seconds = saved_by_pruning(AUDITED, arm)
    # 2: five epochs and a seed; 3: five epochs; 4 and 5: a seed each. A tenth of a second an epoch.
    assert epochs == 5 + 10 + 5 + 10 + 10
    assert seconds == pytest.approx(4.0)


def test_a_step_is_told_by_its_epoch_and_seed() -> None:
    spec = dataclasses.replace(AUDITED, search=SearchSpec(seeds=(7, 3)))
    assert step_text(spec, Stop(1, 4)) == "epoch 4 of seed 3"
    assert step_text(spec, Stop(1, 0)) == "the end of seed 7"


def test_the_audited_of_a_real_campaign_stand_where_their_searches_stopped(tmp_path: Path) -> None:
    spec = dataclasses.replace(study(), audit=AuditSpec(pruned=8))
    record = Simulator(spec, tmp_path).run()
    record.sessions[-1] = {**record.sessions[-1], "data": {"num_classes": 6}}
    seen = 0
    for name, arm in record.arms.items():
        audit = pruning_audit(spec, record, name)
        assert audit is not None
        assert len(audit.audited) == audit.stopped == audit.drawn
        assert audit.stopped + audit.ruled_out == sum(c.state == "pruned" for c in arm.configurations)
        assert audit.chosen == arm.selection["value"]
        for each in audit.audited:
            seen += 1
            assert each.then is not None
    assert seen
