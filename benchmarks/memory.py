"""Memory of trials that run side by side, beyond what a Python with torch takes (Linux)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INTERVAL_SECONDS = 0.25
_WORKER = b"ray::"
_IDLE = "import torch; print(flush=True); input()"


@dataclass(frozen=True)
class Peak:
    """Bytes, over all trials together."""

    resident: int
    """Sum of the workers' own peaks of resident memory; pages that they share are counted in each."""
    proportional: int
    """Largest sum at one time, shared pages divided among those that share them."""
    idle_resident: int
    """Of as many Pythons that have imported torch and do nothing else, counted as ``resident``."""
    idle_proportional: int
    """Of the same, counted as ``proportional``."""
    workers: int

    @property
    def beyond(self) -> int:
        """Resident memory of all workers beyond the idle Pythons."""
        return self.resident - self.idle_resident

    @property
    def proportional_beyond(self) -> int:
        """The same, shared pages once: by how much the trials fill the machine."""
        return self.proportional - self.idle_proportional


def idle(count: int) -> tuple[int, int]:
    """Resident and proportional bytes of so many Pythons, alive at once, that have imported torch."""
    pipe = subprocess.PIPE
    words = [sys.executable, "-c", _IDLE]
    with contextlib.ExitStack() as stack:
        pythons = [
            stack.enter_context(subprocess.Popen(words, stdin=pipe, stdout=pipe)) for _ in range(count)
        ]
        for python in pythons:
            assert python.stdout is not None
            python.stdout.readline()
        resident = sum(_fields(Path(f"/proc/{python.pid}/status"))["VmHWM"] for python in pythons)
        proportional = sum(_fields(Path(f"/proc/{python.pid}/smaps_rollup"))["Pss"] for python in pythons)
        for python in pythons:
            python.kill()
    return resident, proportional


class Watch:
    """Watches the Ray workers among this process's descendants while it is open."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._peaks: dict[int, int] = defaultdict(int)
        self._together = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def peak(self) -> Peak:
        """Of the largest workers, as many as trials run side by side; Ray keeps others in store."""
        largest = sorted(self._peaks.values())[-self.workers :]
        return Peak(sum(largest), self._together, *idle(self.workers), len(largest))

    def _look_on(self) -> None:
        while not self._closing.wait(INTERVAL_SECONDS):
            shares = []
            for process in _descendants():
                status = _fields(process / "status")
                rollup = _fields(process / "smaps_rollup")
                if "VmHWM" in status:
                    pid = int(process.name)
                    self._peaks[pid] = max(self._peaks[pid], status["VmHWM"])
                    shares.append(rollup.get("Pss", 0))
            self._together = max(self._together, sum(sorted(shares)[-self.workers :]))


def _descendants() -> list[Path]:
    """Ray's workers below this process."""
    parents: dict[int, int] = {}
    titles: dict[int, bytes] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                titles[int(folder.name)] = (folder / "cmdline").read_bytes()
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    own = _own_pid()

    def ours(pid: int) -> bool:
        while pid in parents and pid != own:
            pid = parents[pid]
        return pid == own

    return [
        Path("/proc") / str(pid) for pid, title in titles.items() if title.startswith(_WORKER) and ours(pid)
    ]


def _own_pid() -> int:
    return int(Path("/proc/self").resolve().name)


def _fields(path: Path) -> Mapping[str, int]:
    """Lines ``Name: 12 kB`` in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {w[0].rstrip(":"): int(w[1]) * 1024 for w in words if len(w) == 3 and w[2] == "kB"}
