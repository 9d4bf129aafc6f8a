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
from orchestrator.errors import Unavailable
from orchestrator.redaction import redacted
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.store import hand_over_credentials, one_at_a_time
from orchestrator.tracking.whereabouts import Whereabouts, note

if TYPE_CHECKING:
    from orchestrator.tracking.writer import MlflowWriter

_FLUSH_SECONDS = 5.0
"""A running trial's metrics are sent at most this often."""
_RETRY_SECONDS = 5.0
_FIRST_RETRY_SECONDS = 0.5
"""After the first failure: a server that only hung up on an idle connection is no news to anybody."""
_LAST_RETRY_SECONDS = 0.2
"""Between tries at the very end, while the user waits."""
_STOP = object()
_GRACE_SECONDS = 1.0
_LOOK_SECONDS = 0.1
"""How soon a second wish to stop is heard."""
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A slow answer is waited for, as the thread has time; a dead server refuses at once.
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "120",
}
_FORCED = {
    # MLflow would send a request to make a run again where the answer was lost: two runs. The tracker tries
    # again itself, and looks first.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
}
_LOCKED_OUT = ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "PERMISSION_DENIED")
_REFUSED = "INVALID_PARAMETER_VALUE"
_GONE = "RESOURCE_DOES_NOT_EXIST"


class _Late(Exception):
    """The time for the last records is over."""


class Tracker:
    """MLflow's view of a running study.

    Args:
        open_writer: makes the writer; called in the thread, as importing MLflow and creating a store take
            seconds.
        say: told in a sentence, once a session each, that records wait and that they went on.
    """

    def __init__(
        self,
        spec: StudySpec,
        open_writer: Callable[[], MlflowWriter],
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._spec = spec
        self._open_writer = open_writer
        self._say = say
        self._clock = clock
        self._queue: queue.Queue[Any] = queue.Queue()
        self._record = StudyRecord()
        self._dirty: dict[str, float] = {}
        """Trial keys with news, and when they came; those that failed last stand at the end."""
        self._written: dict[str, float] = {}
        """When each trial was last written."""
        self.writer: MlflowWriter | None = None
        self.trouble = ""
        """What the store said when it last failed; empty while all is well."""
        self._refused: dict[str, str] = {}
        """Trials whose records the store will not have, and what it said."""
        self._failures = 0
        """In a row."""
        self._waited = False
        """Whether the user was told that records wait."""
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._tried = threading.Event()
        """Set when the store has been opened, or has refused."""
        self._welcome: Unavailable | None = None
        """Why the store will not have this study at all."""
        self._draining = threading.Event()
        self._deadline: float | None = None
        self._finish: Callable[[MlflowWriter], None] = lambda writer: None
        self._delivered = False
        self._sessions = 0
        """Sessions in the history; nothing is written before one more has opened."""
        self._opened = False

    def start(self, history: Iterable[Event]) -> None:
        """Begin with the events so far; the store is opened at once, and written to from ``opened`` on."""
        for event in history:
            self._apply(event)
        self._sessions = len(self._record.sessions)
        self._thread.start()

    def require_welcome(self, seconds: float) -> None:
        """Wait for the store's first answer, at most so long; a slow one is let pass.

        Raises: Unavailable where it will not have this study: wrong password, or a deleted experiment.
        """
        self._tried.wait(seconds)
        if self._welcome is not None:
            raise self._welcome

    def put(self, event: Event) -> None:
        """Take one event; returns at once."""
        self._queue.put(event)

    def drain(
        self,
        seconds: float,
        finish: Callable[[MlflowWriter], None] = lambda writer: None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Write all that is there, and last what ``finish`` writes; whether everything was delivered.

        Args:
            seconds: to wait at most; what is not written then stays with the ledger.
            finish: called in the thread, again where it fails: it must be an upsert.
            give_up: asked again and again; the wait ends when it says so.
        """
        self._finish = finish
        self._deadline = self._clock() + seconds
        self._queue.put(_STOP)
        self._draining.set()
        last = time.monotonic() + seconds + _GRACE_SECONDS
        while self._thread.is_alive() and time.monotonic() < last and not give_up():
            self._thread.join(_LOOK_SECONDS)
        if self._delivered:
            self.trouble = "; ".join(dict.fromkeys(self._refused.values()))
        else:
            self.trouble = self.trouble or "the store did not answer in time"
            self._deadline = self._clock()
        return not self.trouble

    # -- in the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        stopping = False
        while True:
            try:
                self._write(everything=stopping)
                if stopping and self._queue.empty():
                    if self.writer is not None and self._opened:
                        self._finish(self.writer)
                    self._delivered = True
                    return
                self._recover()
            except _Late:
                self.trouble = self.trouble or "the store was too slow for what was left"
                return
            except Exception as error:  # a store fails in many ways, and none may end the study
                self._fail(error, stopping=stopping)
                if stopping and self._late():
                    return
                # Cut short when the session wants to end.
                self._draining.wait(_FIRST_RETRY_SECONDS if self._failures == 1 else _RETRY_SECONDS)
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

    def _late(self) -> bool:
        return self._deadline is not None and self._clock() > self._deadline

    def _write(self, *, everything: bool) -> None:
        if self.writer is None:
            self.writer = self._open_writer()
            self._tried.set()
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
            if self._late():
                raise _Late
            self._write_trial(self.writer, key)
            self._written[key] = now
            del self._dirty[key]

    def _write_trial(self, writer: MlflowWriter, key: str) -> None:
        try:
            writer.write_trial(self._record, self._record.trials[key])
            self._refused.pop(key, None)
        except Exception as error:
            if getattr(error, "error_code", "") == _REFUSED:
                # To ask again would not help, and the others' records must not wait for it.
                self._refused[key] = _first_line(error)
                return
            # The others come first the next time.
            self._dirty[key] = self._dirty.pop(key)
            raise

    def _fail(self, error: Exception, *, stopping: bool) -> None:
        code = getattr(error, "error_code", "")
        if self.writer is None:
            if isinstance(error, Unavailable):
                self._welcome = error
            elif code in _LOCKED_OUT:
                self._welcome = Unavailable(
                    f"the MLflow server does not let this user in ({_first_line(error)}); nothing was run. "
                    f"It wants MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
                    f"MLFLOW_TRACKING_TOKEN."
                )
            self._tried.set()
        elif code == _GONE:
            # The runs are gone: a server that came back without its records gets them all again.
            self.writer, self._opened = None, False
            self._dirty = dict.fromkeys(self._record.trials, self._clock())
        self.trouble = _first_line(error)
        self._failures += 1
        begun = len(self._record.sessions) > self._sessions
        if begun and not stopping and not self._waited and self._failures > 1:
            self._waited = True
            self._say(
                f"MLflow   does not take records now ({self.trouble}); training goes on, and the records wait"
            )

    def _recover(self) -> None:
        if self.trouble and self._waited:
            self._say("MLflow   takes records again; those that waited have been sent")
        self.trouble, self._failures = "", 0


def _first_line(error: Exception) -> str:
    """What an error says, without secrets, in one line."""
    said = redacted(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {said[0] if said else ''}"[:300]


def make_writer(
    spec: StudySpec,
    study_dir: Path,
    uri: str,
    artifact_root: str | None,
    fetch_trial: Callable[[str], None] = lambda key: None,
) -> Callable[[], MlflowWriter]:
    """What :class:`Tracker` needs to open the store in its thread.

    Args:
        fetch_trial: has the folder of a trial in ``study_dir``, where it is elsewhere.
    """

    def open_writer() -> MlflowWriter:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ.update(_FORCED)
        bare = hand_over_credentials(uri, os.environ)
        from orchestrator.tracking.database import make_database
        from orchestrator.tracking.writer import MlflowWriter

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        # What its store cannot write comes as an exception too, and is told in a line of ours.
        logging.getLogger("mlflow.store.db").setLevel(logging.CRITICAL)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with one_at_a_time(bare):
            make_database(bare)
            writer = MlflowWriter(spec, study_dir, bare, artifact_root, fetch_trial)
        note(study_dir, Whereabouts(bare, writer.experiment_id))
        return writer

    return open_writer
