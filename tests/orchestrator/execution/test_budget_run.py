"""A real study whose searches are repeated and end by their budgets."""

from __future__ import annotations

import csv
import subprocess

import pytest

from tests.orchestrator.execution.driver import COMMAND, STUDY, Run, run_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

LIMITED = STUDY.replace(
    "search:\n  trials: 3\n  seeds: [0]\n",
    "budget: {trials: 4, device_seconds: 300}\nsearch:\n  trials: 6\n  seeds: [0, 1]\n  repeats: 2\n",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_once(tmp_path_factory.mktemp("budget"), LIMITED)


def test_each_search_ends_within_its_trials_and_its_winner_is_confirmed(run: Run) -> None:
    assert run.status == 0, run.text
    searches = [search for arm in run.record.arms.values() for search in arm.searches]
    assert [search.repeat for search in searches] == [0, 1, 0, 1]
    for search in searches:
        assert len(search.search_trials) <= 4
        assert search.spent is not None
        assert search.spent["limit"] == "trials"
        assert search.selected is not None
        assert [t.state for t in search.confirm_trials] == ["complete"] * 2
    assert "the budget ended (trials 4); going on with what is complete" in run.text


def test_the_report_shows_what_was_spent_and_how_the_winners_differ(run: Run) -> None:
    assert "Spread within and between winners" in run.text
    with (run.folder / "report" / "selection.csv").open() as file:
        assert [(row["arm"], row["repeat"]) for row in csv.DictReader(file)] == [
            (arm, repeat) for arm in ("cross_entropy", "logitnorm") for repeat in ("0", "1")
        ]
    assert "yes, by its trials" in (run.folder / "report" / "report.md").read_text()


def test_the_state_of_the_study_shows_the_share_that_was_spent(run: Run) -> None:
    shown = subprocess.run([COMMAND, "status", run.folder], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("Study small: done")
    assert "logitnorm, repeat 1" in shown
    assert "its search has ended" in shown


def test_mlflow_knows_which_repeat_a_trial_is_of(run: Run) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run.out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    trials = [r for r in found if r.data.tags["orchestrate.role"].startswith("trial:")]
    by_repeat = [r.data.tags["orchestrate.repeat"] for r in trials]
    record = run.record
    assert sorted(by_repeat) == sorted(str(t.repeat) for t in record.trials.values())
    names = {str(r.info.run_name) for r in trials}
    assert any(name.startswith("logitnorm search repeat 1 #0 seed 10000") for name in names)
    (arm,) = [r for r in found if r.data.tags["orchestrate.role"] == "arm:logitnorm"]
    assert "Repeat 1 of its search chose tau" in arm.data.tags["mlflow.note.content"]
