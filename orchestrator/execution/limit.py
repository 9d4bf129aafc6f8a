"""The time limit of an attempt: kept by the worker itself, and by the driver where the worker cannot."""

from __future__ import annotations

import contextlib
import faulthandler
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import ray
from ray.tune import Callback

_LEAST_SECONDS = 0.01
_LONGEST_STEP_SECONDS = 10.0


class Alarm:
    """Ends this process where its trial works for longer than the limit, and writes down where it stood.

    It needs nothing of Python, so it also ends what holds the interpreter's lock. Time in which the trial
    waits for the driver does not count.

    Args:
        path: gets the traceback of every thread; not there unless the limit was passed.
        seconds: the limit; None: there is none.
    """

    def __init__(self, path: Path, seconds: float | None) -> None:
        self._path = path
        self._left = seconds
        self._file: IO[bytes] | None = None
        self._since = 0.0

    def __enter__(self) -> Alarm:
        self._arm()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The worker lives on for other trials.
        self._disarm()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The time in the body does not count."""
        self._disarm()
        yield
        # Not where the body raises: the attempt is over then.
        self._arm()

    def _arm(self) -> None:
        if self._left is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("wb", buffering=0)
        self._since = time.monotonic()
        faulthandler.dump_traceback_later(max(self._left, _LEAST_SECONDS), file=self._file, exit=True)

    def _disarm(self) -> None:
        if self._left is None or self._file is None:
            return
        faulthandler.cancel_dump_traceback_later()
        self._left -= time.monotonic() - self._since
        self._file.close()
        self._file = None
        self._path.unlink(missing_ok=True)


class Watch(Callback):
    """Kills the workers of attempts that are long over their limit.

    A worker that is stopped, cut off or stuck in the kernel cannot end itself. Where Ray does not say which
    worker it is, nothing is killed.

    Args:
        limit: seconds, None: no limit. The grace, 15 s and a tenth, is for workers that can.
        told: called with a trial's id when its worker begins with it.
    """

    def __init__(
        self,
        limit: float | None,
        told: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        kill: Callable[[Any], None] = ray.kill,
    ) -> None:
        self._most = None if limit is None else limit * 1.1 + 15
        self._told = told
        self._clock = clock
        self._kill = kill
        self._looked = clock()
        self._worked: dict[Any, float] = {}
        """Seconds that each running trial has had."""

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._told(trial.trial_id)
        self._worked[trial] = 0.0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._worked.pop(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._worked.pop(trial, None)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        now = self._clock()
        # A driver that was itself stopped for a while must not hold that against its trials.
        passed = min(now - self._looked, _LONGEST_STEP_SECONDS)
        self._looked = now
        if self._most is None:
            return
        for trial in list(self._worked):
            self._worked[trial] += passed
            if self._worked[trial] > self._most:
                # Ray then tells of a dead worker, like any other.
                worker = getattr(getattr(trial, "temporary_state", None), "ray_actor", None)
                del self._worked[trial]
                if worker is not None:
                    self._kill(worker)
