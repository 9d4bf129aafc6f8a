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

from orchestrator.campaign.journal import BufferedJournal
from orchestrator.campaign.objective import Objective
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.campaign.sampling import ArmSearch, make_pruner
from orchestrator.campaign.search import SearchProgress, Verdict
from orchestrator.study.regimes import Regime, default_params, regimes
from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import Params, StudySpec
from orchestrator.study.terms import space_size
from workloads.contract import DataFacts, Stage, TrialConfig

FailureKind = Literal["exception", "out_of_memory", "lost", "diverged"]


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
    ) -> None:
        self.spec = spec
        self.record = record
        self._facts = facts
        self._regimes = regimes(spec)
        self._emit_event = emit
        self._commit = commit
        self._clock = clock
        self._requeued: deque[TrialRequest] = deque(
            self._request(t) for t in record.trials.values() if t.state == "running"
        )
        self._in_flight: set[str] = set()
        storage = JournalStorage(journal)
        objective = Objective.of(spec, facts.num_classes)
        self._searches: dict[str, SearchProgress] = {}
        for name, arm in spec.arms.items():
            if space_size(arm.space) == 1:
                continue
            # Some pruners keep a state; arms must not feel each other.
            pruner = make_pruner(spec.search.pruner, spec.training.epochs, len(spec.search.seeds))
            search = ArmSearch(spec.name, arm, spec.search, pruner, storage)
            self._searches[name] = SearchProgress(spec, record.arms[name], search, objective, self._settle)
        for progress in self._searches.values():
            progress.rebuild()
        self._select_where_ready()

    # -- what may be asked --------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Nothing is left to train, and nothing is training."""
        return not self._in_flight and not self._requeued and self._settled

    @property
    def _settled(self) -> bool:
        for arm in self.record.arms.values():
            if arm.failure:
                continue
            if arm.selected is None:
                return False
            ended = sum(t.ended is not None for t in arm.confirm_trials)
            if ended < arm.confirm_planned(self._regimes, len(self.spec.confirm.seeds)):
                return False
        return True

    def next_trial(self) -> TrialRequest | None:
        """The next trial to start, marked as started; None while nothing can start.

        Order: what was interrupted; further seeds of a configuration in flight; a new configuration of the
        arm that has the fewest; confirm trials. Search comes first because it is a chain, and confirm
        trials fill the gaps between its links.
        """
        while self._requeued:
            request = self._requeued.popleft()
            trial = self.record.trials[request.key]
            if trial.stage == "search" and self._searches[trial.arm].is_settled(trial.number):
                self.finish(request.key, Outcome("stopped", {}, 0.0))
                continue
            return self._start(request, trial.number)
        searching = sorted(self._searches.items(), key=lambda item: len(item[1].arm.configurations))
        for name, progress in searching:
            found = progress.next_seed()
            if found is not None:
                return self._start(self._requested(name, "search", *found), found[0])
        for name, progress in searching:
            params = progress.ask()
            if params is not None:
                number = len(progress.arm.configurations)
                self._emit("configured", arm=name, number=number, params=dict(params))
                request = self._requested(name, "search", number, self.spec.search.seeds[0])
                return self._start(request, number)
            if progress.newly_exhausted():
                self._emit("exhausted", arm=name)
                self._select_where_ready()
        return self._next_confirm()

    def _next_confirm(self) -> TrialRequest | None:
        ready = [a for a in self.record.arms.values() if a.selected is not None]
        for arm in sorted(ready, key=lambda a: len(a.confirm_trials)):
            for regime in self._regimes.values():
                begun = arm.confirms.get(regime.name, {})
                for seed in self.spec.confirm.seeds:
                    if seed in begun or regime.name in arm.skipped or arm.selected is None:
                        continue
                    request = self._requested(arm.name, "confirm", arm.selected, seed, regime)
                    if request.key not in self.record.trials:
                        return self._start(request, arm.selected)
                    # The very same training under another name: parameters that won and are the defaults.
                    self._emit("shared", key=request.key, arm=arm.name, regime=regime.name, seed=seed)
        return None

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
        progress = self._searches[trial.arm]
        progress.advance(trial.number)
        self._select_where_ready()
        # A trial that has trained to its end has nothing left to save by stopping.
        return progress.is_settled(trial.number) and epoch < self.spec.training.epochs

    def finish(self, key: str, outcome: Outcome) -> None:
        """An attempt at a trial ended. A failed one is queued again as far as the study allows."""
        self._in_flight.discard(key)
        trial = self.record.trials[key]
        if trial.ended is not None:
            return
        if outcome.state == "failed":
            kind = outcome.kind or "exception"
            reason = f"{kind}: {outcome.reason}"
            earlier = sum(f.startswith(kind + ":") for f in trial.failures)
            self._emit("attempt_failed", key=key, reason=reason, seconds=outcome.seconds)
            if earlier < getattr(self.spec.execution.retries, kind):
                self._requeued.append(self._request(trial))
                return
            self._emit("finished", key=key, state="failed", metrics={}, seconds=0.0, reason=reason)
        elif outcome.state == "stopped" or self._was_stopped(trial):
            configuration = self.record.arms[trial.arm].configurations[trial.number]
            last = trial.reports[max(trial.reports)] if trial.reports else {}
            self._emit(
                "finished",
                key=key,
                state="pruned",
                metrics=dict(last),
                seconds=outcome.seconds,
                reason=configuration.reason,
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
            )
        if trial.stage == "search":
            self._searches[trial.arm].advance(trial.number)
            self._select_where_ready()

    def _was_stopped(self, trial: TrialRecord) -> bool:
        """Its configuration was decided by an earlier epoch, and the stop came too late to save anything."""
        return trial.stage == "search" and self._searches[trial.arm].is_settled(trial.number)

    # -- how it decides -----------------------------------------------------------------------------

    def _settle(self, verdict: Verdict) -> None:
        self._emit(
            "settled",
            arm=verdict.arm,
            number=verdict.number,
            state=verdict.state,
            value=verdict.value,
            reason=verdict.reason,
        )

    def _select_where_ready(self) -> None:
        """Freeze the winner of every arm whose search is over."""
        for name, arm in self.record.arms.items():
            if arm.selected is not None or arm.failure:
                continue
            progress = self._searches.get(name)
            if progress is None:
                params = {n: t.values[0] for n, t in self.spec.arms[name].space.items()}
                if not arm.configurations:
                    self._emit("configured", arm=name, number=0, params=params)
                self._freeze(name, 0, params, None, "its space holds one configuration: nothing to search")
            elif progress.is_over:
                progress.tell_rest()
                winner = progress.winner()
                if winner is None:
                    self._emit("unselected", arm=name, reason=progress.why_no_winner())
                else:
                    configuration = arm.configurations[winner.number]
                    self._freeze(name, winner.number, configuration.params, winner.value, winner.reason)

    def _freeze(
        self, arm: str, number: int, params: Mapping[str, Any], value: float | None, reason: str
    ) -> None:
        self._emit(
            "selected",
            arm=arm,
            number=number,
            params=dict(params),
            value=value,
            reason=reason,
            commit=self._commit,
            data_hash=self._facts.hash,
        )

    def _requested(
        self, arm: str, stage: Stage, number: int, seed: int, regime: Regime | None = None
    ) -> TrialRequest:
        params = self.record.arms[arm].configurations[number].params
        if regime is not None and regime.spec.parameters == "defaults":
            params = default_params(self.spec, arm)
        config = trial_config(self.spec, arm, params, seed, stage, self._facts.hash, regime)
        name = "standard" if regime is None else regime.name
        return TrialRequest(config, config.key, 1, name, params)

    def _start(self, request: TrialRequest, number: int) -> TrialRequest:
        config = request.config
        self._in_flight.add(request.key)
        # What is as it always was need not stand in every line.
        own: dict[str, Any] = {} if request.regime == "standard" else {"regime": request.regime}
        if request.params != self.record.arms[config.arm].configurations[number].params:
            own["params"] = dict(request.params)
        self._emit(
            "started",
            key=request.key,
            arm=config.arm,
            stage=config.stage,
            protocol=config.protocol,
            number=number,
            seed=config.seed,
            attempt=request.attempt,
            **own,
        )
        return request

    def _request(self, trial: TrialRecord) -> TrialRequest:
        stage: Stage = "confirm" if trial.stage == "confirm" else "search"
        config = trial_config(
            self.spec,
            trial.arm,
            trial.params,
            trial.seed,
            stage,
            self._facts.hash,
            self._regimes[trial.regime] if stage == "confirm" else None,
        )
        return TrialRequest(config, trial.key, trial.attempts + 1, trial.regime, trial.params)

    def _emit(self, kind: str, **fields: Any) -> None:
        event = {"event": kind, "t": self._clock(), **fields}
        self._emit_event(event)
        self.record.apply(event)
