"""What a confirm trial of each arm took in each regime."""

from __future__ import annotations

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Table
from orchestrator.report.comparison import confirm_trials, ordered_arms
from orchestrator.report.measured import complete_count, measured_cell, source_of, values
from orchestrator.report.readings import describe
from orchestrator.report.statistics import summarise
from orchestrator.study.regimes import full_name, regimes
from orchestrator.study.spec import StudySpec

_MEASURED = {
    "train/forward_passes": "images through the network",
    "train/skipped": "skipped, %",
    "train/stressed": "stressed, %",
}


def cost_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Time and training images; without rows where nothing makes a difference between rows."""
    shown = [
        (arm, regime)
        for regime in regimes(spec)
        for arm in ordered_arms(spec)
        if complete_count(spec, record, arm, regime)
    ]
    names = [
        name
        for name in _MEASURED
        if any(values(spec, record, arm, full_name(regime, name, spec)) for arm, regime in shown)
    ]
    chosen = {"train/skipped", "train/stressed"} & set(names)
    if len(regimes(spec)) == 1 and not chosen:
        shown = []
    rows = [
        (
            Cell(arm),
            Cell(regime),
            Cell(str(complete_count(spec, record, arm, regime))),
            _seconds(spec, record, arm, regime),
            *(
                measured_cell(
                    spec, record, arm, describe(full_name(regime, name, spec), spec.evaluation.headline)
                )
                for name in names
            ),
        )
        for arm, regime in shown
    ]
    columns = (
        Column("arm"),
        Column("regime"),
        Column("n"),
        Column("busy seconds", numeric=True, name="seconds", measured=True),
        *(Column(_MEASURED[name], numeric=True, name=name, measured=True) for name in names),
    )
    return Table("Cost of a confirm trial", columns, tuple(rows), _notes(chosen))


def _seconds(spec: StudySpec, record: StudyRecord, arm: str, regime: str) -> Cell:
    trials = confirm_trials(spec, record, arm, regime).items()
    found = {seed: trial.seconds for seed, trial in trials if trial.state == "complete"}
    summary = summarise(list(found.values()))
    source = source_of(spec, record, arm, regime, found)
    return Cell(numbers.mean_std(summary.mean, summary.std, 1), summary=summary, source=source)


def _notes(chosen: set[str]) -> tuple[str, ...]:
    notes = [
        "Mean ± standard deviation over n complete trials. Busy seconds: training and evaluation, failed "
        "attempts included; they depend on the machine and on what else it did. Images through the network: "
        "in training, replayed ones included, measurements not.",
    ]
    if chosen:
        notes.append(
            "Of the training images in the last epoch. Skipped: sat out; stressed: had the stronger "
            "augmentation of saturated images."
        )
    return tuple(notes)
