"""An attempt that takes too long is ended: by its own worker, and where that cannot, by the driver."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.execution import limit
from orchestrator.execution.limit import Watch

ATTEMPTS = """\
import json, os, signal, sys, time
from pathlib import Path
from orchestrator.execution.limit import Alarm

def hang_in_the_loss():
    while True:
        pass

def wait_for_the_driver(alarm):
    with alarm.paused():
        time.sleep(0.6)

def hangs(alarm):
    with alarm:
        hang_in_the_loss()

def hangs_after_waiting(alarm):
    with alarm:
        wait_for_the_driver(alarm)
        hang_in_the_loss()

def waits(alarm):
    with alarm:
        wait_for_the_driver(alarm)

def stopped_while_waiting(alarm):
    try:
        with alarm:
            with alarm.paused():
                raise SystemExit(0)
    except SystemExit:
        time.sleep(0.6)

def ends_and_the_worker_lives_on(alarm):
    with alarm:
        pass
    time.sleep(0.6)

statuses = {}
for attempt in (hangs, hangs_after_waiting, waits, stopped_while_waiting, ends_and_the_worker_lives_on):
    child = os.fork()
    if child == 0:
        # Whatever is wrong with the alarm, nothing is left behind.
        signal.alarm(20)
        attempt(Alarm(Path(sys.argv[1]) / attempt.__name__ / "timeout-1.txt", 0.3))
        os._exit(0)
    statuses[attempt.__name__] = child
print(json.dumps({name: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for name, pid in statuses.items()}))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, int], Path]:
    """Exit statuses of processes with a limit of 0.3 s, and the folder that they wrote to."""
    folder = tmp_path_factory.mktemp("attempts")
    done = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, folder], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), folder


def test_what_hangs_is_ended_and_says_where_it_stood(ended: tuple[dict[str, int], Path]) -> None:
    statuses, folder = ended
    for name in ("hangs", "hangs_after_waiting"):
        assert statuses[name] == 1
        assert "in hang_in_the_loss" in (folder / name / "timeout-1.txt").read_text()


def test_waiting_for_the_driver_and_life_after_the_trial_do_not_count(
    ended: tuple[dict[str, int], Path],
) -> None:
    statuses, folder = ended
    for name in ("waits", "stopped_while_waiting", "ends_and_the_worker_lives_on"):
        assert statuses[name] == 0
        assert not list((folder / name).iterdir())


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class RayTrial:
    """What the watch looks at."""

    def __init__(self, name: str) -> None:
        self.trial_id = name
        self.temporary_state = SimpleNamespace(ray_actor=f"actor of {name}")


def test_the_pieces_of_work_between_reports_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    armed: list[float] = []
    monkeypatch.setattr(limit, "time", SimpleNamespace(monotonic=clock))
    watchdog = SimpleNamespace(
        dump_traceback_later=lambda seconds, **_: armed.append(round(seconds, 6)),
        cancel_dump_traceback_later=lambda: None,
    )
    monkeypatch.setattr(limit, "faulthandler", watchdog)
    with limit.Alarm(tmp_path / "timeout-1.txt", 10.0) as alarm:
        for worked in (4.0, 3.0, 5.0):
            clock.now += worked
            with alarm.paused():
                clock.now += 100.0
    # After 12 s of 10 it goes off as soon as it can.
    assert armed == [10.0, 6.0, 3.0, 0.01]


class Story:
    """A watch over made-up Ray trials, with a clock of its own."""

    def __init__(self, seconds: float | None) -> None:
        self.clock = Clock()
        self.killed: list[Any] = []
        self.told: list[str] = []
        self.watch = Watch(seconds, self.told.append, self.clock, self.killed.append)

    def start(self, name: str) -> RayTrial:
        trial = RayTrial(name)
        self.watch.on_trial_start(0, [], trial)
        return trial

    def work(self, seconds: float, step: float = 1.0) -> None:
        for _ in range(round(seconds / step)):
            self.clock.now += step
            self.watch.on_step_begin(0, [])


def test_a_worker_that_cannot_end_itself_is_killed_once_after_the_grace() -> None:
    story = Story(100.0)
    story.start("one")
    # 100 s, a tenth of it and 15 s.
    story.work(125)
    assert story.killed == []
    story.work(1)
    assert story.killed == ["actor of one"]
    story.work(200)
    assert story.killed == ["actor of one"]


def test_each_trial_has_its_own_time_and_none_once_it_is_over() -> None:
    story = Story(100.0)
    early, failed = story.start("early"), story.start("failed")
    story.work(100)
    story.start("late")
    story.watch.on_trial_complete(0, [], early)
    story.watch.on_trial_error(0, [], failed)
    story.work(125)
    assert story.killed == []
    story.work(1)
    assert story.killed == ["actor of late"]
    assert story.told == ["early", "failed", "late"]


def test_a_driver_that_stood_still_does_not_hold_it_against_its_trials() -> None:
    story = Story(100.0)
    story.start("one")
    story.work(50)
    story.clock.now += 3600
    story.work(60)
    assert story.killed == []
    story.work(10)
    assert story.killed == ["actor of one"]


def test_without_a_limit_nobody_is_killed_but_beginnings_are_told() -> None:
    story = Story(None)
    story.start("one")
    story.work(100_000, step=1000)
    assert story.killed == []
    assert story.told == ["one"]


def test_a_ray_that_does_not_name_the_worker_kills_nobody() -> None:
    story = Story(1.0)
    story.start("one").temporary_state.ray_actor = None
    story.work(100)
    assert story.killed == []
