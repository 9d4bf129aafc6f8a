"""What each search was given and spent: the fairness of a comparison rests on it."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.campaign.record import ArmRecord, ConfigurationRecord, StudyRecord, TrialRecord
from orchestrator.campaign.standing import searches
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Table, row
from orchestrator.report.comparison import all_confirm_trials, ordered_arms
from orchestrator.study.spec import BudgetSpec, StudySpec
from orchestrator.study.terms import space_size

UNEQUAL = 1.5
"""Times the least that an arm spent; who spent more is named."""


def budget_table(spec: StudySpec, record: StudyRecord) -> Table:
    """A row for each arm, or for each of its searches where these are repeated."""
    several, limited = spec.search.repeats > 1, spec.budget != BudgetSpec()
    rows = [
        (
            Cell(arm.name),
            *([Cell(str(arm.repeat))] if several else []),
            *_searched(arm),
            *_times(spec, record, arm),
            *(row(_limits(spec, arm), _ended(spec, arm)) if limited else ()),
        )
        for arm in _ordered(spec, record)
    ]
    columns = (
        Column("arm"),
        *([Column("repeat", numeric=True)] if several else []),
        Column("configurations", numeric=True),
        *(
            Column(state, "search trials", numeric=True)
            for state in ("started", "complete", "pruned", "failed", "running", "retries")
        ),
        Column("search", "busy time", numeric=True),
        Column("of it pruned", "busy time", numeric=True),
        Column("of it failed attempts", "busy time", numeric=True),
        Column("confirm", "busy time", numeric=True),
        Column("epochs", "saved", numeric=True),
        Column("time", "saved", numeric=True),
        *((Column("limit", "budget"), Column("ended the search", "budget")) if limited else ()),
    )
    return Table("Budget", columns, tuple(rows), _notes(spec))


def unequal_spending(spec: StudySpec, record: StudyRecord) -> list[str]:
    """A caution where the arms' first searches cost unequal amounts, once all of them are over."""
    arms = [arm for arm in _ordered(spec, record) if not arm.repeat and _is_searched(spec, arm)]
    if len(arms) < 2 or any(arm.selected is None and not arm.failure for arm in arms):
        return []
    trials = {arm.name: float(len(arm.search_trials)) for arm in arms}
    seconds = {arm.name: _seconds(arm.search_trials) for arm in arms}
    found = []
    for what, spent in (("search trials", trials), ("busy seconds of the search", seconds)):
        least = min(spent.values())
        if least > 0 and max(spent.values()) > UNEQUAL * least:
            shown = ", ".join(
                f"{name} {value:.{0 if what == 'search trials' else 1}f}" for name, value in spent.items()
            )
            found.append(f"{what} {shown}")
    if not found:
        return []
    return [
        f"The arms were not searched at equal cost ({'; '.join(found)}): more than {UNEQUAL:g} times the "
        "least. An arm that was searched more may look better for it."
    ]


def saved_by_pruning(spec: StudySpec, arm: ArmRecord) -> tuple[int, float | None]:
    """Epochs of a search that were not run, and their busy seconds, estimated (None: nothing to go by)."""
    epochs = _epochs_not_run(spec, arm.configurations)
    timed = [trial for trial in arm.search_trials if trial.reports and trial.seconds > 0]
    run = sum(max(trial.reports) for trial in timed)
    return epochs, epochs * _seconds(timed) / run if run else None


def _ordered(spec: StudySpec, record: StudyRecord) -> list[ArmRecord]:
    order = ordered_arms(spec)
    return sorted(searches(spec, record), key=lambda arm: order.index(arm.name))


def _is_searched(spec: StudySpec, arm: ArmRecord) -> bool:
    return space_size(spec.arms[arm.name].space) != 1


def _searched(arm: ArmRecord) -> tuple[Cell, ...]:
    states = [trial.state for trial in arm.search_trials]
    counts = [states.count(state) for state in ("complete", "pruned", "failed", "running")]
    retries = sum(len(t.failures) - (t.state == "failed" and bool(t.failures)) for t in arm.search_trials)
    return row(*map(str, (len(arm.configurations), len(states), *counts, retries)))


def _times(spec: StudySpec, record: StudyRecord, arm: ArmRecord) -> tuple[Cell, ...]:
    search = arm.search_trials
    failed = sum(trial.failed_seconds for trial in search)
    pruned = sum(trial.seconds - trial.failed_seconds for trial in search if trial.state == "pruned")
    # A trial that regimes or repeats share was trained once, for the first of them.
    confirms = arm.confirm_trials if arm.repeat else all_confirm_trials(spec, record, arm.name)
    own = {trial.key: trial for trial in confirms if trial.repeat == arm.repeat}
    epochs, saved = saved_by_pruning(spec, arm)
    return row(
        numbers.seconds(_seconds(search)),
        numbers.seconds(pruned),
        numbers.seconds(failed),
        numbers.seconds(_seconds(own.values())),
        str(epochs),
        numbers.seconds(saved),
    )


def _limits(spec: StudySpec, arm: ArmRecord) -> str:
    budget = spec.budget
    if not _is_searched(spec, arm):
        return "nothing to search"
    each = [f"{budget.trials} trials"] * (budget.trials is not None)
    each += [numbers.seconds(budget.device_seconds)] * (budget.device_seconds is not None)
    each += [f"{numbers.seconds(budget.wall_seconds)} of the study"] * (budget.wall_seconds is not None)
    return ", ".join(each)


def _ended(spec: StudySpec, arm: ArmRecord) -> str:
    if arm.spent is not None:
        return {
            "trials": "yes, by its trials",
            "device_seconds": "yes, by its busy time",
            "wall_seconds": "yes, by the study's time",
        }[arm.spent["limit"]]
    over = arm.selected is not None or arm.failure
    return "no" if over or not _is_searched(spec, arm) else "not yet"


def _notes(spec: StudySpec) -> tuple[str, ...]:
    notes = [
        "Search trials: one a configuration and seed; retries are further attempts at one after a failure.",
        "Busy time: training and evaluation, summed over the trials, failed attempts included. Saved by "
        "pruning: the epochs of pruned trials and of seeds that a pruned configuration no longer got; the "
        "time is an estimate at the arm's mean busy time an epoch.",
    ]
    if spec.budget.device_seconds is not None or spec.budget.wall_seconds is not None:
        notes.append(
            "A limit of seconds ends a search where the machine has got to by then: not the same twice."
        )
    return tuple(notes)


def _seconds(trials: Iterable[TrialRecord]) -> float:
    return sum(trial.seconds for trial in trials)


def _epochs_not_run(spec: StudySpec, configurations: Iterable[ConfigurationRecord]) -> int:
    epochs = spec.training.epochs
    count = 0
    for configuration in configurations:
        pruned = [trial for trial in configuration.trials.values() if trial.state == "pruned"]
        count += sum(epochs - max(trial.reports, default=0) for trial in pruned)
        if configuration.state == "pruned":
            count += epochs * (len(spec.search.seeds) - len(configuration.trials))
    return count
