"""A cluster that dies is noticed, and what is left of it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.execution.lifeline import (
    Knock,
    Lifeline,
    bury,
    end_leftovers,
    fruitless_sessions,
    local_ailment,
    own_children,
    own_raylets,
    workers_of,
)

SLEEP = [sys.executable, "-c", "import signal; signal.pause()"]


def processes(**named: subprocess.Popen[bytes]) -> dict[str, list[Any]]:
    return {name: [SimpleNamespace(process=process)] for name, process in named.items()}


@pytest.mark.parametrize("status", [0, 3])
def test_a_raylet_that_ended_by_itself_is_dead_whatever_its_status(status: int) -> None:
    raylet = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({status})"])
    raylet.wait()
    assert local_ailment(processes(raylet=raylet)) == f"its raylet has ended (exit status {status})"


def test_a_local_cluster_is_dead_without_its_raylet_or_gcs_server_and_lives_without_the_rest() -> None:
    raylet, monitor = subprocess.Popen(SLEEP), subprocess.Popen(SLEEP)
    gone = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    try:
        assert local_ailment(processes(raylet=raylet, monitor=monitor)) == ""
        monitor.kill()
        monitor.wait()
        assert local_ailment(processes(raylet=raylet, monitor=monitor)) == ""
        gone.wait()
        assert local_ailment(processes(raylet=raylet, gcs_server=gone)) == (
            "its GCS server has ended (exit status 3)"
        )
        raylet.kill()
        raylet.wait()
        assert local_ailment(processes(raylet=raylet)) == "its raylet has ended (killed by SIGKILL)"
    finally:
        for process in (raylet, monitor, gone):
            process.kill()
            process.wait()


def test_a_buried_cluster_leaves_no_process_behind_also_none_that_lost_its_parent() -> None:
    raylet = subprocess.Popen(SLEEP)
    worker = subprocess.Popen(SLEEP, env={"RAY_RAYLET_PID": str(raylet.pid)})
    stranger = subprocess.Popen(SLEEP, env={"RAY_RAYLET_PID": f"{raylet.pid}0"})
    monitor = subprocess.Popen(SLEEP)
    try:
        bury(processes(raylet=raylet, monitor=monitor))
        assert [p.wait(timeout=10) for p in (raylet, monitor, worker)] == [-signal.SIGKILL] * 3
        assert stranger.poll() is None
    finally:
        for process in (raylet, monitor, worker, stranger):
            process.kill()
            process.wait()


def test_what_a_raylet_of_this_process_left_is_ended_and_a_raylet_of_another_is_not(tmp_path: Path) -> None:
    program = tmp_path / "raylet"
    program.symlink_to(shutil.which("sleep") or "")
    mine = subprocess.Popen([program, "60"])
    agent = subprocess.Popen(SLEEP, env={"RAY_RAYLET_PID": str(mine.pid)})
    parent = subprocess.Popen(["/bin/sh", "-c", f"{program} 60 & echo $!; wait"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    other = int(parent.stdout.readline())
    try:
        until = time.monotonic() + 10
        while own_raylets() != {mine.pid} and time.monotonic() < until:
            time.sleep(0.01)
        assert own_raylets() == {mine.pid}
        assert own_children() >= {mine.pid, agent.pid, parent.pid}
        assert other not in own_children()
        end_leftovers(own_raylets())
        assert [p.wait(timeout=10) for p in (mine, agent)] == [-signal.SIGKILL] * 2
        os.kill(other, 0)
    finally:
        os.kill(other, signal.SIGKILL)
        for process in (mine, agent, parent):
            process.kill()
            process.wait()
        parent.stdout.close()


def test_without_proc_no_worker_is_found(tmp_path: Path) -> None:
    assert list(workers_of([1], tmp_path / "nowhere")) == []
    assert own_children("", tmp_path / "nowhere") == set()
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "environ").write_bytes(b"A=1\0RAY_RAYLET_PID=7\0")
    (tmp_path / "13").mkdir()
    assert list(workers_of([7], tmp_path)) == [12]
    assert list(workers_of([1], tmp_path)) == []


def test_a_death_is_told_once_and_none_after_the_end() -> None:
    told: list[str] = []
    heard = threading.Event()
    looks = iter(["", "", "dead", "dead again"])

    def lost(reason: str) -> None:
        told.append(reason)
        heard.set()

    with Lifeline(lambda: next(looks), lost, seconds=0.001) as lifeline:
        assert heard.wait(60)
        lifeline._thread.join(60)
        assert not lifeline._thread.is_alive()
    assert told == ["dead"]
    with Lifeline(lambda: "dead", lost, seconds=60):
        pass
    assert told == ["dead"]


def test_a_head_that_is_away_for_a_while_is_waited_for_and_then_taken_for_dead() -> None:
    now = [0.0]
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        knock = Knock(address, 40.0, lambda: now[0])
        now[0] = 100.0
        assert knock.ailment() == ""
    now[0] = 140.0
    assert knock.ailment() == ""
    now[0] = 140.5
    assert knock.ailment() == f"its head at {address} has not answered for 40 s (Connection refused)"


@pytest.mark.parametrize(
    ("kinds", "count"),
    [
        (["opened"], 1),
        (["opened", "started", "closed", "opened", "started"], 2),
        (["opened", "reported", "opened"], 1),
        (["opened", "opened", "finished"], 0),
        ([], 0),
    ],
)
def test_sessions_are_fruitless_that_brought_no_trial_further(kinds: list[str], count: int) -> None:
    assert fruitless_sessions({"event": kind} for kind in kinds) == count


def test_leaving_says_why_and_with_which_status() -> None:
    program = (
        "from orchestrator.errors import StudyFailed\n"
        "from orchestrator.execution.lifeline import leave\n"
        "import threading\n"
        "threading.Thread(target=leave, args=(StudyFailed('it died'),)).start()\n"
        "threading.Event().wait()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "it died\n")
