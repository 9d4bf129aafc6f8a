"""One case: a study is started, disturbed once, run again until it ends, and then compared."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.faults.command import Command, require_going, send
from benchmarks.faults.comparison import Ended, differences, read_ended, trained_again
from benchmarks.faults.kinds import KINDS, Kind
from benchmarks.faults.moments import Course, draw, order

MOST_RUNS = 3
_TARGET_SECONDS = 0.02
_LEFT_SECONDS = 90.0
"""Ray's agents that find their raylet dead still try to reach its GCS server, for a minute at most."""
_SIGNAL = "*** SIG"
_TRACES = ("Traceback (most recent call last)", _SIGNAL, "Stack trace", "Check failed")
"""What a user should not have to read."""
_UP = "Ray is up"


@dataclass(frozen=True)
class Case:
    kind: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.number}"


@dataclass
class Result:
    """What came of a case."""

    kind: str
    number: int
    aim: str
    struck: bool = False
    """Whether there was something to strike; where not, the case says nothing."""
    at: float = 0.0
    """Seconds from the start of the command to the fault."""
    seconds: float = 0.0
    """From the fault to the end of the disturbed run."""
    status: int = 0
    """Of the disturbed run."""
    said: str = ""
    """The last line that the disturbed run printed."""
    runs: int = 1
    """Until the study had ended."""
    trained_again: int = 0
    """Finished trials that were trained again."""
    findings: list[str] = field(default_factory=list)
    """What was not as it should be; empty: all well."""

    @property
    def same(self) -> bool:
        return not any("differs" in finding for finding in self.findings)


@dataclass(frozen=True)
class Bench:
    """What all cases have in common."""

    study: Path
    name: str
    """Of the study."""
    seed: int
    course: Course
    wanted: Callable[[], Ended]
    """The undisturbed study."""
    patience: float
    """Seconds without a line in the ledger after which a run is said to be stuck."""

    @property
    def limit(self) -> float:
        """Seconds after which any run is said to be stuck."""
        return 10 * self.course.seconds + 120


def run_case(case: Case, bench: Bench, folder: Path) -> Result:
    """Run a case in ``folder``, which must not be there yet.

    Raises: Over where it was cut off.
    """
    folder.mkdir(parents=True)
    home = folder / "out" / bench.name
    kind, dice = KINDS[case.kind], random.Random(f"{bench.seed}/{case.name}")
    aims = order(random.Random(f"{bench.seed}/{case.kind}"), needs_ray=kind.needs_ray)
    moment = draw(case.number, aims, bench.course, dice, needs_ray=kind.needs_ray)
    result = Result(case.kind, case.number, moment.aim)
    commands = [Command(bench.study, folder / "out", folder / "run1.txt")]
    try:
        first = commands[0]
        before: Mapping[str, int] = {}
        if moment.reached(first, home):
            before = _results(home)
            result.struck = _strike(first, kind, dice)
            result.at = time.monotonic() - first.began
        _see_it_end(first, kind, home, bench, result)
        while commands[-1].process.returncode != 0 and result.runs < MOST_RUNS:
            result.runs += 1
            commands.append(Command(bench.study, folder / "out", folder / f"run{result.runs}.txt"))
            _finish(commands[-1], home, bench, result)
        left = [line for command in commands for line in command.left_behind(_LEFT_SECONDS)]
        result.findings += [f"left behind: {line}" for line in left]
        after = _results(home)
        again = [key for key in before if after.get(key) != before[key]]
        result.findings += [f"the result of trial {key} was written again" for key in again]
        _compare(result, bench, folder / "out")
        require_going()
    finally:
        for command in commands:
            command.kill()
    return result


def _strike(command: Command, kind: Kind, dice: random.Random) -> bool:
    """Signal whom the kind chooses, as soon as somebody is there; whether there was anybody."""
    while not command.ended:
        if targets := kind.choose(command.process.pid, command.processes(), dice):
            signalled = [send(pid, kind.number) for pid in targets]
            return any(signalled)
        time.sleep(_TARGET_SECONDS)
    return False


def _see_it_end(command: Command, kind: Kind, home: Path, bench: Bench, result: Result) -> None:
    """What becomes of the run that was disturbed."""
    struck = time.monotonic()
    if not command.wait(bench.limit, _no_progress(home, bench.patience)):
        result.findings.append(f"the disturbed run is stuck after {command.last_line()!r}")
        command.kill()
    elif result.struck:
        result.seconds = time.monotonic() - struck
        result.status = command.process.returncode
        result.findings += verdicts(kind, result, command.said())
    result.said = command.last_line()


def _finish(command: Command, home: Path, bench: Bench, result: Result) -> None:
    """A run that should bring the study to its end."""
    if not command.wait(bench.limit, _no_progress(home, bench.patience)):
        result.findings.append(f"run {result.runs} is stuck after {command.last_line()!r}")
        command.kill()
    elif (status := command.process.returncode) != 0:
        result.findings.append(f"run {result.runs} ended with {status}: {command.last_line()!r}")


def verdicts(kind: Kind, result: Result, said: str) -> list[str]:
    """What is wrong with how the disturbed run ended."""
    found = []
    if result.status not in kind.statuses:
        found.append(f"the disturbed run ended with {result.status}, not one of {sorted(kind.statuses)}")
    if kind.most_seconds is not None and result.seconds > kind.most_seconds:
        found.append(
            f"the disturbed run took {result.seconds:.1f} s to end, more than {kind.most_seconds:g} s"
        )
    # While it starts, Ray's core has a handler of its own for a moment, which nobody can keep it from.
    traces = [trace for trace in _TRACES if _UP in said or trace != _SIGNAL]
    if result.status > 0:
        found += [f"the disturbed run printed {trace!r}" for trace in traces if trace in said]
    return found


def _no_progress(home: Path, patience: float) -> Callable[[], bool]:
    """Whether the ledger has not grown for so long."""
    path = home / "ledger.jsonl"
    size, since = -1, time.monotonic()

    def stuck() -> bool:
        nonlocal size, since
        now = path.stat().st_size if path.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        return time.monotonic() - since > patience

    return stuck


def _results(home: Path) -> Mapping[str, int]:
    """By trial, when its result was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in home.glob("trials/*/result.json")}


def _compare(result: Result, bench: Bench, out: Path) -> None:
    if not (out / bench.name / "report").exists():
        return
    found = read_ended(out, bench.name)
    result.findings += differences(found, bench.wanted())
    result.trained_again = trained_again(found.events)
    if result.trained_again:
        result.findings.append(f"{result.trained_again} finished trials were trained again")
