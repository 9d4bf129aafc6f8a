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
    """The configuration it trains (search, audit), or the selected one (confirm)."""
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
    failed_seconds: float = 0.0
    """Of these, those of attempts that failed."""
    reason: str = ""
    """Why it was pruned or failed, in a sentence."""
    failures: list[str] = field(default_factory=list)
    """What ended each failed attempt."""
    rescored: float | None = None
    """Time at which metrics were last added to the finished trial."""
    notes: list[str] = field(default_factory=list)
    """What could not be measured, or needs care, in sentences."""
    finished: Event = field(default_factory=dict)
    """The event that ended it, also where it goes on because its files were damaged."""
    added: Event = field(default_factory=dict)
    """``metrics`` and ``notes`` that were added to the finished trial."""
    memory: int = 0
    """Bytes of a GPU's memory that its process needed at most; 0: not measured."""
    device_memory: int = 0
    """Bytes of that GPU."""
    repeat: int = 0
    """Of its arm's search (see ``orchestrator.study.repeats``)."""
    sessions: list[int] = field(default_factory=list)
    """In which sessions attempts at it began, from 0, ascending."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """``device`` and ``torch`` of the process that finished it, where it is complete."""

    @property
    def place(self) -> str:
        """``search``, ``confirm``, ``confirm long_tailed/drw`` or ``search repeat 1``."""
        again = f" repeat {self.repeat}" if self.repeat else ""
        return f"{self.stage} {self.regime}{again}" if self.regime != "standard" else self.stage + again


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
    """One arm: its search and, after the selection, its confirm trials; or a repeat of these."""

    name: str
    repeat: int = 0
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
    spent: Mapping[str, Any] | None = None
    """The ``budget_spent`` event: ``limit`` (a name), ``allowed`` and ``spent``; None: no budget ended it."""
    search_seconds: float = 0.0
    """Busy seconds of its search trials' attempts that ended."""
    audits: dict[int, dict[int, TrialRecord]] = field(default_factory=dict)
    """Audit trials by configuration and seed (see ``orchestrator.campaign.audit``)."""
    again: dict[int, ArmRecord] = field(default_factory=dict)
    """Its further searches by repeat, 1 and up; each with its own winner and, in the main regime, its own
    confirm trials."""

    @property
    def searches(self) -> list[ArmRecord]:
        """Those that have begun: this one and its repeats, in their order."""
        return [self, *(self.again[repeat] for repeat in sorted(self.again))]

    @property
    def label(self) -> str:
        """``logitnorm``, or ``logitnorm, repeat 1``."""
        return f"{self.name}, repeat {self.repeat}" if self.repeat else self.name

    @property
    def search_trials(self) -> list[TrialRecord]:
        return [trial for c in list(self.configurations) for trial in list(c.trials.values())]

    @property
    def confirm_trials(self) -> list[TrialRecord]:
        """Of all regimes, in the order in which these began; one that two regimes share stands twice."""
        return [trial for trials in list(self.confirms.values()) for trial in list(trials.values())]

    @property
    def audit_trials(self) -> list[TrialRecord]:
        return [trial for trials in list(self.audits.values()) for trial in list(trials.values())]

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
    latest: float = 0.0
    """Time of the last event, seconds since the epoch."""
    earlier_seconds: float = 0.0
    """How long the sessions before the last one worked, where events say so (``up``)."""
    session_seconds: float = 0.0
    """The same of the last session."""

    def apply(self, event: Event) -> None:
        """Take one event in; unknown kinds are ignored, repeated ones change nothing.

        Times in the record never run backwards, whatever was done to the clock.
        """
        if event.get("t", self.latest) < self.latest:
            event = {**event, "t": self.latest}
        self.latest = event.get("t", self.latest)
        self.session_seconds = max(self.session_seconds, event.get("up", 0.0))
        handler = getattr(self, "_" + event["event"], None)
        if handler is not None:
            handler(event)

    def search(self, arm: str, repeat: int = 0) -> ArmRecord:
        """An arm's search, or a repeat of it, made where it is new."""
        first = self.arms[arm]
        return first if repeat == 0 else first.again.setdefault(repeat, ArmRecord(arm, repeat))

    def search_of(self, event: Event) -> ArmRecord:
        """The search that an event belongs to; events of repeat 0 need not name it."""
        return self.search(event["arm"], event.get("repeat", 0))

    @classmethod
    def fold(cls, events: Iterable[Event]) -> StudyRecord:
        record = cls()
        for event in events:
            record.apply(event)
        return record

    def _opened(self, event: Event) -> None:
        self.study = event["study"]
        self.sessions.append(event)
        self.earlier_seconds += self.session_seconds
        self.session_seconds = 0.0
        for name in event["arms"]:
            self.arms.setdefault(name, ArmRecord(name))

    def _closed(self, event: Event) -> None:
        self.closed.append(event)

    def _configured(self, event: Event) -> None:
        arm = self.search_of(event)
        if event["number"] == len(arm.configurations):
            arm.configurations.append(ConfigurationRecord(event["arm"], event["number"], event["params"]))

    def _exhausted(self, event: Event) -> None:
        self.search_of(event).exhausted = True

    def _budget_spent(self, event: Event) -> None:
        arm = self.search_of(event)
        if arm.spent is None:
            arm.spent = event

    def _started(self, event: Event) -> None:
        key = event["key"]
        arm = self.search_of(event)
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
                repeat=arm.repeat,
            )
            self.trials[key] = trial
            self._home(arm, trial)[event["seed"]] = trial
        trial.attempts = event["attempt"]
        session = max(len(self.sessions) - 1, 0)
        if session not in trial.sessions:
            trial.sessions.append(session)

    @staticmethod
    def _home(arm: ArmRecord, trial: TrialRecord) -> dict[int, TrialRecord]:
        """Where a trial stands among its arm's, by seed."""
        if trial.stage == "confirm":
            return arm.confirms.setdefault(trial.regime, {})
        if trial.stage == "audit":
            return arm.audits.setdefault(trial.number, {})
        return arm.configurations[trial.number].trials

    def _shared(self, event: Event) -> None:
        """A trial that is another regime's or repeat's too, as it would be trained in just the same way."""
        arm, trial = self.search_of(event), self.trials[event["key"]]
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
        trial.failed_seconds += event["seconds"]
        self._spend(trial, event["seconds"])

    def _finished(self, event: Event) -> None:
        trial = self.trials[event["key"]]
        if trial.ended is not None:
            return
        earlier = trial.finished
        if earlier and event["state"] == "failed":
            # What was measured is as true as before; only its files are not there.
            note = f"its files were damaged and could not be made again: {event['reason']}"
            event = {**earlier, "notes": list(dict.fromkeys([*earlier.get("notes", ()), note]))}
        elif earlier and earlier["metrics"] != event["metrics"]:
            # Another model than the one whose outputs were scored then.
            trial.added, trial.rescored = {}, None
        trial.finished = event
        trial.state = event["state"]
        trial.ended = event["t"]
        trial.metrics = {**event["metrics"], **trial.added.get("metrics", {})}
        self._spend(trial, event["seconds"])
        trial.reason = event["reason"]
        trial.notes = list(dict.fromkeys([*event.get("notes", ()), *trial.added.get("notes", ())]))
        trial.memory = event.get("memory", 0)
        trial.device_memory = event.get("device_memory", 0)
        trial.environment = event.get("environment", {})

    def _reopened(self, event: Event) -> None:
        """Files of a finished trial were damaged: it is to be finished once more."""
        trial = self.trials[event["key"]]
        if trial.ended is None:
            return
        trial.state, trial.ended = "running", None
        # The end that comes counts the whole trial again.
        self._spend(trial, -trial.finished["seconds"])

    def _spend(self, trial: TrialRecord, seconds: float) -> None:
        trial.seconds += seconds
        if trial.stage == "search":
            self.search(trial.arm, trial.repeat).search_seconds += seconds

    def _rescored(self, event: Event) -> None:
        """Metrics that were added to a finished trial from its saved outputs."""
        trial = self.trials[event["key"]]
        trial.metrics = {**trial.metrics, **event["metrics"]}
        trial.rescored = event["t"]
        trial.notes = list(dict.fromkeys([*trial.notes, *event["notes"]]))
        known = trial.added or {"metrics": {}, "notes": ()}
        trial.added = {
            "metrics": {**known["metrics"], **event["metrics"]},
            "notes": [*known["notes"], *event["notes"]],
        }
        self.added_sets.update(event["sets"])
        self.added_scores = list(dict.fromkeys([*self.added_scores, *event["scores"]]))

    def _settled(self, event: Event) -> None:
        configuration = self.search_of(event).configurations[event["number"]]
        configuration.state = event["state"]
        configuration.value = event["value"]
        configuration.reason = event["reason"]

    def _selected(self, event: Event) -> None:
        arm = self.search_of(event)
        if arm.selected is None:
            arm.selected = event["number"]
            arm.selection = event

    def _unselected(self, event: Event) -> None:
        self.search_of(event).failure = event["reason"]
