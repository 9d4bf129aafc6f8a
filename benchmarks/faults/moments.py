"""When a study is disturbed: at random, and at moments where something is half done."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults.command import Command
from orchestrator.campaign.ledger import read_events

_LOOK_SECONDS = 0.002
UNIFORM = "uniform"


@dataclass(frozen=True)
class Course:
    """How the undisturbed run went, in seconds from its start."""

    seconds: float
    up: float
    """Ray is up: the first line of the ledger."""
    closed: float
    """The last line of the ledger."""
    lines: int
    """Of the ledger."""
    confirms: int
    trials: int


@dataclass(frozen=True)
class Moment:
    aim: str
    count: int = 1
    """How often what it aims at must have been seen; 0: it aims at a time."""
    delay: float = 0.0
    """Seconds to wait then; of a time, since the start of the command."""

    def reached(self, command: Command, study_dir: Path) -> bool:
        """Wait for it; whether it came before the command ended."""
        if self.count:
            see = SIGHTS[self.aim](study_dir)
            seen = 0
            while seen < self.count:
                if command.ended:
                    return False
                seen += see()
                time.sleep(_LOOK_SECONDS)
        since = time.monotonic() if self.count else command.began
        while time.monotonic() < since + self.delay:
            if command.ended:
                return False
            time.sleep(_LOOK_SECONDS)
        return not command.ended


def order(dice: random.Random, *, needs_ray: bool) -> list[str]:
    """The aims of a kind, in the order of its cases.

    Args:
        needs_ray: only those at which Ray is up.
    """
    return [aim for aim in dice.sample(list(AIMS), len(AIMS)) if not (needs_ray and aim in _WITHOUT_RAY)]


def draw(number: int, aims: Sequence[str], course: Course, dice: random.Random, *, needs_ray: bool) -> Moment:
    """The moment of a case: every other one is aimed.

    Args:
        number: of the case, from 0.
        needs_ray: only while Ray is up.
    """
    if number % 2 == 0:
        first, last = (course.up, course.closed) if needs_ray else (0.0, course.seconds)
        return Moment(UNIFORM, 0, dice.uniform(first, last))
    return AIMS[aims[number // 2 % len(aims)]](course, dice)


AIMS: dict[str, Callable[[Course, random.Random], Moment]] = {
    "start-up": lambda course, dice: Moment("start-up", 0, dice.uniform(0.0, course.up)),
    "report": lambda course, dice: Moment("report", 1, dice.uniform(0.0, 0.5)),
    "checkpoint": lambda course, dice: Moment("checkpoint", dice.randint(1, course.trials)),
    "drain": lambda course, dice: Moment("drain", 1, dice.uniform(0.0, course.seconds - course.closed)),
    "result": lambda course, dice: Moment("result", dice.randint(1, max(1, course.trials // 2))),
    "ledger": lambda course, dice: Moment("ledger", dice.randint(1, max(1, course.lines // 3))),
    "outputs": lambda course, dice: Moment("outputs", dice.randint(1, course.confirms)),
    "confirm": lambda course, dice: Moment("confirm", dice.randint(1, course.confirms), dice.uniform(0, 1)),
}
_WITHOUT_RAY = ("start-up", "report", "drain")


# -- what is looked at: each call says how often it was newly seen --------------------------------------


def _draft(pattern: str) -> Callable[[Path], Callable[[], int]]:
    """A file that is being written: it has a hidden name until it is whole."""

    def sight(study_dir: Path) -> Callable[[], int]:
        known: set[Path] = set()

        def look() -> int:
            fresh = set(study_dir.glob(pattern)) - known
            known.update(fresh)
            return len(fresh)

        return look

    return sight


def _growth(study_dir: Path) -> Callable[[], int]:
    """The ledger is longer than it was."""
    path, size = study_dir / "ledger.jsonl", 0

    def look() -> int:
        nonlocal size
        now = path.stat().st_size if path.exists() else 0
        grown, size = now > size, now
        return int(grown)

    return look


def _event(wanted: Callable[[dict[str, object]], bool]) -> Callable[[Path], Callable[[], int]]:
    """Events of a kind in the ledger."""

    def sight(study_dir: Path) -> Callable[[], int]:
        grown, known = _growth(study_dir), 0

        def look() -> int:
            nonlocal known
            if not grown():
                return 0
            now = sum(wanted(event) for event in read_events(study_dir / "ledger.jsonl"))
            fresh, known = now - known, now
            return fresh

        return look

    return sight


def _begun(folder: str) -> Callable[[Path], Callable[[], int]]:
    def sight(study_dir: Path) -> Callable[[], int]:
        return lambda: int(any((study_dir / folder).glob("*")))

    return sight


SIGHTS: dict[str, Callable[[Path], Callable[[], int]]] = {
    "checkpoint": _draft("trials/*/.checkpoint.pt.*"),
    "result": _draft("trials/*/.result.json.*"),
    "outputs": _draft("trials/*/outputs/.*"),
    "ledger": _growth,
    "confirm": _event(lambda event: event["event"] == "started" and event["stage"] == "confirm"),
    "report": _begun("report"),
    "drain": _event(lambda event: event["event"] == "closed"),
}
