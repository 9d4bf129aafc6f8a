"""What is done to a study: which of its processes get which signal, and how it may end then."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

Choose = Callable[[int, Mapping[int, str], random.Random], list[int]]
"""From the driver's process id and all command lines by process id: who is signalled."""


@dataclass(frozen=True)
class Kind:
    choose: Choose
    number: signal.Signals
    statuses: Collection[int]
    """Exit statuses of the disturbed run that are right."""
    most_seconds: float | None = None
    """From the signal to the end of the driver."""
    needs_ray: bool = False
    """Strikes what is there only while Ray is up."""


def _driver(driver: int, lines: Mapping[int, str], dice: random.Random) -> list[int]:
    return [driver]


def _everything(driver: int, lines: Mapping[int, str], dice: random.Random) -> list[int]:
    return list(lines)


def _worker(driver: int, lines: Mapping[int, str], dice: random.Random) -> list[int]:
    found = sorted(pid for pid, line in lines.items() if line.startswith("ray::ImplicitFunc"))
    return dice.sample(found, 1) if found else []


def _named(name: str) -> Choose:
    def choose(driver: int, lines: Mapping[int, str], dice: random.Random) -> list[int]:
        return [pid for pid, line in lines.items() if Path(line.split(" ", 1)[0]).name == name]

    return choose


_KILLED = -signal.SIGKILL
_TOO_EARLY = -signal.SIGTERM
"""The signal came before a line of ours had run."""

KINDS: Mapping[str, Kind] = {
    "driver": Kind(_driver, signal.SIGKILL, {_KILLED}),
    "worker": Kind(_worker, signal.SIGKILL, {0}, needs_ray=True),
    # 2: Ray was still starting, and nothing was run.
    "raylet": Kind(_named("raylet"), signal.SIGKILL, {0, 1, 2}, needs_ray=True),
    "gcs": Kind(_named("gcs_server"), signal.SIGKILL, {0, 1, 2}, needs_ray=True),
    "everything": Kind(_everything, signal.SIGKILL, {_KILLED}),
    "sigterm": Kind(_driver, signal.SIGTERM, {0, 130, _TOO_EARLY}, most_seconds=10.0),
    # What a scheduler does that signals every process of a job.
    "preempt": Kind(_everything, signal.SIGTERM, {0, 1, 130, _TOO_EARLY}, most_seconds=10.0),
}
