"""Where an attempt at a trial works: in the study's folder, or in one of its own that is sent to a store.

On a store, what an earlier attempt left is fetched first; the checkpoint is sent while the trial trains,
and all else when it is over, the result last of all: so what has a result is whole. Then the outcome is told.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from orchestrator.execution.storage.cache import working_copy
from orchestrator.execution.storage.prepared import fetch_data
from orchestrator.objects import Objects, Refused, patiently
from workloads.protocols.folder import CHECKPOINT, RESULT

PATIENCE_SECONDS = 300.0
"""A store that does not answer is tried again for so long, at an attempt's begin and end."""
_PUSH_SECONDS = 5.0
"""A checkpoint is sent at most this often,"""
_PUSH_SHARE = 10
"""and not before so many times the seconds have passed that it took to send the last one."""
_SIDE_BY_SIDE = 4
_LOCK = ".lock"


class OutOfReach(OSError):
    """The store did not answer for so long that the attempt is given up."""


class Home:
    """An attempt's folder on a disk that the driver sees."""

    def __init__(self, folder: Path, data_root: Path, notes: Path) -> None:
        self.folder = folder
        self.data_root = data_root
        """Where the prepared data are."""
        self.notes = notes
        """Where the driver looks for what a worker wrote that could no longer speak."""

    def furnish(self) -> None:
        """Fetch what the attempt needs. Raises: Refused; OutOfReach."""

    def reported(self) -> None:
        """An epoch was reported, so a new checkpoint may be there."""

    def hand_over(self) -> None:
        """Send what the attempt has made. Raises: Refused; OutOfReach."""


@dataclass(frozen=True)
class Stored:
    """What a worker needs to know of a store; travels as a plain mapping."""

    uri: str
    study: str
    data: str
    """Name of the folder of the prepared data."""
    sign: str
    """A word that is in the driver's working copy: who can read it there sees the driver's disk."""

    @property
    def trials(self) -> str:
        return f"{self.study}/trials"


SIGN = ".here"


@contextlib.contextmanager
def home_of(request: Mapping[str, Any]) -> Iterator[Home]:
    """The home of the attempt that is asked for; what is not to be kept of it is gone afterwards."""
    folder, data_root = Path(request["folder"]), Path(request["data_root"])
    if "store" not in request:
        yield Home(folder, data_root, folder)
        return
    stored = Stored(**request["store"])
    scratches = working_copy(stored.uri) / "scratch"
    _tidy(scratches)
    scratch = scratches / uuid.uuid4().hex
    scratch.mkdir(parents=True)
    with FileLock(scratch / _LOCK):
        objects = Objects(stored.uri)
        home = StoredHome(objects, stored, scratch, folder, data_root, patience=PATIENCE_SECONDS)
        try:
            yield home
        finally:
            home.close()
            shutil.rmtree(scratch, ignore_errors=True)


class StoredHome(Home):
    """A folder on the worker's own disk for an attempt, and the trial's place on the store.

    Args:
        scratch: empty, of this attempt alone.
        folder: where the driver would look for the trial on its own disk.
        data_root: the driver's.
        patience: seconds for which a store that does not answer is tried, at the begin and at the end.
    """

    def __init__(
        self,
        objects: Objects,
        stored: Stored,
        scratch: Path,
        folder: Path,
        data_root: Path,
        *,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = objects
        self._stored = stored
        self._place = f"{stored.trials}/{folder.name}"
        self._at_driver = folder
        self._sees_driver = _is_signed(folder.parents[1] / SIGN, stored.sign)
        own = scratch / folder.name
        root = data_root if self._sees_driver else scratch.parents[1] / "data"
        super().__init__(own, root, folder if self._sees_driver else own)
        self._patience = patience
        self._clock = clock
        self._there: dict[str, tuple[int, int]] = {}
        """What the store holds of the trial, as it is in the folder: size and time of change, by name."""
        self._names: set[str] = set()
        """All that the store holds of the trial."""
        self._pushing: threading.Thread | None = None
        self._next = clock()

    def furnish(self) -> None:
        self._insist(self._fetch)

    def reported(self) -> None:
        busy = self._pushing is not None and self._pushing.is_alive()
        if (
            busy
            or self._clock() < self._next
            or self._state(CHECKPOINT) in (None, self._there.get(CHECKPOINT))
        ):
            return
        self._pushing = threading.Thread(target=self._push_checkpoint, name="checkpoint", daemon=True)
        self._pushing.start()

    def hand_over(self) -> None:
        if self._pushing is not None:
            self._pushing.join()
        self._insist(self._send)
        if self._sees_driver:
            # What the driver reads of it need not come from the store.
            shutil.rmtree(self._at_driver, ignore_errors=True)
            self._at_driver.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(self.folder, self._at_driver)

    def close(self) -> None:
        """Nothing more is sent. A checkpoint that is on its way may still arrive: it does no harm."""
        self._next = float("inf")

    # -- from the store -------------------------------------------------------------------------------

    def _fetch(self) -> None:
        fetch_data(self._objects, self._stored.data, self.data_root)
        names = set(self._objects.listed(self._place))
        # Outputs without a result are measured again, so they need not come.
        wanted = names if RESULT in names else names & {CHECKPOINT}
        _side_by_side(lambda n: self._objects.fetch(f"{self._place}/{n}", self.folder / n), wanted)
        self._names = names
        self._there = {name: state for name in wanted if (state := self._state(name))}

    # -- to the store ---------------------------------------------------------------------------------

    def _push_checkpoint(self) -> None:
        began = self._clock()
        # What a wait cannot mend is said at the end: training goes on.
        with contextlib.suppress(OSError):
            self._put(CHECKPOINT)
        now = self._clock()
        self._next = max(self._next, now + max(_PUSH_SECONDS, _PUSH_SHARE * (now - began)))

    def _send(self) -> None:
        files = (file for file in self.folder.rglob("[!.]*") if file.is_file())
        here = {file.relative_to(self.folder).as_posix() for file in files}
        new = {name for name in here if self._state(name) != self._there.get(name)}
        if RESULT in new and RESULT in self._names:
            # It would vouch for what is about to change.
            self._objects.delete(f"{self._place}/{RESULT}")
            self._names.discard(RESULT)
        _side_by_side(self._put, new - {RESULT})
        if RESULT in new:
            self._put(RESULT)
        for name in self._names - here:
            with contextlib.suppress(OSError):
                self._objects.delete(f"{self._place}/{name}")

    def _put(self, name: str) -> None:
        state = self._state(name)
        self._objects.put(f"{self._place}/{name}", self.folder / name)
        self._names.add(name)
        if state:
            self._there[name] = state

    def _state(self, name: str) -> tuple[int, int] | None:
        try:
            found = (self.folder / name).stat()
        except OSError:
            return None
        return found.st_size, found.st_mtime_ns

    def _insist(self, action: Callable[[], None]) -> None:
        try:
            patiently(action, self._patience)
        except Refused:
            raise
        except FileNotFoundError as error:
            raise Refused(f"{self._objects.place}: what a trial needs is not there: {error}") from error
        except OSError as error:
            raise OutOfReach(f"{error}; it was tried for {self._patience:g} s") from error


def _side_by_side(action: Callable[[str], object], names: Iterable[str]) -> None:
    wanted = list(names)
    if wanted:
        with ThreadPoolExecutor(min(_SIDE_BY_SIDE, len(wanted))) as pool:
            list(pool.map(action, wanted))


def _is_signed(path: Path, sign: str) -> bool:
    try:
        return path.read_text() == sign
    except OSError:
        return False


def _tidy(scratches: Path) -> None:
    """Remove what killed workers of this machine left."""
    for scratch in scratches.glob("*"):
        lock = FileLock(scratch / _LOCK)
        # One that is just being made has no lock file yet.
        with contextlib.suppress(Timeout, OSError):
            if (scratch / _LOCK).exists():
                lock.acquire(timeout=0)
                shutil.rmtree(scratch, ignore_errors=True)
                lock.release()
