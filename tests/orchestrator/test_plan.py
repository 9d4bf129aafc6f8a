"""The plan's numbers, against hand computation, and its text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from orchestrator.report.plan_text import duration, plan_text, reach_text
from orchestrator.study.loader import load_study, parse_study
from orchestrator.study.plan import make_plan, trial_flop
from orchestrator.study.spec import (
    BudgetSpec,
    ConfirmSpec,
    ExecutionSpec,
    ProtocolSpec,
    ReportSpec,
    ResourcesSpec,
    SearchSpec,
)
from workloads.catalogue import Term
from workloads.contract import TrainingConfig
from workloads.models.catalogue import MODELS
from workloads.protocol_config import ContinualConfig, LongTailedConfig

from .test_dump import SPEC

STUDIES = Path(__file__).resolve().parents[2] / "studies"
_SHIPPED = load_study(STUDIES / "quickstart.yaml")
QUICK = dataclasses.replace(
    _SHIPPED,
    data=dataclasses.replace(_SHIPPED.data, validation_fraction=0.25),
    training=dataclasses.replace(_SHIPPED.training, epochs=20, evaluate_every=1),
    search=dataclasses.replace(_SHIPPED.search, trials=12, seeds=(0, 1, 2), parallel=1),
)
TAU = load_study(STUDIES / "logitnorm_tau.yaml")


def test_trials_are_configurations_times_seeds_and_each_winner_is_confirmed_on_every_seed() -> None:
    plan = make_plan(QUICK, cores=2)
    assert [(a.configurations, a.search_trials, a.confirm_trials) for a in plan.arms] == [(12, 36, 5)] * 3
    assert (plan.search_trials, plan.confirm_trials) == (108, 15)


def test_a_small_space_needs_fewer_trials_than_the_search_allows() -> None:
    plan = make_plan(TAU, cores=2)
    assert [(a.name, a.configurations) for a in plan.arms] == [("cross_entropy", 1), ("logitnorm", 11)]


def test_the_operations_of_a_trial_are_counted_as_by_hand() -> None:
    # 45,000 of 50,000 images trained on, 5,000 and 1,000 of noise evaluated after each of 200 epochs.
    macs = float(MODELS["wrn_40_2"].facts["macs"])
    assert trial_flop(TAU) == pytest.approx(2 * macs * 200 * (3 * 45_000 + 5_000 + 1_000), rel=1e-12)
    # Digits 0 to 5: two thirds of 178, 182, 177, 183, 181, 182 images, and a quarter of each for validation.
    before = [119, 121, 118, 122, 121, 121]
    held = [30, 30, 30, 31, 30, 30]
    each_epoch = 3 * (sum(before) - sum(held)) + sum(held) + 1000
    assert trial_flop(QUICK) == pytest.approx(2 * 599_680 * 20 * each_epoch, rel=1e-12)
    sparse = dataclasses.replace(QUICK, training=dataclasses.replace(QUICK.training, evaluate_every=7))
    by_hand = 2 * 599_680 * (20 * 3 * (sum(before) - sum(held)) + 3 * (sum(held) + 1000))
    assert trial_flop(sparse) == pytest.approx(by_hand, rel=1e-12)


def test_the_guessed_time_is_operations_over_the_assumed_speed_of_what_runs_side_by_side() -> None:
    time = make_plan(QUICK, cores=2).time
    assert time is not None
    assert not time.measured
    assert time.side_by_side == 2
    assert time.seconds == pytest.approx(123 * trial_flop(QUICK) / 50e9 / 2, rel=1e-12)
    on_gpu = make_plan(TAU, cores=2).time
    assert on_gpu is not None
    # 11 values of tau searched with one seed, two winners on 5 seeds; one point is not searched.
    assert on_gpu.seconds == pytest.approx((11 + 10) * trial_flop(TAU) / 10e12, rel=1e-12)


def test_no_more_trials_run_side_by_side_than_the_study_allows() -> None:
    capped = dataclasses.replace(QUICK, execution=ExecutionSpec(max_concurrent=3))
    wide = dataclasses.replace(QUICK, resources=ResourcesSpec(cpu=4.0))
    times = [make_plan(s, cores=64).time for s in (QUICK, capped, wide)]
    # Three arms, one configuration each at once, three seeds: nine trials at most.
    assert [t.side_by_side for t in times if t is not None] == [9, 3, 9]


def test_each_regime_confirms_every_winner_and_costs_its_share_of_the_image_passes() -> None:
    longer, shorter = (dataclasses.replace(QUICK.training, epochs=epochs) for epochs in (40, 5))
    batch = QUICK.training.batch_size
    turned = ContinualConfig(stream="rotated", scenario="domain_il", tasks=3, replay_batch=batch // 4)
    protocols = {
        "standard": ProtocolSpec("standard"),
        "long_tailed": ProtocolSpec(
            "long_tailed", ("plain", "crt"), LongTailedConfig(factor=10.0, crt_epochs=10), training=longer
        ),
        "continual": ProtocolSpec(
            "continual", ("naive", "replay", "derpp"), ContinualConfig(tasks=2, buffer=50), training=shorter
        ),
        "turned": ProtocolSpec("continual", ("joint", "replay"), turned),
    }
    plan = make_plan(dataclasses.replace(QUICK, protocols=protocols), cores=1, measured={"hem": 1.0})
    # Eight regimes of five seeds for each of three arms.
    assert [a.confirm_trials for a in plan.arms] == [40] * 3
    assert (plan.search_trials, plan.confirm_trials) == (108, 120)
    # Of 89, 91, 88, 91, 91 and 91 images a tail of factor 10 keeps int(89 * 10 ** (-i / 5)).
    tail = 40 / 20 * (89 + 56 + 35 + 22 + 14 + 8) / 541
    # A step of replay shows its batch once more, one of DER++ twice; a turned stream shows all in every task.
    stream = 5 / 20 * (1 + 2 + 3)
    # Re-training shows 10 epochs after the 40.
    shares = 1 + tail * (1 + 1.25) + stream + 3 * 1 + 3 * 1.25
    assert plan.time is not None
    assert plan.time.seconds == pytest.approx(3 * (36 + 5 * shares), rel=1e-12)


def test_a_standard_study_is_planned_as_one_that_names_no_protocol() -> None:
    named = dataclasses.replace(QUICK, protocols={"standard": ProtocolSpec("standard")})
    assert make_plan(named, cores=2) == make_plan(QUICK, cores=2)
    words = " ".join(plan_text(QUICK, make_plan(QUICK, cores=2), []).split())
    assert "each arm's winner on 5 fresh seeds; test data are opened" in words


def test_measured_seconds_replace_the_guess_and_stand_in_for_arms_not_measured() -> None:
    time = make_plan(QUICK, cores=1, measured={"cross_entropy": 1.0, "hem": 3.0}).time
    assert time is not None
    assert time.measured
    assert time.trial_seconds == {"cross_entropy": 1.0, "logitnorm": 2.0, "hem": 3.0}
    assert time.seconds == 41 * (1 + 2 + 3)


def test_without_operation_counts_there_is_no_guess() -> None:
    unknown = dataclasses.replace(QUICK, model=dataclasses.replace(QUICK.model, name="own"))
    assert make_plan(unknown, cores=2).time is None


def test_the_reach_at_five_seeds_is_that_of_the_tables() -> None:
    reach = make_plan(QUICK, cores=2).reach
    assert reach.smallest_p == 0.0625
    assert reach.comparisons == 4
    # From scipy's non-central t: dz = 1.682 at alpha .05, 2.477 at .05/4.
    assert reach.effect == pytest.approx(1.682, abs=5e-4)
    assert reach.effect_holm == pytest.approx(2.477, abs=5e-4)


def test_the_plan_says_in_words_what_so_many_seeds_can_show() -> None:
    five = reach_text(make_plan(QUICK, cores=2).reach)
    assert "is 0.0625, so such a test can never fall below 0.05" in five
    assert "1.68 standard deviations" in five
    assert "over 4 comparisons it takes 2.48" in five
    ten = dataclasses.replace(QUICK, confirm=ConfirmSpec(tuple(range(100, 110))))
    assert "can never" not in reach_text(make_plan(ten, cores=2).reach)
    one = dataclasses.replace(QUICK, confirm=ConfirmSpec((100,)))
    assert "no difference can be told from chance" in reach_text(make_plan(one, cores=2).reach)
    assert "one arm" in reach_text(make_plan(SPEC, cores=2).reach)


def test_the_text_of_a_plan_ends_with_a_study_that_reads_back_the_same() -> None:
    text = plan_text(QUICK, make_plan(QUICK, cores=2), ["a note"])
    head, _, tail = text.partition("The complete study, with every default\n\n")
    assert "  - a note" in head
    assert parse_study("\n".join(line[2:] for line in tail.splitlines()), "plan") == QUICK


def test_the_text_of_a_plan_shows_each_arm_with_its_space_and_what_stays_at_its_default() -> None:
    lines = plan_text(QUICK, make_plan(QUICK, cores=2), []).splitlines()
    assert "  cross_entropy, the baseline: a continuous space" in lines
    assert "      mu.scale   log-uniform 200 .. 20000" in lines
    assert "      threshold  sample (default)" in lines
    tau = plan_text(TAU, make_plan(TAU, cores=2), []).splitlines()
    assert "      lr   0.1 (training.lr)" in tau
    assert any("a trial" in line and " min" in line for line in tau)


def test_the_text_says_whether_the_time_was_measured_or_guessed() -> None:
    assert "rough guess" in plan_text(QUICK, make_plan(QUICK, cores=2), [])
    measured = plan_text(QUICK, make_plan(QUICK, cores=2, measured={"hem": 1.5}), [])
    assert "rough guess" not in measured
    assert "hem 1.5 s" in measured


def test_the_plan_of_a_study_made_in_python_needs_no_file() -> None:
    spec = dataclasses.replace(
        SPEC,
        search=SearchSpec(trials=3),
        training=TrainingConfig(epochs=1),
        report=ReportSpec(("test/accuracy",)),
    )
    assert make_plan(spec, cores=1).confirm_trials == 5
    assert spec.arms["cross_entropy"].space == {"lr": Term("fixed", (0.1,))}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.96, "10 s"),
        (59.7, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.8, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86_399, "1 day 0 h"),
        (273_600, "3 days 4 h"),
    ],
)
def test_a_duration_is_written_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_budget_of_trials_caps_the_plan_of_each_search() -> None:
    # Twelve configurations of three seeds would be 36 trials; of ten trials each but the last may end at one.
    plan = make_plan(dataclasses.replace(QUICK, budget=BudgetSpec(trials=10)), cores=2)
    assert [(a.configurations, a.search_trials) for a in plan.arms] == [(8, 10)] * 3
    free = make_plan(dataclasses.replace(QUICK, budget=BudgetSpec(trials=40)), cores=2)
    assert free == make_plan(QUICK, cores=2)
    tau = make_plan(dataclasses.replace(TAU, budget=BudgetSpec(trials=4)), cores=2)
    assert [(a.configurations, a.search_trials) for a in tau.arms] == [(1, 0), (4, 4)]


def test_repeats_multiply_the_search_and_add_one_regime_of_confirm_trials_each() -> None:
    spec = dataclasses.replace(TAU, search=dataclasses.replace(TAU.search, repeats=3))
    plan = make_plan(spec, cores=2)
    # One point has nothing to search again; eleven values are, three times, each winner on five seeds.
    assert [(a.search_trials, a.confirm_trials) for a in plan.arms] == [(0, 5), (33, 15)]
    protocols = {
        "standard": ProtocolSpec("standard"),
        "long_tailed": ProtocolSpec("long_tailed", ("plain", "drw"), LongTailedConfig(factor=10.0)),
    }
    plan = make_plan(dataclasses.replace(spec, protocols=protocols), cores=2)
    assert [a.confirm_trials for a in plan.arms] == [15, 25]


def test_limits_of_seconds_cap_the_time_of_the_searches_and_not_that_of_the_confirm_trials() -> None:
    measured = dict.fromkeys(QUICK.arms, 2.0)

    def seconds(budget: BudgetSpec, times: int = 1) -> float:
        spec = dataclasses.replace(
            QUICK, budget=budget, search=dataclasses.replace(QUICK.search, repeats=times)
        )
        time = make_plan(spec, cores=2, measured=measured).time
        assert time is not None
        return time.seconds

    # Three arms: 36 search and 5 confirm trials each, of two seconds, two at once.
    assert seconds(BudgetSpec()) == 3 * 41
    assert seconds(BudgetSpec(device_seconds=30.0)) == 3 * (30 + 10) / 2
    assert seconds(BudgetSpec(wall_seconds=20.0)) == 20 + 3 * 5
    assert seconds(BudgetSpec(device_seconds=30.0), 2) == 2 * 3 * (30 + 10) / 2


def test_the_plan_says_what_ends_a_search_and_how_often_it_is_done() -> None:
    spec = dataclasses.replace(
        QUICK,
        budget=BudgetSpec(trials=10, device_seconds=90.0, wall_seconds=7200.0),
        search=dataclasses.replace(QUICK.search, repeats=3),
    )
    words = " ".join(plan_text(spec, make_plan(spec, cores=2), []).split())
    assert (
        "a search ends at 10 trials an arm of each repeat, or at 1 min 30 s of device time an arm of each "
        "repeat, or at 2 h 0 min of the study's running time; the best so far is confirmed." in words
    )
    assert "every search is done 3 times" in words
    plain = " ".join(plan_text(QUICK, make_plan(QUICK, cores=2), []).split())
    assert "Budget:" not in plain
    assert "Repeats:" not in plain
