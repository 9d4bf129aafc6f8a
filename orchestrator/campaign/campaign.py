"""The campaign: what to train next, when to stop it, when an arm's winner is frozen.

Plain Python over the record of the study: no ray, no mlflow, no torch. Every change goes through one event,
which is written to the ledger before anything is acted on; rebuilding a campaign is folding the ledger.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from optuna.storages import JournalStorage

from orchestrator.campaign.audit import audit_trials
from orchestrator.campaign.budget import Meter, Spending, end_reason
from orchestrator.campaign.journal import BufferedJournal
from orchestrator.campaign.objective import Objective
from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.campaign.sampling import ArmSearch, make_pruner
from orchestrator.campaign.search import SearchProgress, Verdict
from orchestrator.campaign.standing import confirmable, is_searched, is_settled
from orchestrator.study import repeats
from orchestrator.study.regimes import Regime, default_params, main_regime, regimes
from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import Params, StudySpec
from orchestrator.study.terms import space_size
from workloads.contract import DataFacts, Stage, TrialConfig

FailureKind = Literal["exception", "out_of_memory", "lost", "diverged", "timed_out"]


@dataclass(frozen=True)
class TrialRequest:
    """A trial that should start now."""

    config: TrialConfig
    key: str
    attempt: int
    """1 for the first."""
    regime: str = "standard"
    params: Params = field(default_factory=dict)
    """Flat, as they are recorded."""
    repeat: int = 0
    """Of the arm's search."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a trial ended."""

    state: Literal["complete", "stopped", "failed"]
    metrics: Mapping[str, float]
    seconds: float
    """Busy seconds of this attempt."""
    kind: FailureKind | None = None
    """What ended a failed attempt."""
    reason: str = ""
    notes: tuple[str, ...] = ()
    """What could not be measured, or needs care."""
    memory: int = 0
    """Bytes of a GPU's memory that the process needed at most; 0: not measured."""
    device_memory: int = 0
    """Bytes of that GPU."""
    node: str = ""
    """Where it ran."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of a complete trial (contract.TrialResult.environment)."""

    @property
    def measured(self) -> Mapping[str, Any]:
        """Where it ran and what was measured of the GPU, for the record, as far as it is known."""
        where: dict[str, Any] = {"node": self.node} if self.node else {}
        memory = {"memory": self.memory, "device_memory": self.device_memory} if self.memory else {}
        made = {"environment": dict(self.environment)} if self.environment else {}
        return {**where, **memory, **made}


class Campaign:
    """Decides for a whole study.

    Args:
        spec: the study.
        facts: its prepared data.
        record: what has happened so far (empty for a new study); kept up to date from here on.
        emit: called with every new event before it is applied; writes the ledger.
        journal: where Optuna's view of the search goes.
        commit: of the code, written into every selection.
        clock: seconds since the epoch.
        monotonic: seconds from any origin, never running backwards; measures budgets.
    """

    def __init__(
        self,
        spec: StudySpec,
        facts: DataFacts,
        record: StudyRecord,
        emit: Callable[[dict[str, Any]], None],
        journal: BufferedJournal,
        commit: str = "",
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.record = record
        self._facts = facts
        self._regimes = regimes(spec)
        self._emit_event = emit
        self._commit = commit
        self._clock = clock
        self._meter = Meter(spec.budget, record, monotonic)
        self._requeued: deque[TrialRequest] = deque(
            self._request(t) for t in record.trials.values() if t.state == "running"
        )
        self._in_flight: set[str] = set()
        storage = JournalStorage(journal)
        objective = Objective.of(spec, facts.num_classes)
        self._searches: dict[tuple[str, int], SearchProgress] = {}
        """By arm and repeat."""
        for name, arm in spec.arms.items():
            if space_size(arm.space) == 1:
                continue
            for repeat in range(repeats.count(spec, name)):
                own = repeats.as_repeat(spec, repeat)
                # Some pruners keep a state; searches must not feel each other.
                pruner = make_pruner(own.search.pruner, own.training.epochs, len(own.search.seeds))
                search = ArmSearch(own.name, arm, own.search, pruner, storage)
                self._searches[name, repeat] = SearchProgress(
                    own, record.search(name, repeat), search, objective, self._settle
                )
        for progress in self._searches.values():
            progress.rebuild()
        self._select_where_ready()

    # -- what may be asked --------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Nothing is left to train, and nothing is training."""
        return not self._in_flight and not self._requeued and is_settled(self.spec, self.record)

    def next_trial(self) -> TrialRequest | None:
        """The next trial to start, marked as started; None while nothing can start.

        Order: what was interrupted; further seeds of a configuration in flight; a new configuration of the
        arm that has the fewest; confirm trials; audits. Search comes first because it is a chain, and confirm
        trials fill the gaps between its links. First searches come before repeated ones: tables rest on them.
        """
        self._end_what_is_spent()
        while self._requeued:
            request = self._requeued.popleft()
            trial = self.record.trials[request.key]
            if self._is_decided(trial):
                self.finish(request.key, Outcome("stopped", {}, 0.0))
                continue
            return self._start(request, trial.number)
        searching = sorted(
            self._searches.values(),
            key=lambda progress: (progress.arm.repeat, len(progress.arm.configurations)),
        )
        for progress in searching:
            found = progress.next_seed()
            if found is not None:
                return self._start(self._requested(progress.arm, "search", *found), found[0])
        for progress in searching:
            arm = progress.arm
            params = progress.ask()
            if params is not None:
                number = len(arm.configurations)
                self._emit("configured", **_named(arm), number=number, params=dict(params))
                seed = repeats.search_seeds(self.spec, arm.repeat)[0]
                return self._start(self._requested(arm, "search", number, seed), number)
            if progress.newly_exhausted():
                self._emit("exhausted", **_named(arm))
                self._select_where_ready()
            elif (spending := progress.out_of_trials()) is not None:
                self._spend(progress, spending)
        return self._next_confirm() or self._next_audit()

    def _next_confirm(self) -> TrialRequest | None:
        ready = confirmable(self.spec, self.record)
        for arm in sorted(ready, key=lambda a: (a.repeat, len(a.confirm_trials))):
            skipped = self.record.arms[arm.name].skipped
            for regime in self._confirmed_in(arm):
                begun = arm.confirms.get(regime.name, {})
                for seed in self.spec.confirm.seeds:
                    if seed in begun or regime.name in skipped or arm.selected is None:
                        continue
                    request = self._requested(arm, "confirm", arm.selected, seed, regime)
                    if request.key not in self.record.trials:
                        return self._start(request, arm.selected)
                    # The very same training under another name: parameters that won and are the defaults, or
                    # that won twice.
                    self._emit("shared", key=request.key, **_named(arm), regime=regime.name, seed=seed)
        return None

    def _next_audit(self) -> TrialRequest | None:
        """Only when nothing is to be chosen any more: an audit may not inform a choice, nor take its time."""
        if not is_searched(self.spec, self.record):
            return None
        for arm in sorted(self.record.arms.values(), key=lambda a: len(a.audit_trials)):
            for number, seed in audit_trials(self.spec, arm):
                if seed not in arm.audits.get(number, {}):
                    return self._start(self._requested(arm, "audit", number, seed), number)
        return None

    def _confirmed_in(self, arm: ArmRecord) -> list[Regime]:
        """Repeats are there for the spread of the main results."""
        return [self._regimes[main_regime(self.spec)]] if arm.repeat else list(self._regimes.values())

    # -- what may be told ---------------------------------------------------------------------------

    def report(self, key: str, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Take an epoch's metrics in; True: stop this trial now. Repeated reports change nothing."""
        trial = self.record.trials[key]
        if trial.ended is not None:
            return True
        if epoch not in trial.reports:
            self._emit("reported", key=key, epoch=epoch, metrics=dict(metrics))
        if trial.stage != "search":
            return False
        progress = self._searches[trial.arm, trial.repeat]
        progress.advance(trial.number)
        self._select_where_ready()
        self._end_what_is_spent()
        # A trial that has trained to its end has nothing left to save by stopping.
        return progress.is_settled(trial.number) and epoch < self.spec.training.epochs

    def finish(self, key: str, outcome: Outcome) -> None:
        """An attempt at a trial ended. A failed one is queued again as far as the study allows."""
        self._in_flight.discard(key)
        trial = self.record.trials[key]
        if trial.ended is not None:
            return
        home = self.record.search(trial.arm, trial.repeat)
        self._meter.ended(home, key)
        if outcome.state == "failed":
            kind = outcome.kind or "exception"
            reason = f"{kind}: {outcome.reason}"
            earlier = sum(f.startswith(kind + ":") for f in trial.failures)
            self._emit("attempt_failed", key=key, reason=reason, seconds=outcome.seconds)
            if earlier < getattr(self.spec.execution.retries, kind):
                self._requeued.append(self._request(trial))
                return
            self._emit("finished", key=key, state="failed", metrics={}, seconds=0.0, reason=reason)
        elif outcome.state == "stopped" or self._is_decided(trial):
            # Where an earlier epoch decided it, the stop may have come too late to save anything.
            configuration = home.configurations[trial.number]
            last = trial.reports[max(trial.reports)] if trial.reports else {}
            self._emit(
                "finished",
                key=key,
                state="pruned",
                metrics=dict(last),
                seconds=outcome.seconds,
                reason=configuration.reason,
                **outcome.measured,
            )
        else:
            metrics = dict(outcome.metrics)
            self._emit(
                "finished",
                key=key,
                state="complete",
                metrics=metrics,
                seconds=outcome.seconds,
                reason="",
                notes=list(outcome.notes),
                **outcome.measured,
            )
        if trial.stage == "search":
            self._searches[trial.arm, trial.repeat].advance(trial.number)
            self._select_where_ready()

    def _is_decided(self, trial: TrialRecord) -> bool:
        """Whether it is a search trial of a configuration that is settled."""
        return trial.stage == "search" and self._searches[trial.arm, trial.repeat].is_settled(trial.number)

    # -- how it decides -----------------------------------------------------------------------------

    def _settle(self, verdict: Verdict) -> None:
        self._emit(
            "settled",
            **_named(self.record.search(verdict.arm, verdict.repeat)),
            number=verdict.number,
            state=verdict.state,
            value=verdict.value,
            reason=verdict.reason,
        )

    def _end_what_is_spent(self) -> None:
        """End the searches that have reached a limit of seconds."""
        budget = self.spec.budget
        if budget.wall_seconds is None and budget.device_seconds is None:
            return
        for progress in self._searches.values():
            arm = progress.arm
            if arm.spent is None and arm.selected is None and not arm.failure:
                spending = self._meter.spending(arm)
                if spending is not None:
                    self._spend(progress, spending)

    def _spend(self, progress: SearchProgress, spending: Spending) -> None:
        self._emit("budget_spent", **_named(progress.arm), **spending.fields)
        progress.end(end_reason(spending.limit, spending.allowed))
        self._select_where_ready()

    def _select_where_ready(self) -> None:
        """Freeze the winner of every search that is over."""
        for name, arm in self.record.arms.items():
            if arm.selected is None and (name, 0) not in self._searches:
                params = {n: t.values[0] for n, t in self.spec.arms[name].space.items()}
                if not arm.configurations:
                    self._emit("configured", arm=name, number=0, params=params)
                self._freeze(arm, 0, params, None, "its space holds one configuration: nothing to search")
        for progress in self._searches.values():
            arm = progress.arm
            if arm.selected is not None or arm.failure or not progress.is_over:
                continue
            progress.tell_rest()
            winner = progress.winner()
            if winner is None:
                self._emit("unselected", **_named(arm), reason=progress.why_no_winner())
            else:
                configuration = arm.configurations[winner.number]
                self._freeze(arm, winner.number, configuration.params, winner.value, winner.reason)

    def _freeze(
        self, arm: ArmRecord, number: int, params: Mapping[str, Any], value: float | None, reason: str
    ) -> None:
        self._emit(
            "selected",
            **_named(arm),
            number=number,
            params=dict(params),
            value=value,
            reason=reason,
            commit=self._commit,
            data_hash=self._facts.hash,
        )

    def _requested(
        self, arm: ArmRecord, stage: Stage, number: int, seed: int, regime: Regime | None = None
    ) -> TrialRequest:
        params = arm.configurations[number].params
        if regime is not None and regime.spec.parameters == "defaults":
            params = default_params(self.spec, arm.name)
        config = trial_config(self.spec, arm.name, params, seed, stage, self._facts.hash, regime)
        name = "standard" if regime is None else regime.name
        return TrialRequest(config, config.key, 1, name, params, arm.repeat)

    def _start(self, request: TrialRequest, number: int) -> TrialRequest:
        config = request.config
        arm = self.record.search(config.arm, request.repeat)
        self._in_flight.add(request.key)
        if config.stage == "search":
            self._meter.started(arm, request.key)
        # What is as it always was need not stand in every line.
        own: dict[str, Any] = {} if request.regime == "standard" else {"regime": request.regime}
        if request.params != arm.configurations[number].params:
            own["params"] = dict(request.params)
        self._emit(
            "started",
            key=request.key,
            **_named(arm),
            stage=config.stage,
            protocol=config.protocol,
            number=number,
            seed=config.seed,
            attempt=request.attempt,
            **own,
        )
        return request

    def _request(self, trial: TrialRecord) -> TrialRequest:
        stage: Stage = trial.stage  # type: ignore[assignment]
        regime = self._regimes[trial.regime] if stage == "confirm" else None
        config = trial_config(self.spec, trial.arm, trial.params, trial.seed, stage, self._facts.hash, regime)
        return TrialRequest(config, trial.key, trial.attempts + 1, trial.regime, trial.params, trial.repeat)

    def _emit(self, kind: str, **fields: Any) -> None:
        event = {"event": kind, "t": self._clock(), **fields}
        if self.spec.budget.wall_seconds is not None:
            event["up"] = round(self._meter.session_seconds, 3)
        self._emit_event(event)
        self.record.apply(event)


def _named(arm: ArmRecord) -> dict[str, Any]:
    """How events name a search; the first one by its arm alone."""
    return {"arm": arm.name, "repeat": arm.repeat} if arm.repeat else {"arm": arm.name}
