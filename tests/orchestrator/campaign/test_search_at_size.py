"""The search's short cuts decide as a look at everything does, and cost no more the longer a search is."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from orchestrator.campaign.journal import BufferedJournal
from orchestrator.campaign.record import ArmRecord
from orchestrator.campaign.sampling import ArmSearch, _ArmTPE, make_pruner
from orchestrator.campaign.search import SearchProgress
from orchestrator.study.spec import ArmSpec, SearchSpec
from tests.orchestrator.simulation import Simulator, study
from workloads.catalogue import Term

SPACE: dict[str, BaseDistribution] = {
    "tau": FloatDistribution(0.01, 1.0, log=True),
    "lr": FloatDistribution(0.01, 0.4, log=True),
    "head": CategoricalDistribution((1, 2, 4)),
    "only": CategoricalDistribution(("one",)),
}


def suggestions(sampler: type[Any], trials: int) -> list[dict[str, Any]]:
    """What a sampler asks for, seeded anew each time; every third trial is pruned, one always runs."""
    study = optuna.create_study()
    asked: list[Any] = []
    for number in range(trials):
        study.sampler = sampler(number)
        asked.append(study.ask(SPACE))
        if number:
            trial = asked[-2]
            value = abs(trial.params["lr"] - 0.1) + trial.params["tau"]
            trial.report(value, 1)
            if number % 3:
                study.tell(trial, value)
            else:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return [trial.params for trial in asked]


def test_tpe_that_knows_the_space_asks_for_what_optunas_own_asks_for() -> None:
    def own(seed: int) -> optuna.samplers.BaseSampler:
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=5)

    def knowing(seed: int) -> optuna.samplers.BaseSampler:
        return _ArmTPE(SPACE, seed=seed, n_startup_trials=5)

    assert suggestions(knowing, 25) == suggestions(own, 25)  # type: ignore[arg-type]


def best_by_looking_at_all(
    progress: SearchProgress, arm: ArmRecord, number: int
) -> tuple[float | None, float | None]:
    """(accuracy, value) of the best complete configuration that ``number`` may rest on."""
    seen = progress._seen(number)
    complete = [c for c in arm.configurations if c.number in seen and c.state == "complete"]
    accuracies = [
        statistics.fmean(t.metrics["validation/accuracy"] for t in c.trials.values()) for c in complete
    ]
    values = [c.value for c in complete if c.value is not None]
    return max(accuracies, default=None), min(values, default=None)


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("parallel", [1, 3])
def test_the_best_so_far_and_what_runs_are_those_of_all_configurations(
    deterministic: bool, parallel: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = {"best": 0, "running": 0}
    best_seen, running = SearchProgress._best_seen, SearchProgress._running

    def compared(self: SearchProgress, number: int) -> Any:
        found = best_seen(self, number)
        accuracy, value = best_by_looking_at_all(self, self.arm, number)
        # A mean of two numbers, added in another way.
        assert found.accuracy == (None if accuracy is None else pytest.approx(accuracy, abs=1e-12))
        assert found.value == value
        checked["best"] += value is not None
        return found

    def listed(self: SearchProgress) -> Any:
        found = running(self)
        assert found == [c for c in self.arm.configurations if c.state == "running"]
        checked["running"] += 1
        return found

    monkeypatch.setattr(SearchProgress, "_best_seen", compared)
    monkeypatch.setattr(SearchProgress, "_running", listed)
    spec = study()
    spec = replace(spec, search=replace(spec.search, deterministic=deterministic, parallel=parallel))
    Simulator(spec, tmp_path, slots=4, order=3).run()
    assert checked["best"] > 50
    assert checked["running"] > 50


class Counted(list[Any]):
    """A list that counts how many of its items were looked at."""

    looked_at = 0

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        Counted.looked_at += len(found) if isinstance(index, slice) else 1
        return found

    def __iter__(self) -> Any:
        Counted.looked_at += len(self)
        return super().__iter__()


def test_the_next_seed_is_found_without_a_look_at_what_is_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[int, int]] = []
    next_seed = SearchProgress.next_seed

    def counted(self: SearchProgress) -> Any:
        self.arm.configurations = Counted(self.arm.configurations)
        Counted.looked_at = 0
        found = next_seed(self)
        looks.append((len(self.arm.configurations), Counted.looked_at))
        return found

    monkeypatch.setattr(SearchProgress, "next_seed", counted)
    spec = study()
    Simulator(replace(spec, search=replace(spec.search, trials=40)), tmp_path).run()
    late = [looked for size, looked in looks if size >= 35]
    assert len(late) > 50
    # Two run at most; each question looks at them, and at what was settled since the last.
    assert max(late) <= 2 * (2 + 2)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_what_was_asked_for_or_restored_is_not_asked_for_again(sampler: Any, tmp_path: Path) -> None:
    space = {"mu": Term("choice", tuple(range(10))), "lr": Term("fixed", (0.1,))}
    storage = optuna.storages.JournalStorage(BufferedJournal(tmp_path / "journal"))
    arm, search = ArmSpec("hem", "hem", space), SearchSpec(sampler=sampler, trials=20)
    asking = ArmSearch("study", arm, search, make_pruner(search.pruner, 3, 1), storage)
    for mu in (0, 2, 5, 6, 8, 9):
        asking.restore({"mu": mu, "lr": 0.1})
    found = [asking.ask() for _ in range(5)]
    assert found[4] is None
    assert sorted(params["mu"] for params in found if params) == [1, 3, 4, 7]
    assert all(params["lr"] == 0.1 for params in found if params)
