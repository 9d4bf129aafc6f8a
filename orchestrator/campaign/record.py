"""The record of a study: what its ledger says, folded into arms, configurations and trials.

One fold serves everybody: the campaign that decides, the tracker, the live view, ``status`` and the report.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from workloads.catalogue import Value

TrialState = Literal["running", "complete", "pruned", "failed"]
ConfigurationState = Literal["running", "complete", "pruned", "failed"]
Event = Mapping[str, Any]
"""One ledger line: ``event`` (its kind), ``t`` (seconds since the epoch) and the kind's own fields."""


@dataclass
class TrialRecord:
    """One training run."""

    key: str
    arm: str
    stage: str
    protocol: str
    number: int
    """The configuration it trains (search), or the selected one (confirm)."""
    seed: int
    params: Mapping[str, Value]
    regime: str = "standard"
    """Of a confirm trial (see ``orchestrator.study.regimes``)."""
    state: TrialState = "running"
    attempts: int = 0
    started: float = 0.0
    """Time of the first start, seconds since the epoch."""
    ended: float | None = None
    reports: dict[int, Mapping[str, float]] = field(default_factory=dict)
    """By epoch."""
    report_times: dict[int, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the finished trial (contract.TrialResult.metrics)."""
    seconds: float = 0.0
    """Busy seconds (training and evaluation) of the attempts that ended."""
    reason: str = ""
    """Why it was pruned or failed, in a sentence."""
    failures: list[str] = field(default_factory=list)
    """What ended each failed attempt."""
    rescored: float | None = None
    """Time at which metrics were last added to the finished trial."""
    notes: list[str] = field(default_factory=list)
    """What could not be measured, or needs care, in sentences."""

    @property
    def place(self) -> str:
        """``search``, ``confirm`` or ``confirm long_tailed/drw``."""
        return self.stage if self.regime == "standard" else f"{self.stage} {self.regime}"


@dataclass
class ConfigurationRecord:
    """One point of an arm's search space, with a trial for each search seed that it got."""

    arm: str
    number: int
    params: Mapping[str, Value]
    state: ConfigurationState = "running"
    value: float | None = None
    """The objective's mean over its finished seeds (smaller is better; see ``objective.meets_guard``)."""
    reason: str = ""
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    """By seed."""


@dataclass
class ArmRecord:
    """One arm: its search and, after the selection, its confirm trials."""

    name: str
    configurations: list[ConfigurationRecord] = field(default_factory=list)
    exhausted: bool = False
    """Its space holds no more configurations."""
    selected: int | None = None
    """Number of the frozen winner."""
    selection: Mapping[str, Any] = field(default_factory=dict)
    """The ``selected`` event: params, value, commit, data hash."""
    confirms: dict[str, dict[int, TrialRecord]] = field(default_factory=dict)
    """By regime and seed."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Regimes that this arm's loss cannot be trained in, and why."""
    failure: str = ""
    """Why nothing could be selected, where that is so."""

    @property
    def confirm_trials(self) -> list[TrialRecord]:
        """Of all regimes, in the order in which these began; one that two regimes share stands twice."""
        return [trial for trials in list(self.confirms.values()) for trial in list(trials.values())]

    def confirm_planned(self, regimes: Collection[str], seeds: int) -> int:
        """How many confirm trials the arm has when all are done, with so many seeds in each regime."""
        return seeds * len(set(regimes) - set(self.skipped))


@dataclass
class StudyRecord:
    """All that happened in a study."""

    study: str = ""
    sessions: list[Mapping[str, Any]] = field(default_factory=list)
    """The ``opened`` events: one for each run of the command (versions, commit, hardware, data, command)."""
    closed: list[Mapping[str, Any]] = field(default_factory=list)
    """The ``closed`` events (``reason``: done, interrupted, failed)."""
    arms: dict[str, ArmRecord] = field(default_factory=dict)
    trials: dict[str, TrialRecord] = field(default_factory=dict)
    """By key, in the order of their first start."""
    added_sets: dict[str, str] = field(default_factory=dict)
    """OOD sets that were added after the study, and where each is from."""
    added_scores: list[str] = field(default_factory=list)
    """Scores that were added after the study."""

    def apply(self, event: Event) -> None:
        """Take one event in; unknown kinds are ignored, repeated ones change nothing."""
        handler = getattr(self, "_" + event["event"], None)
        if handler is not None:
            handler(event)

    @classmethod
    def fold(cls, events: Iterable[Event]) -> StudyRecord:
        record = cls()
        for event in events:
            record.apply(event)
        return record

    def _opened(self, event: Event) -> None:
        self.study = event["study"]
        self.sessions.append(event)
        for name in event["arms"]:
            self.arms.setdefault(name, ArmRecord(name))

    def _closed(self, event: Event) -> None:
        self.closed.append(event)

    def _configured(self, event: Event) -> None:
        arm = self.arms[event["arm"]]
        if event["number"] == len(arm.configurations):
            arm.configurations.append(ConfigurationRecord(event["arm"], event["number"], event["params"]))

    def _exhausted(self, event: Event) -> None:
        self.arms[event["arm"]].exhausted = True

    def _started(self, event: Event) -> None:
        key = event["key"]
        arm = self.arms[event["arm"]]
        trial = self.trials.get(key)
        if trial is None:
            number = event["number"]
            trial = TrialRecord(
                key,
                event["arm"],
                event["stage"],
                event["protocol"],
                number,
                event["seed"],
                event.get("params", arm.configurations[number].params),
                event.get("regime", "standard"),
                started=event["t"],
            )
            self.trials[key] = trial
            if event["stage"] == "confirm":
                home = arm.confirms.setdefault(trial.regime, {})
            else:
                home = arm.configurations[number].trials
            home[event["seed"]] = trial
        trial.attempts = event["attempt"]

    def _shared(self, event: Event) -> None:
        """A trial that is another regime's too, as it would be trained in just the same way."""
        arm, trial = self.arms[event["arm"]], self.trials[event["key"]]
        arm.confirms.setdefault(event["regime"], {})[event["seed"]] = trial

    def _skipped(self, event: Event) -> None:
        self.arms[event["arm"]].skipped[event["regime"]] = event["reason"]

    def _reported(self, event: Event) -> None:
        trial = self.trials[event["key"]]
        trial.reports.setdefault(event["epoch"], event["metrics"])
        trial.report_times.setdefault(event["epoch"], event["t"])

    def _attempt_failed(self, event: Event) -> None:
        trial = self.trials[event["key"]]
        trial.failures.append(event["reason"])
        trial.seconds += event["seconds"]

    def _finished(self, event: Event) -> None:
        trial = self.trials[event["key"]]
        if trial.ended is not None:
            return
        trial.state = event["state"]
        trial.ended = event["t"]
        trial.metrics = event["metrics"]
        trial.seconds += event["seconds"]
        trial.reason = event["reason"]
        trial.notes = list(event.get("notes", ()))

    def _rescored(self, event: Event) -> None:
        """Metrics that were added to a finished trial from its saved outputs."""
        trial = self.trials[event["key"]]
        trial.metrics = {**trial.metrics, **event["metrics"]}
        trial.rescored = event["t"]
        trial.notes = list(dict.fromkeys([*trial.notes, *event["notes"]]))
        self.added_sets.update(event["sets"])
        self.added_scores = list(dict.fromkeys([*self.added_scores, *event["scores"]]))

    def _settled(self, event: Event) -> None:
        configuration = self.arms[event["arm"]].configurations[event["number"]]
        configuration.state = event["state"]
        configuration.value = event["value"]
        configuration.reason = event["reason"]

    def _selected(self, event: Event) -> None:
        arm = self.arms[event["arm"]]
        if arm.selected is None:
            arm.selected = event["number"]
            arm.selection = event

    def _unselected(self, event: Event) -> None:
        self.arms[event["arm"]].failure = event["reason"]
