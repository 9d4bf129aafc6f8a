"""Ray Tune's searcher and scheduler, which only translate: the campaign decides.

Tune asks ``suggest`` for a trial, tells ``on_trial_result`` of every report, and ``on_trial_complete`` of
every end. All three run in the driver's thread, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher
from ray.tune.stopper import Stopper

from orchestrator.campaign.campaign import Campaign, Outcome, TrialRequest
from orchestrator.execution.trial import OUTCOME, REPORTS


class Bridge:
    """Which Ray trial runs which trial of ours.

    Args:
        payload: what a worker is sent for a request.
        interrupted: whether the user wants to stop; from then on nothing is started or recorded.
    """

    def __init__(
        self,
        campaign: Campaign,
        payload: Callable[[TrialRequest], dict[str, Any]],
        interrupted: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        self.campaign = campaign
        self.interrupted = interrupted
        self._payload = payload
        self._clock = clock
        self._keys: dict[str, str] = {}
        self._started: dict[str, float] = {}

    def __reduce__(self) -> tuple[type[object], tuple[()]]:
        """Tune pickles its searcher for a resume that never happens: the ledger is the record."""
        return object, ()

    def __deepcopy__(self, memo: dict[int, Any]) -> Bridge:
        return self

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self.interrupted():
            return None
        request = self.campaign.next_trial()
        if request is None:
            return str(Searcher.FINISHED) if self.campaign.done else None
        self._keys[trial_id] = request.key
        self._started[trial_id] = self._clock()
        return self._payload(request)

    def report(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether the trial must stop."""
        reports = json.loads(result.get(REPORTS) or "[]")
        stop = [self.campaign.report(self._keys[trial_id], r["epoch"], r["metrics"]) for r in reports]
        return any(stop)

    def complete(self, trial_id: str, result: dict[str, Any] | None, error: bool) -> None:
        if trial_id not in self._keys or self.interrupted():
            return
        if result and OUTCOME in result:
            # A last message goes past the scheduler; it may hold the last epochs.
            self.report(trial_id, result)
        key = self._keys.pop(trial_id)
        seconds = self._clock() - self._started[trial_id]
        text = (result or {}).get(OUTCOME)
        outcome = json.loads(text) if text else None
        if outcome is None and not error:
            self.campaign.finish(key, Outcome("stopped", {}, seconds))
        elif outcome is None:
            reason = "its worker went away before it ended (killed, out of memory, or its node lost)"
            self.campaign.finish(key, Outcome("failed", {}, seconds, "lost", reason))
        elif outcome["state"] == "failed":
            self.campaign.finish(key, Outcome("failed", {}, seconds, outcome["kind"], outcome["reason"]))
        else:
            said = tuple(outcome["notes"])
            self.campaign.finish(key, Outcome("complete", outcome["metrics"], outcome["seconds"], notes=said))


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
        slots: trials side by side.
    """

    def __init__(self, bridge: Bridge, slots: int) -> None:
        super().__init__()
        self._bridge = bridge
        self._slots = slots
        self._keeping = False

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        super().on_trial_add(tune_controller, trial)
        if not self._keeping:
            self._keeping = True
            keep_workers(tune_controller, trial.placement_group_factory, self._slots)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        stop = self._bridge.report(trial.trial_id, result)
        return str(TrialScheduler.STOP if stop else TrialScheduler.CONTINUE)


def keep_workers(controller: Any, resources: Any, count: int) -> None:
    """Let Tune keep so many workers for the trials to come, whether or not the next ones are known yet.

    Where several trials end at the same moment and nothing is queued, Tune keeps one of their workers and
    ends the others; the next trials then wait for that one, or for a new process that loads torch again.
    Tune has no setting for it. A version of Tune without this cache is as slow as it was.
    """
    cache = getattr(getattr(controller, "_tune_controller", controller), "_actor_cache", None)
    if cache is not None:
        cache.increase_max(resources, count)


class InterruptStopper(Stopper):
    """Ends the Ray run soon after Ctrl-C or SIGTERM."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._bridge.interrupted()
