"""The tracker: takes the study's events and writes them to MLflow in a thread of its own.

The control loop only puts events on a queue. The thread folds them into a record of its own and brings
MLflow to where that record is, several events at a time. A store that fails is tried again later; training
goes on meanwhile, and what was not delivered at the end is delivered by the next run of the same command.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.campaign.record import Event, StudyRecord
from orchestrator.study.spec import StudySpec

if TYPE_CHECKING:
    from orchestrator.tracking.writer import MlflowWriter

_FLUSH_SECONDS = 5.0
"""A running trial's metrics are sent at most this often."""
_RETRY_SECONDS = 5.0
_LAST_RETRY_SECONDS = 0.2
"""Between tries at the very end, while the user waits."""
_STOP = object()
_GRACE_SECONDS = 5.0
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # The tracker tries again itself; MLflow's own seven tries would hold a call for minutes.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Tracker:
    """MLflow's view of a running study.

    Args:
        open_writer: makes the writer; called in the thread, as importing MLflow and creating a store take
            seconds.
    """

    def __init__(
        self,
        spec: StudySpec,
        open_writer: Callable[[], MlflowWriter],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._open_writer = open_writer
        self._clock = clock
        self._queue: queue.Queue[Any] = queue.Queue()
        self._record = StudyRecord()
        self._dirty: dict[str, float] = {}
        """Trial keys with news, and when they were last written."""
        self._written: dict[str, float] = {}
        self.writer: MlflowWriter | None = None
        self.trouble = ""
        """What the store said when it last failed; empty while all is well."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._draining = threading.Event()
        self._deadline: float | None = None
        self._sessions = 0
        """Sessions in the history; nothing is written before one more has opened."""
        self._opened = False

    def start(self, history: Iterable[Event]) -> None:
        """Begin with the events so far; the store is opened at once, and written to from ``opened`` on."""
        for event in history:
            self._apply(event)
        self._sessions = len(self._record.sessions)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Take one event; returns at once."""
        self._queue.put(event)

    def drain(self, seconds: float) -> bool:
        """Write all that is there, for at most so many seconds; whether everything was delivered."""
        self._deadline = self._clock() + seconds
        self._queue.put(_STOP)
        self._draining.set()
        self._thread.join(seconds + _GRACE_SECONDS)
        if self._thread.is_alive():
            self.trouble = self.trouble or f"the store did not answer within {seconds:g} s"
        return not self.trouble

    # -- in the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        stopping = False
        while True:
            try:
                self._write(everything=stopping)
                self.trouble = ""
                if stopping and self._queue.empty():
                    return
            except Exception as error:  # a store fails in many ways, and none may end the study
                self.trouble = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                if stopping and self._clock() > (self._deadline or 0.0):
                    return
                # Cut short when the session wants to end.
                self._draining.wait(_RETRY_SECONDS)
                if stopping:
                    time.sleep(_LAST_RETRY_SECONDS)
            stopping = self._take(block=not stopping) or stopping

    def _take(self, *, block: bool) -> bool:
        """Apply all events that wait; whether the stop sign was among them."""
        stop = False
        try:
            item = self._queue.get(block=block, timeout=1.0 if block else None)
            while True:
                if item is _STOP:
                    stop = True
                else:
                    self._apply(item)
                item = self._queue.get_nowait()
        except queue.Empty:
            return stop

    def _apply(self, event: Event) -> None:
        self._record.apply(event)
        if "key" in event:
            self._dirty[event["key"]] = self._clock()

    def _write(self, *, everything: bool) -> None:
        if self.writer is None:
            self.writer = self._open_writer()
        if len(self._record.sessions) == self._sessions:
            return
        if not self._opened:
            self.writer.open_study(self._record)
            self._opened = True
        now = self._clock()
        for key in list(self._dirty):
            trial = self._record.trials[key]
            recent = now - self._written.get(key, -_FLUSH_SECONDS) < _FLUSH_SECONDS
            if trial.ended is None and recent and not everything:
                continue
            self.writer.write_trial(self._record, trial)
            self._written[key] = now
            del self._dirty[key]


def make_writer(
    spec: StudySpec, study_dir: Path, uri: str, artifact_root: str | None
) -> Callable[[], MlflowWriter]:
    """What :class:`Tracker` needs to open the store in its thread."""

    def open_writer() -> MlflowWriter:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from orchestrator.tracking.writer import MlflowWriter

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        return MlflowWriter(spec, study_dir, uri, artifact_root)

    return open_writer
