"""One run of ``orchestrate study``, and all processes that it starts, wherever they have gone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

_COMMAND = Path(sys.executable).with_name("orchestrate")
_MARK = "ORCHESTRATE_SOAK_MARK"
_LOOK_SECONDS = 0.05
_OVER = threading.Event()
_LIVE: list[Command] = []


class Over(Exception):
    """Nothing is started any more."""


def end_all() -> None:
    """Kill what runs, and start nothing any more: the user wants the soak to stop."""
    _OVER.set()
    for command in list(_LIVE):
        command.kill()


def require_going() -> None:
    """Raises: Over after ``end_all``."""
    if _OVER.is_set():
        raise Over


class Command:
    """A run that is under way.

    Args:
        out: what ``--out`` gets; the terminal's text goes to ``log``.
    Raises: Over after ``end_all``.
    """

    def __init__(self, study: Path, out: Path, log: Path) -> None:
        require_going()
        self._mark = uuid.uuid4().hex
        left_out = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")
        environment = {name: value for name, value in os.environ.items() if name not in left_out}
        self.log = log
        self.began = time.monotonic()
        self.started = time.time()
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [_COMMAND, "study", study, "--out", out, "--plain"],
                env=environment | {_MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        _LIVE.append(self)

    def processes(self) -> dict[int, str]:
        """Command line by process id: every process that this run started, itself among them."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        # A process that has ended and waits to be reaped has no command line any more.
        return {pid: line for pid, line in found.items() if line}

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def last_line(self) -> str:
        lines = [line for line in self.said().splitlines() if line.strip()]
        return lines[-1] if lines else ""

    def wait(self, seconds: float, stuck: Callable[[], bool] = lambda: False) -> bool:
        """Until it has ended; False where it has not in time, or is stuck."""
        deadline = time.monotonic() + seconds
        while not self.ended:
            if time.monotonic() > deadline or stuck():
                return False
            time.sleep(_LOOK_SECONDS)
        return True

    def left_behind(self, seconds: float) -> list[str]:
        """Command lines of what is still there after so many seconds; returns as soon as nothing is."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return [line[:100] for line in left.values()]

    def kill(self) -> None:
        """End every process of this run."""
        for _ in range(3):
            # One that was being started while the first were killed is found the next time.
            for pid in self.processes():
                send(pid, signal.SIGKILL)
        self.process.wait()
        if self in _LIVE:
            _LIVE.remove(self)


def send(pid: int, number: signal.Signals) -> bool:
    """Whether the process was there to be signalled."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
