"""Stops at awkward moments and a clock that jumps: the real command, compared with an undisturbed run."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.comparison import Ended, differences, read_ended, trained_again
from tests.orchestrator.execution.driver import COMMAND, Driver, reports, study_file, undisturbed_run

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]

STOPS_WITHIN = 25.0
"""Seconds. The promise is 10 on an idle machine, which the soak measures; tests run beside each other."""

CLOCK = """\
import os, time

real, step = time.time, 86400.0
# Backwards and forwards every second, by days; all processes of the machine at the same moment.
jumps = (0.0, 3 * step, -4 * step, 2 * step, -1 * step)
began = float(os.environ.setdefault("ORCHESTRATE_TEST_BEGAN", str(time.monotonic())))
time.time = lambda: real() + jumps[int(time.monotonic() - began) % len(jumps)]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory)


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return read_ended(undisturbed_run(tmp_path_factory, study), "small")


@pytest.fixture
def drivers(study: Path, tmp_path: Path) -> Iterator[list[Driver]]:
    """The runs of one study, one after the other; what is left of them is killed at the end."""
    running: list[Driver] = []
    yield running
    for driver in running:
        driver.close()


def stopped(driver: Driver, study: Path) -> None:
    """The driver has been told to stop: it does so in time, in words, and leaves nothing behind."""
    began = time.monotonic()
    status, output = driver.finish(60)
    seconds = time.monotonic() - began
    assert status == 130, output
    assert seconds < STOPS_WITHIN, output
    lines = output.splitlines()
    assert lines[-2].startswith("stopped by SIGTERM; everything finished is kept in"), output
    assert lines[-1] == f"Go on with: orchestrate study {study} --out {driver.out}"
    assert "Traceback" not in output
    assert "SIGTERM received" not in output, "Ray must not print its stack"
    # Ray's agents look for their parent every few seconds.
    deadline = time.monotonic() + 60
    while (left := list(driver.processes())) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left, "processes were left behind"


def ends_the_same(study: Path, out: Path, drivers: list[Driver], undisturbed: Ended) -> Ended:
    """The study goes on to its end, as if nothing had been."""
    last = Driver(study, out)
    drivers.append(last)
    status, output = last.finish()
    assert status == 0, output
    found = read_ended(out, "small")
    assert differences(found, undisturbed) == []
    assert trained_again(found.events) == 0
    return found


def test_sigterm_while_ray_starts_at_the_first_event_and_twice_while_confirming_stops_the_same_study(
    study: Path, tmp_path: Path, drivers: list[Driver], undisturbed: Ended
) -> None:
    first = Driver(study, tmp_path)
    drivers.append(first)
    deadline = time.monotonic() + 120
    while not any("/raylet " in line for _, line in first.processes()):
        assert time.monotonic() < deadline, "Ray did not start"
        time.sleep(0.01)
    first.process.send_signal(signal.SIGTERM)
    stopped(first, study)
    ledger = tmp_path / "small" / "ledger.jsonl"
    assert not ledger.exists() or not ledger.read_text(), "nothing had begun"

    at_once = Driver(study, tmp_path)
    drivers.append(at_once)
    at_once.wait_for(lambda events: bool(events))
    at_once.process.send_signal(signal.SIGTERM)
    stopped(at_once, study)

    second = Driver(study, tmp_path)
    drivers.append(second)
    second.wait_for(reports(5, "confirm"))
    second.process.send_signal(signal.SIGTERM)
    second.process.send_signal(signal.SIGTERM)
    stopped(second, study)
    before = read_ended(tmp_path, "small")
    assert "RUNNING" not in {run.info.status for run in before.runs}

    found = ends_the_same(study, tmp_path, drivers, undisturbed)
    assert {e["event"] for e in found.events} >= {"opened", "closed"}
    assert found.record.sessions[0]["session"] == 1, "the run that never began has no record"


def test_sigterm_to_every_process_of_a_study_ends_it_in_words_and_it_goes_on(
    study: Path, tmp_path: Path, drivers: list[Driver], undisturbed: Ended
) -> None:
    """As a scheduler tells a whole job. Ray's processes may hear it first, and wait for each other."""
    for count, stage in ((3, "search"), (5, "confirm")):
        driver = Driver(study, tmp_path)
        drivers.append(driver)
        driver.wait_for(reports(count, stage))
        told = sorted(driver.processes(), key=lambda process: "orchestrate" in process[1])
        for pid, _ in told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        assert driver.process.pid in {pid for pid, _ in told}
        stopped(driver, study)
    ends_the_same(study, tmp_path, drivers, undisturbed)


def test_a_clock_that_jumps_by_days_changes_no_table_and_no_time_is_negative(
    study: Path, tmp_path: Path, drivers: list[Driver], undisturbed: Ended
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CLOCK)
    driver = Driver(study, tmp_path / "out", python_path=site)
    drivers.append(driver)
    began = time.monotonic()
    driver.wait_for(reports(5, "confirm"))
    said = [status_of(tmp_path / "out")]
    status, output = driver.finish()
    lasted = time.monotonic() - began
    assert status == 0, output
    said.append(status_of(tmp_path / "out"))
    found = read_ended(tmp_path / "out", "small")
    times = [event["t"] for event in found.events]
    assert min(b - a for a, b in itertools.pairwise(times)) < -86400, "the clock did not jump"
    # Also: no run of MLflow ends before it starts.
    assert differences(found, undisturbed) == []
    record = found.record
    for trial in record.trials.values():
        assert trial.ended is not None
        assert 0.0 <= trial.seconds < lasted
        assert trial.started <= min(trial.report_times.values()) <= trial.ended
    assert 0.0 < record.session_seconds < lasted
    for text in said:
        elapsed = re.search(r"elapsed +(.*)", text)
        assert elapsed is not None
        assert re.fullmatch(r"(\d+ min )?\d+(\.\d)? s", elapsed[1]), text
    assert not re.search(r"(?<![\w.])-\d+(\.\d+)? (s|min|h)\b", output), output


def status_of(out: Path) -> str:
    done = subprocess.run(
        [COMMAND, "status", "small", "--out", out], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
