"""Whether the Ray cluster under a study still lives, and the end of what is left of a dead local one.

Ray itself notices late or not at all: without its raylet a study goes on until it needs a new worker and then
waits for ever; without its GCS server the core ends the process after a minute, in the middle of whatever it
does. Everything that a study needs is in its ledger, so the driver need not be unwound.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from orchestrator.errors import OrchestrateError

_NEEDED = {"gcs_server": "GCS server", "raylet": "raylet"}
"""Without these a cluster is dead; by their names in Ray, and for the user."""
_LOOK_SECONDS = 0.5
_KNOCK_SECONDS = 5.0
_SILENT_SECONDS = 40.0
"""For a head that is started anew by its own cluster; Ray's core gives up after 60."""


class Lifeline:
    """Looks after a cluster from a thread of its own, and says once when it has died.

    Args:
        ailment: why the cluster is dead, or an empty text.
        lost: called with that reason, in the thread; it need not return.
    """

    def __init__(
        self, ailment: Callable[[], str], lost: Callable[[str], None], seconds: float = _LOOK_SECONDS
    ) -> None:
        self._ailment = ailment
        self._lost = lost
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lifeline", daemon=True)

    def __enter__(self) -> Lifeline:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """From here on the cluster may end: it is shut down."""
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(self._seconds):
            reason = self._ailment()
            if reason and not self._ended.is_set():
                return self._lost(reason)


def local_ailment(processes: Mapping[str, Iterable[Any]]) -> str:
    """What has ended of a local cluster that cannot live without it; empty where all is well.

    Asking also reaps it, which its workers wait for: they take an unreaped raylet for a living one.

    Args:
        processes: by Ray's name, as its node keeps them; each holds a ``process``.
    """
    for name, word in _NEEDED.items():
        for each in processes.get(name, ()):
            status = each.process.poll()
            if status is not None:
                return f"its {word} has ended ({_how(status)})"
    return ""


def _how(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def bury(processes: Mapping[str, Iterable[Any]]) -> None:
    """End every process of a local cluster, its workers too: none may write where the next one writes."""
    own = [each.process for several in processes.values() for each in several]
    raylets = {each.process.pid for each in processes.get("raylet", ())}
    for process in own:
        with contextlib.suppress(OSError):
            process.kill()
    _kill(workers_of(raylets))
    for process in own:
        with contextlib.suppress(subprocess.TimeoutExpired, OSError):
            process.wait(timeout=5)


def workers_of(raylets: Iterable[int], proc: Path = Path("/proc")) -> Iterator[int]:
    """Processes that a raylet of this user started, whoever their parent is now; none without ``/proc``."""
    marks = [f"RAY_RAYLET_PID={pid}".encode() for pid in raylets]
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_bytes().split(b"\0")
            if any(mark in variables for mark in marks):
                yield int(folder.name)


def own_children(name: str = "", proc: Path = Path("/proc")) -> set[int]:
    """Processes that this one started, of one name, or all; none without ``/proc``."""
    found = set()
    for folder in proc.glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            # "pid (name) state parent ...", and a name may hold spaces.
            named, _, rest = (folder / "stat").read_text().rpartition(")")
            if int(rest.split()[1]) == os.getpid() and (not name or named.endswith(f"({name}")):
                found.add(int(folder.name))
    return found


def own_raylets() -> set[int]:
    """Of the local cluster that this process runs, or is about to."""
    return own_children("raylet")


def end_leftovers(raylets: set[int]) -> None:
    """End raylets and what they started, after Ray's own shutdown.

    Two of Ray's agents tell the GCS server that their raylet has ended, and wait a minute for it where it has
    ended too.
    """
    _kill(raylets & own_raylets())
    _kill(workers_of(raylets))


def end_children() -> None:
    """End every process of a local cluster without Ray: this process is about to leave."""
    raylets = own_raylets()
    _kill(own_children())
    _kill(workers_of(raylets))


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


class Knock:
    """Whether something still listens at the address of a cluster that others run.

    Args:
        address: ``host:port``.
        silent_seconds: a head that is away for a shorter time is waited for.
    """

    def __init__(
        self,
        address: str,
        silent_seconds: float = _SILENT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._most = silent_seconds
        self._clock = clock
        self._heard = clock()

    def ailment(self) -> str:
        """Why the cluster is taken for dead; empty while it is not."""
        host, _, port = self._address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()
        except OSError as error:
            away = self._clock() - self._heard
            if away > self._most:
                why = error.strerror or error
                return f"its head at {self._address} has not answered for {away:.0f} s ({why})"
        else:
            self._heard = self._clock()
        return ""


def leave(error: OrchestrateError) -> NoReturn:
    """End the process with an error's words and status, from whichever thread."""
    sys.stdout.flush()
    print(error, file=sys.stderr, flush=True)
    os._exit(error.exit_code)


def fruitless_sessions(events: Iterable[Mapping[str, Any]]) -> int:
    """Sessions in a row at the end of a ledger, the running one among them, that brought nothing forward."""
    count = 0
    for event in events:
        if event["event"] == "opened":
            count += 1
        elif event["event"] in ("reported", "finished"):
            count = 0
    return count
