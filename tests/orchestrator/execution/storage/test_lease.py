"""One driver a study: who is refused, who is waited for, who is taken for dead."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import StudyLocked
from orchestrator.execution.storage.lease import LIFE_SECONDS, Lease, is_held
from orchestrator.process import Process
from tests.orchestrator.execution.storage.objects import FolderStore

HERE = Process.of(os.getpid())
ELSEWHERE = dataclasses.replace(HERE, pid=7, host="far-away", boot="another")


class Hands:
    """A clock whose pauses pass at once."""

    now = 0.0

    def __init__(self) -> None:
        self.said: list[str] = []

    def clock(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def age(file: Path, seconds: float) -> None:
    then = file.stat().st_mtime - seconds
    os.utime(file, (then, then))


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


@pytest.fixture
def hands() -> Hands:
    return Hands()


def lease(store: FolderStore, hands: Hands, process: Process) -> Lease:
    return Lease(store, "s/drivers", hands.said.append, process=process, clock=hands.clock, pause=hands.pause)


def objects(store: FolderStore) -> list[Path]:
    return sorted(store.folder.glob("s/drivers/*"))


def living() -> Process:
    """Another process of this machine, which outlives the test."""
    return Process.of(os.getppid())


def dead() -> Process:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = Process.of(child.pid)
    child.communicate(b"\n")
    return found


def test_a_second_driver_of_this_machine_is_refused_at_once_and_leaves_nothing(
    store: FolderStore, hands: Hands
) -> None:
    first = lease(store, hands, living())
    first.claim()
    with pytest.raises(StudyLocked, match=rf"store/s: another driver works .*process {living().pid} on"):
        lease(store, hands, HERE).claim()
    assert hands.now == 0
    assert len(objects(store)) == 1
    assert first.renew() == ""
    first.release()
    lease(store, hands, HERE).claim()


def test_the_lease_of_a_dead_driver_of_this_machine_is_free_at_once(store: FolderStore, hands: Hands) -> None:
    lease(store, hands, dead()).claim()
    mine = lease(store, hands, HERE)
    mine.claim()
    assert hands.now == 0
    assert len(objects(store)) == 1
    assert mine.renew() == ""


def test_a_driver_that_begins_anew_in_its_own_process_takes_its_lease_over(
    store: FolderStore, hands: Hands
) -> None:
    lease(store, hands, HERE).claim()
    lease(store, hands, HERE).claim()
    assert len(objects(store)) == 1


def test_a_silent_driver_of_another_machine_is_waited_for_and_then_taken_for_dead(
    store: FolderStore, hands: Hands
) -> None:
    lease(store, hands, ELSEWHERE).claim()
    age(objects(store)[0], 15)
    lease(store, hands, HERE).claim()
    assert LIFE_SECONDS - 16 <= hands.now <= LIFE_SECONDS - 10
    assert len(objects(store)) == 1
    assert hands.said == [
        "process 7 on far-away worked on this study a short while ago; it is taken for dead if it says "
        "nothing for 45 s more"
    ]


def test_an_old_lease_is_not_waited_for(store: FolderStore, hands: Hands) -> None:
    lease(store, hands, ELSEWHERE).claim()
    age(objects(store)[0], LIFE_SECONDS + 1)
    lease(store, hands, HERE).claim()
    assert (hands.now, hands.said) == (0, [])


def test_a_driver_of_another_machine_that_renews_its_lease_keeps_it(
    store: FolderStore, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = lease(store, hands, ELSEWHERE)
    theirs.claim()
    asleep = hands.pause

    def pause(seconds: float) -> None:
        asleep(seconds)
        if 20 <= hands.now < 22:
            assert theirs.renew() == ""

    monkeypatch.setattr(hands, "pause", pause)
    with pytest.raises(StudyLocked, match="process 7 on far-away"):
        lease(store, hands, HERE).claim()
    assert 20 <= hands.now <= 24, "as soon as it shows that it lives"
    assert len(objects(store)) == 1


def test_who_was_taken_for_dead_learns_it_at_its_next_renewal(store: FolderStore, hands: Hands) -> None:
    theirs = lease(store, hands, ELSEWHERE)
    theirs.claim()
    age(objects(store)[0], LIFE_SECONDS + 1)
    mine = lease(store, hands, HERE)
    mine.claim()
    assert theirs.renew() == f"process {HERE.pid} on {HERE.host}"
    assert len(objects(store)) == 1
    assert mine.renew() == ""


def test_who_only_asks_does_not_end_a_driver(store: FolderStore, hands: Hands) -> None:
    mine = lease(store, hands, HERE)
    mine.claim()
    asking = json.dumps({"process": ELSEWHERE.written(), "held": False}).encode()
    store.put("s/drivers/asking.json", asking)
    assert mine.renew() == ""


def test_of_drivers_that_come_at_the_same_moment_one_at_most_gets_the_study(store: FolderStore) -> None:
    for _ in range(5):
        won: list[Lease] = []
        lost: list[int] = []
        start = threading.Barrier(4)

        def come(number: int, start: threading.Barrier = start, won: list[Lease] = won) -> None:
            process = dataclasses.replace(living(), host=f"machine-{number}")
            own = Lease(store, "s/drivers", process=process, pause=lambda s: time.sleep(s / 100))
            start.wait()
            try:
                own.claim()
                won.append(own)
            except StudyLocked:
                lost.append(number)  # noqa: B023

        # They wait for each other in hundredths of the real time.
        threads = [threading.Thread(target=come, args=(n,)) for n in range(4)]
        clock_before = time.monotonic()
        for thread in threads:
            thread.start()
        # A winner is renewed as a driver would, in hundredths too.
        while any(thread.is_alive() for thread in threads):
            assert time.monotonic() - clock_before < 20
            for own in list(won):
                own.renew()
            time.sleep(0.01)
        assert len(won) <= 1
        assert len(won) + len(lost) == 4
        for own in won:
            own.release()
        for file in objects(store):
            file.unlink()


def test_a_study_is_held_while_its_lease_is_young(store: FolderStore, hands: Hands) -> None:
    assert not is_held(store, "s/drivers")
    mine = lease(store, hands, HERE)
    mine.claim()
    assert is_held(store, "s/drivers")
    age(objects(store)[0], LIFE_SECONDS + 1)
    assert not is_held(store, "s/drivers")
    mine.renew()
    assert is_held(store, "s/drivers")
    mine.release()
    assert not is_held(store, "s/drivers")
