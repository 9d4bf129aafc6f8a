"""A real study with both audits: trainings of the search, done to the end and measured on real OOD."""

from __future__ import annotations

import csv

import pytest

from orchestrator.campaign.audit import draw
from orchestrator.campaign.ledger import read_events
from orchestrator.study.loader import load_study
from orchestrator.study.spec import StudySpec
from tests.orchestrator.execution.driver import STUDY, Run, run_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

AUDITED = STUDY.replace("  trials: 3\n", "  trials: 4\n") + "audit: {pruned: 1, proxy: {configurations: 2}}\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_once(tmp_path_factory.mktemp("audit"), AUDITED)


def spec_of(run: Run) -> StudySpec:
    return load_study(run.folder / "study.yaml")


def test_every_drawn_configuration_was_trained_to_the_end_as_in_the_search(run: Run) -> None:
    assert run.status == 0, run.text
    compared = 0
    for arm in run.record.arms.values():
        drawn = draw(spec_of(run), arm)
        assert len(drawn.proxy) == 2
        assert len(drawn.pruned) == 1, "the pruner stopped nothing"
        assert set(arm.audits) == set(drawn.numbers)
        for number, trials in arm.audits.items():
            assert {s: t.state for s, t in trials.items()} == dict.fromkeys(
                spec_of(run).search.seeds, "complete"
            )
            for seed, searched in arm.configurations[number].trials.items():
                for epoch, metrics in searched.reports.items():
                    # On CPU to the bit: the stage is no part of a training.
                    assert trials[seed].reports[epoch] == metrics
                    compared += 1
    assert compared >= 8, "two were stopped at epoch 4 or later"
    events = list(read_events(run.folder / "ledger.jsonl"))
    kinds = [(e["event"], e.get("stage")) for e in events]
    assert ("selected", None) not in kinds[kinds.index(("started", "audit")) :]


def test_an_audit_trial_has_the_rates_of_noise_and_of_real_ood(run: Run) -> None:
    for arm in run.record.arms.values():
        for trial in arm.audit_trials:
            for name in ("near", "far", "uniform", "blobs"):
                assert 0 <= trial.metrics[f"ood/{name}/msp/fpr95_id_positive"] <= 1
            assert trial.metrics["noise/fpr95"] == trial.reports[12]["noise/fpr95"]
            assert not any(name.startswith(("calibration/", "geometry/")) for name in trial.metrics)
            assert (run.folder / "trials" / trial.key / "result.json").is_file()


def test_the_report_has_both_audits(run: Run) -> None:
    text = (run.folder / "report" / "report.md").read_text()
    assert "## Audit of pruning" in text
    assert "## Audit of the proxy" in text
    with (run.folder / "report" / "audit_configurations.csv").open() as file:
        rows = list(csv.DictReader(file))
    drawn = {arm.name: draw(spec_of(run), arm).numbers for arm in run.record.arms.values()}
    assert [(row["arm"], int(row["no."])) for row in rows] == [(a, n) for a in drawn for n in drawn[a]]
    assert "n/a" not in {row["at the end"] for row in rows}


def test_mlflow_keeps_audits_apart_from_an_arm_s_results(run: Run) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run.out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    by_role = {r.data.tags["orchestrate.role"]: r for r in found}
    audit, arm = by_role["audit:logitnorm"], by_role["arm:logitnorm"]
    assert audit.data.tags["mlflow.parentRunId"] == arm.info.run_id
    assert audit.data.metrics["audit/pruned/audited"] == 1
    assert not any(name.startswith("audit/") for name in arm.data.metrics)
    below = [r for r in found if r.data.tags.get("mlflow.parentRunId") == audit.info.run_id]
    trials = run.record.arms["logitnorm"].audit_trials
    assert {r.data.tags["orchestrate.key"] for r in below} == {t.key for t in trials}
    assert all("ood/far/msp/fpr95_id_positive" in r.data.metrics for r in below)
