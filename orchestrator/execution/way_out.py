"""How a session leaves where Ray does not let it: its cluster has died, or does not come to an end."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from orchestrator.campaign.ledger import read_events
from orchestrator.errors import Interrupted, StudyFailed
from orchestrator.execution import cluster
from orchestrator.execution.lifeline import end_children, fruitless_sessions, leave
from orchestrator.execution.stop import Stop
from orchestrator.execution.study_run import StudyRun

_TOLD_SECONDS = 2.0
_RAY_SECONDS = 7.0
"""For a stop of the trials and of Ray; on an idle machine it takes less than one, on a busy one four."""
_LOOK_SECONDS = 0.25
_RESTARTS = 3
"""Of a local cluster that dies again and again before any trial gets a step further."""


class Screen(Protocol):
    """What the user sees."""

    def close(self) -> None: ...

    def say(self, text: str) -> None: ...


class WayOut:
    """Ends the process from another thread than the study's own, which may wait for the cluster.

    Everything stands in the ledger, so this is like a kill of the driver, with words.

    Args:
        ledger: its path.
    """

    def __init__(self, run: StudyRun, stop: Stop, display: Screen, ledger: Path) -> None:
        self._run = run
        self._stop = stop
        self._display = display
        self._ledger = ledger

    def lost(self, reason: str) -> None:
        """The cluster has died under the study: begin again where that helps."""
        self._display.close()
        local = cluster.named(self._run.address) is None
        if self._stop.trouble:
            leave(StudyFailed(self._run.halted(self._stop.trouble)))
        # Who ends a job tells all its processes, and Ray's may hear it first.
        if self._stop.wait(_TOLD_SECONDS):
            leave(self._stopped())
        died = f"the {'local ' if local else ''}Ray cluster has died: {reason}"
        fruitless = fruitless_sessions(read_events(self._ledger))
        if local and self._run.restart and fruitless <= _RESTARTS:
            self._display.say(f"{died}; starting it again, nothing that was finished is lost")
            sys.stdout.flush()
            self._run.restart()
        again = f" for the {_RESTARTS + 1}th time without any progress" if fruitless > _RESTARTS else ""
        leave(StudyFailed(f"{died}{again}; {self._run.kept}"))

    @contextlib.contextmanager
    def in_time(self) -> Iterator[None]:
        """Whoever stops the study waits for the body, which is Ray's, some seconds and no longer.

        Where all of a job's processes are told to end, Ray's own wait for each other, for up to a minute.
        """
        over = threading.Event()

        def watch() -> None:
            since = None
            while not over.wait(_LOOK_SECONDS):
                if self._stop.name:
                    since = since or time.monotonic()
                    if time.monotonic() - since > _RAY_SECONDS:
                        return self.give_up()

        threading.Thread(target=watch, name="watch", daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def give_up(self) -> None:
        """Leave without Ray; what MLflow has not got, the next run delivers."""
        self._display.close()
        end_children()
        leave(self._stopped())

    def _stopped(self) -> Interrupted:
        return Interrupted(f"stopped by {self._stop.name}; {self._run.kept}")
