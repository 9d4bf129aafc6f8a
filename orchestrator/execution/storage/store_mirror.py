"""A study on an object store: its driver works in a copy on its own disk; a thread sends what is new."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from orchestrator.campaign.record import StudyRecord
from orchestrator.errors import Unavailable
from orchestrator.execution.lock import is_locked
from orchestrator.execution.storage.aside import finish_moving, move_aside
from orchestrator.execution.storage.home import SIGN, Stored
from orchestrator.execution.storage.lease import RENEW_SECONDS, Lease, is_held
from orchestrator.execution.storage.mirror import Mirror
from orchestrator.execution.storage.prepared import send_data
from orchestrator.execution.storage.record import StoredRecord
from orchestrator.execution.storage.trials import StoredTrials, side_by_side
from orchestrator.objects import Objects, Refused, patiently
from workloads.protocols.folder import Findings

DRIVERS = "drivers"
_NO_STUDIES = ("data", "submissions")
_PUSH_SECONDS = 3.0
"""The ledger is sent at most this often,"""
_PUSH_SHARE = 10
"""and not before so many times the seconds have passed that it took the last time."""
_RETRY_SECONDS = 5.0
_GREETING_SECONDS = 20.0
"""A store that does not answer at the start is tried again for so long."""
_DELIVERY_SECONDS = 60.0
_GOODBYE_SECONDS = 3.0


class StoreMirror(Mirror):
    """Of a study on a store.

    Args:
        study_dir: the working copy on this machine; whoever holds its ``DriverLock`` may call.
        say: takes a line for the terminal.
    """

    def __init__(
        self,
        objects: Objects,
        study_dir: Path,
        say: Callable[[str], None] = lambda text: print(text, flush=True),
    ) -> None:
        super().__init__(study_dir)
        self._objects = objects
        self._study = study_dir.name
        self._say = say
        self._halt: Callable[[str], None] = lambda text: None
        self._lease = Lease(objects, f"{self._study}/{DRIVERS}", say)
        self._record = StoredRecord(objects, study_dir)
        self._trials = StoredTrials(objects, study_dir)
        self._ledger: Path | None = None
        self._news = threading.Event()
        self._over = threading.Event()
        self._deadline = 0.0
        """For the last of the record, once the session is over."""
        self._ended = ""
        """Why the study cannot go on."""
        self._taken = False
        """Whether another driver has the study now."""
        self._trouble = ""
        self._waited = False
        self._thread = threading.Thread(target=self._work, name="store", daemon=True)

    @property
    def place(self) -> str:
        return f"{self._objects.place}/{self._study}"

    def named(self, text: str) -> str:
        return text.replace(str(self.study_dir.parent), self._objects.place)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        try:
            patiently(self._lease.claim, _GREETING_SECONDS)
            try:
                patiently(self._open, _GREETING_SECONDS)
            except BaseException:
                self._release()
                raise
        except OSError as error:
            raise Unavailable(f"{error}; nothing was run") from error
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._news.set()
            # A store that is out of reach is not waited for: on this machine a dead driver's lease is free.
            leaving = threading.Thread(target=self._release, name="lease", daemon=True)
            leaving.start()
            leaving.join(0.1 if self._trouble or self._thread.is_alive() else _GOODBYE_SECONDS)

    def bring(self) -> None:
        try:
            self.study_dir.parent.mkdir(parents=True, exist_ok=True)
            with self._alone():
                # The driver of this machine has more than the store.
                if not is_locked(self.study_dir):
                    patiently(self._record.pull, _GREETING_SECONDS)
        except OSError as error:
            raise Unavailable(str(error)) from error

    def is_held(self) -> bool:
        try:
            return is_locked(self.study_dir) or is_held(self._objects, f"{self._study}/{DRIVERS}")
        except OSError as error:
            raise Unavailable(str(error)) from error

    def studies(self) -> list[str]:
        try:
            names = self._objects.folders()
        except OSError:
            return []
        return [name for name in names if name not in _NO_STUDIES]

    @contextlib.contextmanager
    def changing_trials(self, keys: Sequence[str]) -> Iterator[None]:
        def fetch(key: str) -> None:
            patiently(lambda: self.fetch_trial(key), _GREETING_SECONDS)

        try:
            side_by_side(fetch, list(keys))
        except OSError as error:
            raise Unavailable(f"{error}; nothing was changed") from error
        self.begin(self.study_dir / "ledger.jsonl", self._say, self._halt)
        try:
            yield
        finally:
            self._trials.send(keys)
            undelivered = self.finish(_DELIVERY_SECONDS)
            if undelivered:
                self._say(undelivered)

    def put_aside(self) -> str | None:
        try:
            name = patiently(lambda: move_aside(self._objects, self._study, skip=DRIVERS), _GREETING_SECONDS)
        except OSError as error:
            raise Unavailable(f"{error}; run the command again to go on with it") from error
        self._record.start_anew()
        return f"{self._objects.place}/{name}"

    def has_trials(self) -> bool:
        return any(name.startswith("trials/") for name in self._record.there)

    def look(self, key: str) -> Findings:
        return self._trials.look(key, self._record.there)

    def send_data(self, folder: Path) -> None:
        try:
            if patiently(lambda: send_data(self._objects, folder), 60):
                self._say(f"the prepared data were sent to {self._objects.place}/data/{folder.name}")
        except OSError as error:
            raise Unavailable(f"the prepared data: {error}; nothing was run") from error

    def request(self, data: Path) -> dict[str, Any]:
        sign = self.study_dir / SIGN
        sign.write_text(uuid.uuid4().hex)
        return {"store": asdict(Stored(self._objects.uri, self._study, data.name, sign.read_text()))}

    def begin(self, ledger: Path, say: Callable[[str], None], halt: Callable[[str], None]) -> None:
        self._say, self._halt, self._ledger = say, halt, ledger
        if self._ended:
            halt(self._ended)
        self._news.set()

    def wrote(self) -> None:
        self._news.set()

    def fetch_trial(self, key: str) -> None:
        self._trials.fetch(key)

    def fetch_reported(self, record: StudyRecord) -> None:
        self._trials.fetch_reported(record)

    def send_report(self) -> None:
        home = self.study_dir / "report"
        files = {file.relative_to(home).as_posix(): file for file in home.rglob("[!.]*") if file.is_file()}
        with contextlib.suppress(OSError):
            side_by_side(lambda n: self._objects.put(f"{self._study}/report/{n}", files[n]), list(files))

    def finish(self, seconds: float) -> str:
        if self._ledger is None or not self._thread.is_alive():
            return ""
        self._deadline = time.monotonic() + seconds
        self._over.set()
        self._news.set()
        self._thread.join(seconds)
        if self._thread.is_alive() or self._trouble:
            return (
                f"{self.place}: NOT all of the record was delivered "
                f"({self._trouble or 'the store is too slow'}); "
                f"it is kept in {self.study_dir}: run the same command again on this machine to deliver it"
            )
        return ""

    # -- at the start ---------------------------------------------------------------------------------

    def _open(self) -> None:
        finish_moving(self._objects, self._study, skip=DRIVERS)
        with self._alone():
            self._record.pull()

    def _alone(self) -> FileLock:
        """Commands that read bring the copy up to date, too."""
        return FileLock(self.study_dir.parent / f".{self._study}.lock")

    # -- in the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        renew, push = time.monotonic() + RENEW_SECONDS, 0.0
        while not self._over.is_set():
            now = time.monotonic()
            if now >= renew:
                renew = now + (RENEW_SECONDS if self._guarded(self._renew) else _RETRY_SECONDS)
            elif self._news.is_set() and now >= push and self._ledger is not None:
                self._news.clear()
                sent = self._guarded(self._push)
                took = time.monotonic() - now
                push = now + (max(_PUSH_SECONDS, _PUSH_SHARE * took) if sent else _RETRY_SECONDS)
                if not sent:
                    self._news.set()
            elif self._news.is_set() and self._ledger is not None:
                self._over.wait(min(push, renew) - now)
            else:
                self._news.wait(renew - now)
        while not self._taken and self._ledger is not None and not self._guarded(self._push):
            if time.monotonic() > self._deadline:
                return
            time.sleep(0.5)

    def _guarded(self, action: Callable[[], None]) -> bool:
        """Whether the store did it; what it says otherwise is told."""
        try:
            action()
        except Refused as error:
            self._trouble = str(error)
            self._end(str(error))
            return False
        except OSError as error:
            self._trouble = str(error)
            if not self._waited and self._ledger is not None:
                self._say(f"Store    {error}; training goes on, and the record waits")
                self._waited = True
            return False
        if self._waited:
            self._say("Store    takes the record again; what waited has been sent")
        self._trouble, self._waited = "", False
        return True

    def _renew(self) -> None:
        other = self._lease.renew()
        if other:
            self._taken = True
            self._end(f"{self.place}: another driver ({other}) works on this study now")
            self._over.set()

    def _end(self, reason: str) -> None:
        self._ended = reason
        self._halt(reason)

    def _push(self) -> None:
        if self._ledger is not None:
            self._record.push(self._ledger)

    def _release(self) -> None:
        # The lease ends by itself where the store cannot be told.
        with contextlib.suppress(OSError):
            self._lease.release()
