"""From a table's cell to the runs behind it: which trials they are, and what finds them in MLflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.report.cells import Cell, Column, Source, Table
from orchestrator.report.comparison import confirm_trials, ordered_arms
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec

if TYPE_CHECKING:
    from orchestrator.tracking.whereabouts import Whereabouts


def runs_table(spec: StudySpec, record: StudyRecord) -> Table:
    """A row for each arm in each regime: its confirm trials by seed, and MLflow's filter that finds them."""
    rows = [
        (
            Cell(arm, source=Source(arm, regime)),
            Cell(regime),
            Cell(", ".join(f"{seed}: {trial.key}{_state(trial)}" for seed, trial in trials.items())),
            Cell(run_filter(record, next(iter(trials.values())))),
        )
        for arm, regime, trials in _homes(spec, record)
    ]
    columns = (Column("arm"), Column("regime"), Column("trials by seed"), Column("filter in MLflow"))
    experiment = spec.tracking.experiment or spec.name
    notes = (
        "A trial's folder is trials/KEY in the study's folder; trials.csv lists every trial, those of the "
        "search too.",
        f"In MLflow: the experiment {experiment}, with the filter pasted into its search field. Records in "
        "the output folder open with orchestrate ui --out FOLDER.",
    )
    return Table("Runs", columns, tuple(rows), notes, "No confirm trial has started yet.")


def run_filter(record: StudyRecord, trial: TrialRecord) -> str:
    """MLflow's search for the confirm trials beside this one: same study folder, arm, regime and search."""
    wanted = {"arm": trial.arm, "stage": trial.stage, "regime": trial.regime}
    if record.arms[trial.arm].again:
        wanted["repeat"] = str(trial.repeat)
    instance = record.sessions[0].get("instance") if record.sessions else None
    if instance:
        wanted["instance"] = str(instance)
    # An arm's name holds letters, digits, - and _ alone, so nothing has to be quoted.
    return " AND ".join(f"tags.`orchestrate.{name}` = '{value}'" for name, value in wanted.items())


def run_urls(
    spec: StudySpec, record: StudyRecord, where: Whereabouts | None
) -> Mapping[tuple[str, str], str]:
    """By arm and regime, the page of an MLflow server that shows the runs; empty where there is no server."""
    if where is None:
        return {}
    found = {
        (arm, regime): where.url(run_filter(record, next(iter(trials.values()))))
        for arm, regime, trials in _homes(spec, record)
    }
    return {place: url for place, url in found.items() if url is not None}


def _homes(spec: StudySpec, record: StudyRecord) -> Iterator[tuple[str, str, dict[int, TrialRecord]]]:
    for regime in regimes(spec):
        for arm in ordered_arms(spec):
            if trials := confirm_trials(spec, record, arm, regime):
                yield arm, regime, trials


def _state(trial: TrialRecord) -> str:
    return "" if trial.state == "complete" else f" ({trial.state})"
