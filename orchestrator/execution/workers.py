"""What is done to Tune's workers that Tune has no setting for.

It reaches into Tune 2.60; where another version lacks what is looked for, nothing is done.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.exceptions import OutOfMemoryError, RayActorError


class KeptWorkers:
    """Workers that Tune keeps for trials to come, all of the same resources.

    While a trial of other resources is there, none is kept: it may be waiting for what they hold.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self._count = 0
        self._usual: Any = None
        self._others: set[str] = set()

    def begun(self, controller: Any, trial_id: str, resources: Any) -> None:
        # Nodes that join bring room for more; where some have left, fewer are there to be kept.
        more = self._most() - self._count
        if more > 0:
            self._count += more
            if not self._others:
                keep_workers(controller, self._usual or resources, more)
        if self._count == 0:
            return
        if self._usual is None:
            self._usual = resources
        elif resources != self._usual:
            if not self._others:
                keep_workers(controller, self._usual, -self._count)
            self._others.add(trial_id)

    def ended(self, controller: Any, trial_id: str) -> None:
        if trial_id in self._others:
            self._others.remove(trial_id)
            if not self._others:
                keep_workers(controller, self._usual, self._count)


def keep_workers(controller: Any, resources: Any, count: int) -> None:
    """Let Tune keep so many workers more for the trials to come, whether or not the next ones are known yet.

    Where several trials end at the same moment and nothing is queued, Tune keeps one of their workers and
    ends the others; the next trials then wait for that one, or for a new process that loads torch again.
    Tune has no setting for it. A version of Tune without this cache is as slow as it was.
    """
    cache = getattr(getattr(controller, "_tune_controller", controller), "_actor_cache", None)
    if cache is not None:
        cache.increase_max(resources, count)


def survive_memory_monitor(controller: Any) -> None:
    """Let Tune take a worker that Ray's memory monitor ended for a dead worker like any other.

    Ray names such a death by an error that Tune 2.60 does not know and ends the whole run for.
    """
    workers = getattr(getattr(controller, "_tune_controller", controller), "_actor_manager", None)
    known = getattr(workers, "_actor_task_failed", None)
    if workers is None or known is None or getattr(known, "knows_memory", False):
        return

    def failed(*given: Any, **named: Any) -> None:
        known(*map(_named_as_known, given), **{name: _named_as_known(each) for name, each in named.items()})

    failed.knows_memory = True  # type: ignore[attr-defined]
    workers._actor_task_failed = failed


def _named_as_known(given: Any) -> Any:
    return RayActorError(error_msg=str(given)) if isinstance(given, OutOfMemoryError) else given
