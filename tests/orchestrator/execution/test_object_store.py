"""Studies on an S3 server (moto's, on loopback): the same table as in a folder, whatever happens."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.faults.comparison import Ended, differences, read_ended, trained_again
from orchestrator.execution.storage.cache import working_copy
from orchestrator.objects import Objects
from tests.orchestrator.execution.driver import COMMAND, Driver, reports, study_file, undisturbed_run
from tests.orchestrator.execution.store import BUCKET, Store

pytest.importorskip("moto", reason="needs moto's S3 server (pip install moto[s3])")
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]

PLACE = f"s3://{BUCKET}/runs"


class Machine:
    """A machine with a cache of its own, and the study's command on it."""

    def __init__(self, store: Store, study: Path, folder: Path) -> None:
        self.study = study
        self.variables = {**store.variables, "ORCHESTRATE_CACHE": str(folder)}
        self.cache = folder
        self.copy = working_copy(PLACE, {**os.environ, **self.variables})

    def start(self) -> Driver:
        # The last --out counts; the driver's own is for the test, which reads the copy's ledger.
        return Driver(self.study, self.copy, "--out", PLACE, variables=self.variables)

    def run(self, *words: str, place: str = PLACE, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command to its end."""
        environment = {**os.environ, **self.variables, **variables}
        environment.pop("MLFLOW_TRACKING_URI", None)
        return subprocess.run(
            [COMMAND, *words, "--out", place], env=environment, capture_output=True, text=True, timeout=120
        )


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    store = Store()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in store.variables.items():
            patch.setenv(name, value)
        store.make_bucket()
        yield store
    store.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory)


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return read_ended(undisturbed_run(tmp_path_factory, study), "small")


@pytest.fixture
def machine(store: Store, study: Path, tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(store, study, tmp_path / name)


@pytest.fixture
def drivers() -> Iterator[list[Driver]]:
    running: list[Driver] = []
    yield running
    for driver in running:
        driver.close()


def test_a_study_on_a_store_survives_every_fault_of_its_life_and_ends_with_the_same_table(
    store: Store, machine: Callable[[str], Machine], drivers: list[Driver], undisturbed: Ended
) -> None:
    first, elsewhere = machine("first"), machine("elsewhere")
    driver = first.start()
    drivers.append(driver)
    driver.wait_for(reports(6))

    # A second driver of this machine, with another copy.
    refused = elsewhere.run("study", str(first.study))
    assert refused.returncode == 2, refused.stdout
    assert (
        f"{PLACE}/small: another driver works on this study (process {driver.process.pid}" in refused.stderr
    )

    driver.kill_worker()
    driver.wait_for(lambda events: any(e["event"] == "attempt_failed" for e in events))

    # Requests are tried three times within a second by the client itself, so this outlasts it.
    store.refuse(503, "SlowDown", "PUT .*/small/")
    down = time.monotonic()
    driver.wait_for(lambda events: time.monotonic() - down > 6)
    store.allow()
    driver.wait_for(lambda events: sum(e["event"] == "finished" for e in events) >= 8)
    status = elsewhere.run("status", "small")
    assert status.stdout.startswith("Study small: running"), status.stdout + status.stderr
    assert f"folder        {PLACE}/small" in status.stdout
    # What was decided some seconds ago is on the store.
    until = time.monotonic() + 30
    while len(_finished_there(elsewhere)) < 8:
        assert time.monotonic() < until, "the record was not sent"
        time.sleep(0.2)
    driver.kill_everything()
    shutil.rmtree(first.cache)

    second = elsewhere.start()
    drivers.append(second)
    status_, output = second.finish()
    assert status_ == 0, output
    assert f"going on with study small (2 arms) in {PLACE}/small" in output
    found = read_ended(elsewhere.copy, "small")
    assert differences(found, undisturbed) == []
    assert trained_again(found.events) == 0

    # A third machine, that has nothing, has the same report, and MLflow's records from the ledger.
    shutil.rmtree(elsewhere.cache)
    reader = machine("reader")
    reported = reader.run("report", f"{PLACE}/small")
    assert reported.returncode == 0, reported.stderr
    assert read_tables(reader) == undisturbed.tables
    last = reader.run("study", str(first.study))
    assert last.returncode == 0, last.stdout + last.stderr
    again = read_ended(reader.copy, "small")
    assert differences(again, undisturbed) == []
    assert len(again.events) == len(found.events) + 2, "only opened and closed"
    assert Objects(PLACE).listed("small/drivers") == {}


def _finished_there(machine: Machine) -> list[str]:
    """Lines of ended trials on the store."""
    objects = Objects(PLACE)
    parts = [objects.get(f"small/ledger/{name}").decode() for name in sorted(objects.listed("small/ledger"))]
    return [line for line in "".join(parts).splitlines() if '"event":"finished"' in line]


def read_tables(machine: Machine) -> dict[str, str]:
    from benchmarks.faults.comparison import read_tables as tables

    return tables(machine.copy / "small" / "report")


def test_a_stop_is_clean_and_in_time_also_where_the_store_gives_no_answer(
    store: Store, study: Path, machine: Callable[[str], Machine], drivers: list[Driver]
) -> None:
    here, place = machine("here"), f"s3://{BUCKET}/stopped"
    copy = working_copy(place, {**os.environ, **here.variables})
    driver = Driver(study, copy, "--out", place, variables=here.variables)
    drivers.append(driver)
    driver.wait_for(reports(4))
    store.hang(".")
    began = time.monotonic()
    driver.process.send_signal(signal.SIGTERM)
    status, output = driver.finish(60)
    store.allow()
    assert status == 130, output
    assert time.monotonic() - began < 25, output
    assert f"stopped by SIGTERM; everything finished is kept in {place}/small" in output
    assert "NOT all of the record was delivered" in output


@pytest.mark.parametrize(
    ("place", "refusal", "said"),
    [
        ("s3://no-such-bucket/runs", None, "cannot be written: there is no such bucket; nothing was run"),
        (PLACE, (403, "AccessDenied"), "cannot be written: access is denied; nothing was run"),
        ("nosuch://bucket/runs", None, "nosuch://bucket/runs: is no storage that can be reached"),
        ("s3://key:hush@bucket/runs", None, "argument --out: s3://***@bucket/runs: must not hold a login"),
    ],
)
def test_a_store_that_cannot_be_used_is_named_before_anything_runs(
    place: str,
    refusal: tuple[int, str] | None,
    said: str,
    store: Store,
    machine: Callable[[str], Machine],
    study: Path,
) -> None:
    if refusal:
        store.refuse(*refusal, "PUT")
    try:
        done = machine("here").run("study", str(study), place=place)
    finally:
        store.allow()
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stdout + done.stderr
    assert done.stdout == ""
