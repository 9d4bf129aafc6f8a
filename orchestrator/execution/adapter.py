"""Ray Tune's searcher and scheduler, which only translate: the campaign decides.

Tune asks ``suggest`` for a trial, tells ``on_trial_result`` of every report, and ``on_trial_complete`` of
every end. All three run in the driver's thread, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from orchestrator.campaign.campaign import Campaign, Outcome, TrialRequest
from orchestrator.execution.packing import Packing
from orchestrator.execution.trial import DISK_FULL, MEMORY, OUTCOME, REFUSED, REPORTS, UNSEEN, timeout_file
from orchestrator.execution.workers import KeptWorkers, survive_memory_monitor

_LOW_MEMORY = "low on memory"
"""In what Ray says of a worker that its memory monitor ended."""
_PATIENCE_SECONDS = 2.0
"""Between a worker's loss and what is made of it: a scheduler that takes a job's nodes back ends its workers,
and often tells the driver a moment later. What a stop follows was no failure of the trial."""


@dataclass
class _Attempt:
    """An attempt at a trial of ours that a Ray trial runs."""

    key: str
    number: int
    folder: Path
    gpus: float
    started: float | None = None
    """When its worker began with it."""
    memory: tuple[int, int] = (0, 0)
    node: str = ""
    """Where its worker runs, once that has reported."""
    death: str = ""
    """What Ray says of its worker's end."""


class Bridge:
    """Which Ray trial runs which trial of ours.

    Args:
        payload: what a worker is sent for a request, ``resources`` and ``folder`` among it.
        interrupted: whether the study has to stop; from then on nothing is started or recorded.
        halt: stops the study, for a reason that is given in words.
        packing: learns what trials need of a GPU.
        room: whether one more trial finds room now beside those in flight, by their GPU shares. Tune is given
            no trial that could not start: it would stand in the ledger as started.
        slots: trials side by side, at the moment.
    """

    def __init__(
        self,
        campaign: Campaign,
        payload: Callable[[TrialRequest], dict[str, Any]],
        interrupted: Callable[[], bool],
        clock: Callable[[], float],
        halt: Callable[[str], None],
        packing: Packing,
        room: Callable[[list[float]], bool] = lambda _: True,
        slots: Callable[[], int] = lambda: 1,
    ) -> None:
        self.campaign = campaign
        self.interrupted = interrupted
        self._payload = payload
        self._clock = clock
        self._halt = halt
        self._packing = packing
        self._room = room
        self._slots = slots
        self._limit = campaign.spec.execution.time_limit
        self._attempts: dict[str, _Attempt] = {}
        self._losses: list[tuple[float, _Attempt, Outcome]] = []
        """Attempts whose workers went away, each with the moment; oldest first."""

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Tune pickles its searcher for a resume that never happens: the ledger is the record."""
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Bridge:
        return self

    @property
    def shares(self) -> list[float]:
        """GPUs of each trial in flight."""
        return [attempt.gpus for attempt in self._attempts.values()]

    def slots(self) -> int:
        """Trials side by side, at the moment."""
        return self._slots()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.interrupted():
            # With None, Tune would wait ten minutes for a trial where none is running.
            return str(Searcher.FINISHED)
        self.settle()
        if not self._room(self.shares):
            return None
        request = self.campaign.next_trial()
        if request is None:
            return str(Searcher.FINISHED) if self.campaign.done else None
        payload = self._payload(request)
        self._attempts[trial_id] = _Attempt(
            request.key, request.attempt, Path(payload["folder"]), payload["resources"]["gpu"]
        )
        return payload

    def started(self, trial_id: str) -> None:
        """A worker begins with the trial."""
        if trial_id in self._attempts:
            self._attempts[trial_id].started = self._clock()

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial must stop."""
        attempt = self._attempts[trial_id]
        attempt.node = f"{result.get('hostname', '')} ({result.get('node_ip', '')})"
        if MEMORY in result:
            needed, total = json.loads(result[MEMORY])
            attempt.memory = needed, total
        reports = json.loads(result.get(REPORTS) or "[]")
        stop = [self.campaign.report(attempt.key, r["epoch"], r["metrics"]) for r in reports]
        return any(stop)

    def died(self, trial_id: str, said: str) -> None:
        """Ray says of the trial's worker that it is dead, and why."""
        if trial_id in self._attempts:
            self._attempts[trial_id].death = said

    def complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        if trial_id not in self._attempts or self.interrupted():
            return
        if result and OUTCOME in result:
            # A last message goes past the scheduler; it may hold the last epochs.
            self.report(trial_id, result)
        attempt = self._attempts.pop(trial_id)
        text = (result or {}).get(OUTCOME)
        said = json.loads(text) if text else None
        if said is not None and said.get("kind") in (DISK_FULL, UNSEEN, REFUSED):
            # No fault of the trial: it stays as it is, and goes on from its checkpoint.
            self._halt(said["reason"])
            return
        outcome = replace(self._outcome(attempt, said, error), node=attempt.node)
        if outcome.kind == "lost":
            self._losses.append((self._clock(), attempt, outcome))
        else:
            self._finish(attempt, outcome)

    def settle(self) -> None:
        """Tell the campaign of the losses that no stop has followed; called again and again."""
        while self._losses and not self.interrupted():
            since, attempt, outcome = self._losses[0]
            if self._clock() - since < _PATIENCE_SECONDS:
                break
            del self._losses[0]
            self._finish(attempt, outcome)

    def _finish(self, attempt: _Attempt, outcome: Outcome) -> None:
        self.campaign.finish(attempt.key, outcome)
        self._packing.learn(self.campaign.record.trials[attempt.key])

    def _outcome(self, attempt: _Attempt, said: dict[str, Any] | None, error: bool) -> Outcome:
        seconds = 0.0 if attempt.started is None else self._clock() - attempt.started
        needed, total = attempt.memory
        if said is None and error:
            return self._death(attempt, seconds)
        if said is None:
            return Outcome("stopped", {}, seconds, memory=needed, device_memory=total)
        if said["state"] == "failed":
            reason = said["reason"]
            if said["kind"] == "out_of_memory":
                reason += _advice(attempt.gpus)
            return Outcome("failed", {}, seconds, said["kind"], reason)
        notes = tuple(said["notes"])
        return Outcome(
            *("complete", said["metrics"], said["seconds"], None, "", notes, needed, total),
            environment=said.get("environment", {}),
        )

    def _death(self, attempt: _Attempt, seconds: float) -> Outcome:
        """The worker is gone, and could not say why."""
        if _LOW_MEMORY in attempt.death:
            return Outcome("failed", {}, seconds, "out_of_memory", _first_sentences(attempt.death))
        file = timeout_file(attempt.folder, attempt.number)
        if self._limit is not None and (_holds_something(file) or seconds >= self._limit):
            where = "; its worker could not say where it stood"
            if _holds_something(file):
                where = f"; where it stood is in {Path(*file.parts[-3:])}"
            reason = f"it took longer than execution.time_limit = {self._limit:g} s{where}"
            return Outcome("failed", {}, seconds, "timed_out", reason)
        where = f" on {attempt.node}" if attempt.node else ""
        why = "killed, crashed, out of memory, or its node lost"
        reason = f"its worker{where} went away before it ended ({why})"
        return Outcome("failed", {}, seconds, "lost", reason)


def _advice(gpus: float) -> str:
    """What helps a trial that ran out of memory on so many GPUs."""
    if gpus >= 1:
        return "; it had a whole GPU: it needs a smaller training.batch_size or model, or a larger GPU"
    if gpus > 0:
        return f"; it had {gpus:g} of a GPU: another attempt gets {min(1.0, 2 * gpus):g}"
    return ""


def _first_sentences(text: str) -> str:
    """What Ray says, without its advice and its table of processes."""
    lines = text.strip().splitlines()
    found = next((i for i, line in enumerate(lines) if _LOW_MEMORY in line), 0)
    return "ended by Ray's memory monitor: " + " ".join(lines[found : found + 2])[:300]


def _holds_something(file: Path) -> bool:
    try:
        return file.stat().st_size > 0
    except OSError:
        return False


class CampaignSearcher(Searcher):
    """Asks the campaign for the next trial and tells it of every end."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        return self._bridge.suggest(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        self._bridge.complete(trial_id, result, error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the record."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the record."""


class CampaignScheduler(FIFOScheduler):
    """Stops what the campaign says is to stop.

    Args:
        keep: whether workers wait for further trials. Not where a trial may take more of a GPU than another:
            a waiting worker keeps its own share.
    """

    def __init__(self, bridge: Bridge, *, keep: bool = True) -> None:
        super().__init__()
        self._bridge = bridge
        self._kept = KeptWorkers(bridge.slots if keep else lambda: 0)
        self._flying: dict[str, Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        survive_memory_monitor(tune_controller)
        self._kept.begun(tune_controller, trial.trial_id, trial.placement_group_factory)
        self._flying[trial.trial_id] = trial

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        # Tune tells nobody of a trial that was to use a worker again, and found it still busy.
        for trial in [each for each in self._flying.values() if each.status == Trial.ERROR]:
            self._ended(tune_controller, trial)
            self._bridge.complete(trial.trial_id, None, True)
        return super().choose_trial_to_run(tune_controller)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        stop = self._bridge.report(trial.trial_id, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._ended(tune_controller, trial)
        super().on_trial_complete(tune_controller, trial, result)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._bridge.died(trial.trial_id, _error_text(trial))
        self._ended(tune_controller, trial)
        super().on_trial_error(tune_controller, trial)

    def _ended(self, tune_controller: Any, trial: Trial) -> None:
        self._flying.pop(trial.trial_id, None)
        self._kept.ended(tune_controller, trial.trial_id)


def _error_text(trial: Trial) -> str:
    try:
        return Path(trial.error_file).read_text()
    except (OSError, TypeError):
        return ""


class InterruptStopper(Stopper):
    """Ends the Ray run soon after Ctrl-C or SIGTERM; Tune asks it at every step."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._bridge.settle()
        return self._bridge.interrupted()
