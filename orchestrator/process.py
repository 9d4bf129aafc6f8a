"""A process that is told from a later one with the same number."""

from __future__ import annotations

import json
import socket
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process of this machine."""

    pid: int
    started: str
    """When, as the system tells it: a number is used again, but not with the same beginning."""
    boot: str
    """Which start of the machine that was."""
    host: str
    """The machine's name."""

    @classmethod
    def of(cls, pid: int) -> Process:
        """Raises: ProcessLookupError where there is none."""
        started = _started(pid)
        if not started:
            raise ProcessLookupError(pid)
        return cls(pid, started, _boot(), socket.gethostname())

    @classmethod
    def read(cls, text: str) -> Process:
        return cls(**json.loads(text))

    def written(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @property
    def is_here(self) -> bool:
        return self.host == socket.gethostname()

    def lives(self) -> bool:
        """Only its own machine can tell."""
        return self.boot == _boot() and _started(self.pid) == self.started


def _started(pid: int) -> str:
    """When a process began, or "" where it is over (also where only its exit status is left)."""
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        except OSError:
            return ""
        # The name, in brackets, may hold anything; after it come the state (3) and the start (22).
        fields = stat.rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    done = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, began = done.stdout.strip().partition(" ")
    return "" if state.startswith("Z") else began.strip()


def _boot() -> str:
    told = Path("/proc/sys/kernel/random/boot_id")
    return told.read_text().strip() if told.exists() else ""
