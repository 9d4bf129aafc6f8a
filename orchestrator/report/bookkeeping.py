"""What was chosen, and what failed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.campaign.objective import meets_guard
from orchestrator.campaign.record import ConfigurationRecord, StudyRecord, TrialRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Column, Table, row
from orchestrator.report.comparison import arm_record, ordered_arms
from orchestrator.report.statistics import summarise
from orchestrator.study.spec import GuardSpec, StudySpec


def last_metrics(trial: TrialRecord) -> Mapping[str, float]:
    """What the trial measured: its final metrics, or those of its last report."""
    if trial.metrics:
        return trial.metrics
    return trial.reports[max(trial.reports)] if trial.reports else {}


def chosen_configuration(record: StudyRecord, arm: str) -> ConfigurationRecord | None:
    """The frozen winner of the arm's search, if there is one."""
    entry = arm_record(record, arm)
    return None if entry.selected is None else entry.configurations[entry.selected]


def parameters_text(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {numbers.parameter(value)}" for name, value in params.items())


def chosen_table(spec: StudySpec, record: StudyRecord) -> Table:
    """The configuration that each arm confirmed, and what the search measured of it."""
    rows = []
    for arm in ordered_arms(spec):
        chosen = chosen_configuration(record, arm)
        if chosen is None:
            reason = arm_record(record, arm).failure or "still searching"
            rows.append(row(arm, numbers.MISSING, numbers.MISSING, *[numbers.MISSING] * 4, reason))
            continue
        measured = [last_metrics(trial) for trial in chosen.trials.values() if trial.state == "complete"]
        value = arm_record(record, arm).selection.get("value", chosen.value)
        rows.append(
            row(
                arm,
                f"no. {chosen.number} of {len(arm_record(record, arm).configurations)}",
                parameters_text(chosen.params) or "none to choose",
                _mean_percent(measured, "noise/fpr95", 1),
                _mean_percent(measured, "noise/auroc", 2),
                _mean_percent(measured, "validation/accuracy", 2),
                numbers.MISSING
                if value is None
                else ("met" if meets_guard(value, len(spec.search.seeds)) else "not met"),
                str(arm_record(record, arm).selection.get("reason", "")),
            )
        )
    columns = (
        Column("arm"),
        Column("configuration"),
        Column("parameters"),
        Column("FPR95", "noise", numeric=True),
        Column("AUROC", "noise", numeric=True),
        Column("accuracy", "validation", numeric=True),
        Column("guard"),
        Column("why"),
    )
    notes = (
        f"Chosen on validation data alone: lowest noise FPR95 ({spec.evaluation.headline} score, mean over "
        f"{numbers.counted(len(spec.search.seeds), 'search seed')}), ties by noise AUROC; configurations are "
        "numbered from 0.",
        _guard_note(spec.search.guard),
    )
    return Table("Chosen parameters", columns, tuple(rows), notes)


def failures_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Everything that failed, also what succeeded at a later attempt."""
    rows = []
    for trial in record.trials.values():
        if trial.state != "failed" and not trial.failures:
            continue
        reasons = list(dict.fromkeys(filter(None, [trial.reason, *trial.failures])))
        outcome = "failed" if trial.state == "failed" else f"{trial.state} after retry"
        rows.append(
            row(
                trial.arm,
                trial.place,
                str(trial.number),
                str(trial.seed),
                str(trial.attempts),
                outcome,
                "; ".join(reasons) or "no reason recorded",
            )
        )
    for arm in ordered_arms(spec):
        for search in arm_record(record, arm).searches:
            if search.failure:
                place = f"search repeat {search.repeat}" if search.repeat else "search"
                rows.append(
                    row(arm, place, *["all"] * 2, numbers.MISSING, "nothing selected", search.failure)
                )
    labels = ("arm", "stage", "configuration", "seed", "attempts", "outcome", "reason")
    return Table("Failures", tuple(Column(label) for label in labels), tuple(rows), empty="Nothing failed.")


def _guard_note(guard: GuardSpec) -> str:
    least = (
        "midway between guessing and 100 %"
        if guard.min_accuracy is None
        else numbers.percent(guard.min_accuracy)
    )
    drop = numbers.percent(guard.max_drop).removesuffix(" %")
    return f"Guard: validation accuracy within {drop} points of the arm's best, and at least {least}."


def _mean_percent(measured: Iterable[Mapping[str, float]], name: str, decimals: int) -> str:
    summary = summarise([metrics[name] for metrics in measured if name in metrics])
    return numbers.fixed(None if summary.mean is None else 100 * summary.mean, decimals)
