"""Every arm is confirmed in every regime that its loss fits, once, whatever happens on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.campaign import Outcome
from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.execution.display import Display
from orchestrator.execution.forecast import trials_left
from orchestrator.report.status_text import status_text
from orchestrator.study.spec import ArmSpec, ProtocolSpec, PrunerSpec, SearchSpec, StudySpec
from tests.orchestrator.simulation import PROTOCOLS, REGIMES, Killed, Simulator, decisions, study
from workloads.catalogue import Term
from workloads.contract import TrialConfig
from workloads.protocol_config import ContinualConfig, LongTailedConfig

SEEDS = (100, 101, 102)
SKIPPED = {("hem", "long_tailed/drw"): "it does not fit", ("logitnorm", "standard"): "nor does this"}


def regime_study(**changes: Any) -> StudySpec:
    search = SearchSpec(trials=3, seeds=(0,), pruner=PrunerSpec("none"))
    return replace(study(protocols=PROTOCOLS, search=search), **changes)


def starts(folder: Path, stage: str = "confirm") -> list[tuple[str, str, int]]:
    """(arm, regime, seed) of the trials of a stage, in order of their starts."""
    return [
        (event["arm"], event.get("regime", "standard"), event["seed"])
        for event in read_events(folder / "ledger.jsonl")
        if event["event"] == "started" and event["stage"] == stage
    ]


def test_every_arm_is_confirmed_once_in_every_regime_on_every_seed(tmp_path: Path) -> None:
    record = Simulator(regime_study(), tmp_path, slots=3).run()
    every = {(arm, regime, seed) for arm in study().arms for regime in REGIMES for seed in SEEDS}
    assert Counter(starts(tmp_path)) == Counter(every)
    for arm in record.arms.values():
        assert {name: sorted(trials) for name, trials in arm.confirms.items()} == {
            name: list(SEEDS) for name in REGIMES
        }
        assert {t.state for t in arm.confirm_trials} == {"complete"}


def test_search_trials_are_standard_whatever_the_study_confirms(tmp_path: Path) -> None:
    only = {"long_tailed": PROTOCOLS["long_tailed"]}
    record = Simulator(regime_study(protocols=only), tmp_path).run()
    searched = [t for t in record.trials.values() if t.stage == "search"]
    assert searched
    assert {(t.protocol, t.regime) for t in searched} == {("standard", "standard")}
    assert {regime for _, regime, _ in starts(tmp_path)} == {"long_tailed/plain", "long_tailed/drw"}


def test_what_a_trial_is_asked_is_its_regimes(tmp_path: Path) -> None:
    asked: dict[str, TrialConfig] = {}

    def watched(config: TrialConfig, attempt: int) -> Outcome | None:
        asked[config.key] = config
        return None

    record = Simulator(regime_study(), tmp_path, failures=watched).run()
    for key, trial in record.trials.items():
        config = asked[key]
        tail, stream = config.long_tailed, config.continual
        assert (trial.protocol, trial.seed) == (config.protocol, config.seed)
        if trial.stage == "search" or trial.regime == "standard":
            assert (config.protocol, tail, stream) == ("standard", None, None)
        elif trial.protocol == "long_tailed":
            assert tail == LongTailedConfig(trial.regime.split("/")[1], factor=10.0)  # type: ignore[arg-type]
            assert stream is None
        else:
            variant: Any = trial.regime.split("/")[1]
            assert (tail, stream) == (None, ContinualConfig(variant, tasks=2, buffer=50))
        assert config.training.epochs == (3 if trial.protocol == "continual" else 6)


def test_confirm_trials_go_in_the_order_of_the_study_and_to_the_arm_that_has_the_fewest(
    tmp_path: Path,
) -> None:
    arms = {name: ArmSpec(name, "cross_entropy", {"lr": Term("fixed", (0.1,))}) for name in ("a", "b")}
    spec = regime_study(arms=arms, baseline="a")
    Simulator(spec, tmp_path / "one", slots=1).run()
    in_turn = [(arm, regime, seed) for regime in REGIMES for seed in SEEDS for arm in ("a", "b")]
    assert starts(tmp_path / "one") == in_turn
    turned = dict(reversed(PROTOCOLS.items()))
    Simulator(replace(spec, protocols=turned), tmp_path / "other", slots=1).run()
    first = [regime for _, regime, _ in starts(tmp_path / "other")]
    assert list(dict.fromkeys(first)) == [
        *("continual/naive", "continual/replay", "long_tailed/plain", "long_tailed/drw", "standard")
    ]


def test_a_regime_that_a_loss_does_not_fit_is_left_out_for_its_arm_alone(tmp_path: Path) -> None:
    record = Simulator(regime_study(), tmp_path, skipped=SKIPPED).run()
    begun = {(arm, regime) for arm, regime, _ in starts(tmp_path)}
    every = {(arm, regime) for arm in study().arms for regime in REGIMES}
    assert begun == every - set(SKIPPED)
    assert record.arms["hem"].skipped == {"long_tailed/drw": "it does not fit"}
    planned = {name: arm.confirm_planned(REGIMES, 3) for name, arm in record.arms.items()}
    assert planned == {"cross_entropy": 15, "logitnorm": 12, "hem": 12}


def test_defaults_are_what_the_arm_fixes_and_the_rate_that_its_loss_recommends(tmp_path: Path) -> None:
    arms = {
        "hem": ArmSpec("hem", "hem", {"mu.scale": Term("log_uniform", (200.0, 20000.0))}),
        "fixed": ArmSpec(
            "fixed", "logitnorm", {"tau": Term("fixed", (0.5,)), "lr": Term("uniform", (0.1, 0.2))}
        ),
        "rate": ArmSpec("rate", "hem", {"mu": Term("uniform", (0.1, 0.9)), "lr": Term("fixed", (0.3,))}),
        "own": ArmSpec("own", "mine:Loss", {"lr": Term("uniform", (0.1, 0.2))}),
    }
    asked: dict[str, TrialConfig] = {}

    def watched(config: TrialConfig, attempt: int) -> Outcome | None:
        asked[config.key] = config
        return None

    spec = regime_study(arms=arms, baseline="hem")
    record = Simulator(spec, tmp_path, failures=watched).run()
    expectations = {"hem": {"lr": 0.05}, "fixed": {"tau": 0.5, "lr": 0.1}, "rate": {"lr": 0.3}, "own": {}}
    for name, expected in expectations.items():
        arm = record.arms[name]
        winner = arm.selection["params"]
        assert winner != expected
        for trial in arm.confirm_trials:
            chosen = expected if trial.protocol == "continual" else winner
            assert trial.params == chosen
            # Where nothing recommends a rate, the study's holds (.1 by default).
            assert asked[trial.key].training.lr == chosen.get("lr", 0.1)


def test_the_same_training_under_two_names_runs_once_and_counts_in_both(tmp_path: Path) -> None:
    tail = LongTailedConfig(factor=10.0)
    protocols = {
        "long_tailed": ProtocolSpec("long_tailed", ("plain", "drw"), tail),
        "untuned": ProtocolSpec("long_tailed", ("drw",), tail, parameters="defaults"),
    }
    arms = {
        "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {"lr": Term("fixed", (0.1,))}),
        "hem": study().arms["hem"],
    }
    spec = regime_study(arms=arms, protocols=protocols)
    simulator = Simulator(spec, tmp_path)
    record = simulator.run()
    assert max(Counter(simulator.starts).values()) == 1
    confirms = record.arms["cross_entropy"].confirms
    assert {name: list(trials) for name, trials in confirms.items()} == {
        name: list(SEEDS) for name in ("long_tailed/plain", "long_tailed/drw", "untuned/drw")
    }
    assert all(confirms["untuned/drw"][seed] is confirms["long_tailed/drw"][seed] for seed in SEEDS)
    own = record.arms["hem"].confirms
    assert all(own["untuned/drw"][seed].key != own["long_tailed/drw"][seed].key for seed in SEEDS)
    again = StudyRecord.fold(read_events(tmp_path / "ledger.jsonl"))
    assert decisions(again) == decisions(record)
    assert trials_left(spec, again) == (0.0, 0.0)


@pytest.mark.parametrize("first", range(2, 17, 7))
def test_a_study_of_regimes_killed_at_any_event_ends_like_an_undisturbed_one(
    tmp_path: Path, first: int
) -> None:
    arms = {name: study().arms[name] for name in ("cross_entropy", "hem")}
    skipped = {("hem", "long_tailed/drw"): "it does not fit"}
    spec = regime_study(arms=arms)
    undisturbed = Simulator(spec, tmp_path / "undisturbed", skipped=skipped).run()
    count = sum(1 for _ in read_events(tmp_path / "undisturbed" / "ledger.jsonl"))
    assert count > 200
    for moment in range(first, count, 21):
        folder = tmp_path / f"killed-{moment}"
        with pytest.raises(Killed):
            Simulator(spec, folder, kill_at=moment, skipped=skipped).run()
        before = StudyRecord.fold(read_events(folder / "ledger.jsonl"))
        ended = {key for key, trial in before.trials.items() if trial.ended}
        again = Simulator(spec, folder, order=moment, skipped=skipped)
        assert decisions(again.run()) == decisions(undisturbed)
        assert not ended & set(again.starts), "a finished trial ran again"
        assert Counter(starts(folder)).most_common(1)[0][1] <= 2


def test_a_regime_whose_trials_fail_does_not_keep_the_others_from_ending(tmp_path: Path) -> None:
    def failures(config: TrialConfig, attempt: int) -> Outcome | None:
        stream = config.continual
        if config.arm == "hem" and stream is not None and stream.strategy == "naive":
            return Outcome("failed", {}, 0.5, "exception", "made to fail")
        return None

    spec = regime_study()
    record = Simulator(spec, tmp_path, failures=failures).run()
    states = {
        (name, regime): {trial.state for trial in trials.values()}
        for name, arm in record.arms.items()
        for regime, trials in arm.confirms.items()
    }
    assert states.pop(("hem", "continual/naive")) == {"failed"}
    assert set(map(tuple, states.values())) == {("complete",)}
    assert len(states) == 14
    failed = [t for t in record.trials.values() if t.state == "failed"]
    assert {(t.attempts, t.regime) for t in failed} == {(2, "continual/naive")}
    text = status_text(spec, record, tmp_path, running=False, written=1.0, now=2.0)
    assert text.startswith("Study simulated: done\n")
    assert "confirm continual/naive" in text
    assert trials_left(spec, record) == (0.0, 0.0)


def test_the_forecast_the_status_and_the_live_table_count_the_regimes_of_each_arm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = regime_study()
    with pytest.raises(Killed):
        Simulator(spec, tmp_path, skipped=SKIPPED, kill_at=250).run()
    record = StudyRecord()
    said = Display(spec, record, plain=True)
    for event in read_events(tmp_path / "ledger.jsonl"):
        record.apply(event)
        said.event(event)
    confirmed = {n: sum(t.state == "complete" for t in a.confirm_trials) for n, a in record.arms.items()}
    assert min(confirmed.values()) > 0
    assert sum(confirmed.values()) < 30
    planned = {"cross_entropy": 15, "logitnorm": 12, "hem": 12}
    assert trials_left(spec, record) == (0.0, 39 - sum(confirmed.values()))
    text = status_text(spec, record, tmp_path, running=True, written=1.0, now=2.0)
    printed = capsys.readouterr().out
    for name, most in planned.items():
        (row,) = (line for line in text.splitlines() if line.startswith(f"  {name}  "))
        assert row.endswith(f"{confirmed[name]} of {most}")
        assert said._row(record.arms[name])[6] == f"{confirmed[name]}/{most}"
        assert f"{name} confirm long_tailed/plain seed 100 complete" in printed
    assert "hem: not trained in long_tailed/drw: it does not fit\n" in printed
    assert "logitnorm: not trained in standard: nor does this\n" in printed
