"""One run of ``orchestrate study`` as a process that is watched, and stopped where that is wanted."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.study import environment

_LOOK_SECONDS = 0.5


@dataclass
class Session:
    """One run of the command."""

    folder: Path
    number: int
    marks: list[tuple[float, int, int]] = field(default_factory=list)
    """(seconds since the epoch, bytes of the driver, bytes of its Ray processes)."""
    began: float = 0.0
    seconds: float = 0.0
    stopping: float = 0.0
    """From the signal to the end."""
    status: int = 0

    def run(self, stop_when: Callable[[], bool] = lambda: False) -> None:
        """Run the study, and stop it once ``stop_when`` says so."""
        words: list[str | Path] = [sys.executable, "-m", "benchmarks.logged", self._spent, "study"]
        words += [self.folder / "study.yaml", "--out", self.folder / "out", "--plain"]
        with (self.folder / f"output{self.number}.txt").open("wb") as output:
            self.began = time.time()
            process = subprocess.Popen(words, stdout=output, stderr=output, env=environment())
            watch = threading.Thread(target=self._watch, args=(process,), daemon=True)
            watch.start()
            told = 0.0
            while process.poll() is None:
                if not told and stop_when():
                    told = time.time()
                    process.send_signal(signal.SIGTERM)
                time.sleep(0.05)
            ended = time.time()
        watch.join()
        self.status, self.seconds = process.returncode, ended - self.began
        self.stopping = ended - told if told else 0.0

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        while process.poll() is None:
            with contextlib.suppress(OSError):
                own = _resident(process.pid)
                self.marks.append((time.time(), own, sum(_descendants(process.pid))))
            time.sleep(_LOOK_SECONDS)

    @property
    def _spent(self) -> Path:
        return self.folder / f"spent{self.number}.json"

    @property
    def spent(self) -> dict[str, float]:
        found: dict[str, float] = json.loads(self._spent.read_text())
        return found


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _descendants(pid: int) -> Iterable[int]:
    """Resident bytes of each process below one."""
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            with contextlib.suppress(OSError):
                yield _resident(int(child))
                yield from _descendants(int(child))
