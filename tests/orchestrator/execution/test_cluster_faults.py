"""Ray itself dies, its nodes leave and join, and no home is there: each study gives the same table."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import Event, StudyRecord
from tests.orchestrator.execution.driver import STUDY, Driver, reports, study_file, undisturbed_run
from tests.orchestrator.execution.listening import is_loopback, listeners
from tests.orchestrator.execution.nodes import Nodes
from tests.orchestrator.simulation import decisions

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

_SECONDS = 400.0
"""Of patience; alone on the machine a run takes half a minute."""
TABLES = ("table.csv", "comparison.csv", "per_set.csv")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory)


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory, study, _SECONDS)


def events_of(out: Path, name: str = "small") -> list[Event]:
    return list(read_events(out / name / "ledger.jsonl"))


def assert_same_study(out: Path, undisturbed: Path, name: str = "small") -> None:
    record = StudyRecord.fold(events_of(out, name))
    assert decisions(record) == decisions(StudyRecord.fold(events_of(undisturbed)))
    for table in TABLES:
        found = (out / name / "report" / table).read_text()
        assert found == (undisturbed / "small" / "report" / table).read_text()


def pid_of(driver: Driver, program: str) -> int:
    return next(pid for pid, line in driver.processes() if line.split(" ")[0].endswith(program))


ASK = """
import sys
from ray._raylet import GcsClient
try:
    GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)
except Exception as error:
    print(type(error).__name__)
else:
    print("answered")
"""


def ask(address: str, **variables: str) -> str:
    """What a client of the cluster gets."""
    environment = {**os.environ, **variables}
    words = [sys.executable, "-c", ASK, address]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_study_goes_on_by_itself_where_its_raylet_and_then_its_gcs_server_are_killed(
    study: Path, tmp_path: Path, undisturbed: Path
) -> None:
    driver = Driver(study, tmp_path)
    try:
        driver.wait_for(reports(14), seconds=_SECONDS)
        # While it runs: nothing of it listens to other machines, and who has no token learns nothing.
        mine = {pid for pid, _ in driver.processes()}
        found = list(listeners(mine))
        gcs = pid_of(driver, "gcs_server")
        assert {pid for pid, *_ in found} >= {driver.process.pid, gcs, pid_of(driver, "raylet")}
        assert [each for each in found if not is_loopback(each[1])] == []
        ports = [port for pid, _, port in found if pid == gcs]
        answers = {ask(f"127.0.0.1:{port}", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64) for port in ports}
        assert answers == {"AuthenticationError"}
        assert {ask(f"127.0.0.1:{port}", RAY_AUTH_MODE="disabled") for port in ports} == {
            "AuthenticationError"
        }
        os.kill(pid_of(driver, "raylet"), signal.SIGKILL)
        driver.wait_for(lambda events: sum(e["event"] == "opened" for e in events) == 2, seconds=_SECONDS)
        seen = len(events_of(tmp_path))
        driver.wait_for(lambda events: any(e["event"] == "finished" for e in events[seen:]), seconds=_SECONDS)
        os.kill(pid_of(driver, "gcs_server"), signal.SIGKILL)
        status, output = driver.finish(_SECONDS)
        left = list(driver.processes())
    finally:
        driver.close()
    assert status == 0, output
    assert "its raylet has ended (killed by SIGKILL); starting it again" in output
    assert "its GCS server has ended (killed by SIGKILL); starting it again" in output
    assert "state-dump" not in output, "a page of Ray's own log"
    assert left == []
    assert_same_study(tmp_path, undisturbed)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    running = Nodes()
    yield running
    running.close()


def test_nodes_that_join_are_used_and_the_trials_of_those_that_die_go_on_elsewhere(
    study: Path, tmp_path: Path, undisturbed: Path, nodes: Nodes
) -> None:
    nodes.order("add 127.0.0.2 1")
    driver = Driver(study, tmp_path, "--address", nodes.address, variables=nodes.variables)
    try:
        driver.wait_for(reports(4), seconds=_SECONDS)
        nodes.order("add 127.0.0.3 1")
        driver.wait_for(lambda events: _in_flight(events) == 2, seconds=_SECONDS)
        nodes.order("kill 127.0.0.2")
        driver.wait_for(lambda events: _lost(events) > 0, seconds=_SECONDS)
        driver.wait_for(lambda events: "127.0.0.3" in _where(events), seconds=_SECONDS)
        before = _lost(events_of(tmp_path))
        nodes.order("kill 127.0.0.3")
        driver.wait_for(lambda events: _lost(events) > before, seconds=_SECONDS)
        nodes.order("add 127.0.0.4 2")
        status, output = driver.finish(_SECONDS)
    finally:
        driver.close()
    assert status == 0, output
    assert "Ray is up; 1 trial side by side" in output
    assert "now 2 trials side by side" in output
    assert "waiting for one to join" in output
    lost = [e["reason"] for e in events_of(tmp_path) if e["event"] == "attempt_failed"]
    assert all(reason.startswith("lost: its worker") for reason in lost)
    assert (
        {"127.0.0.2", "127.0.0.3", "127.0.0.4"} >= _where(events_of(tmp_path)) >= {"127.0.0.3", "127.0.0.4"}
    )
    assert_same_study(tmp_path, undisturbed)


def _lost(events: list[Event]) -> int:
    return sum(e["event"] == "attempt_failed" for e in events)


def _in_flight(events: list[Event]) -> int:
    started = {e["key"] for e in events if e["event"] == "started"}
    return len(started - {e["key"] for e in events if e["event"] == "finished"})


def _where(events: list[Event]) -> set[str]:
    """Addresses of the nodes on which trials have finished."""
    return {
        e["node"].rpartition("(")[2].rstrip(")") for e in events if e["event"] == "finished" and "node" in e
    }


@pytest.fixture
def read_only_home(tmp_path: Path) -> Iterator[Path]:
    home = tmp_path / "home"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(home)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("a read-only file system can only be made by root")
    yield home
    subprocess.run(["umount", "-l", home], check=True)


def test_two_studies_at_once_in_one_folder_without_a_home_that_can_be_written(
    study: Path, tmp_path: Path, undisturbed: Path, read_only_home: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(_confirming(undisturbed))
    out = tmp_path / "out"
    homes = {study: str(read_only_home), other: str(tmp_path / "nowhere")}
    drivers = [Driver(path, out, variables={"HOME": home}) for path, home in homes.items()]
    try:
        for driver in drivers:
            status, output = driver.finish(_SECONDS)
            assert status == 0, output
            assert "NOT all was delivered" not in output
    finally:
        for driver in drivers:
            driver.close()
    assert_same_study(out, undisturbed)
    for table in TABLES:
        found = (out / "other" / "report" / table).read_text()
        assert found == (undisturbed / "small" / "report" / table).read_text()


def _confirming(undisturbed: Path) -> str:
    """A study of another name with the parameters that the first one chose, and nothing to search.

    What a search tries hangs on its study's name.
    """
    arms = StudyRecord.fold(events_of(undisturbed)).arms
    chosen = {name: arm.selection["params"] for name, arm in arms.items()}
    lines = [line for line in STUDY.splitlines() if not line.startswith(tuple(f"  {name}:" for name in arms))]
    own = [f"  {name}: {json.dumps(params)}" for name, params in chosen.items()]
    at = lines.index("arms:") + 1
    return "\n".join([*lines[:at], *own, *lines[at:], ""]).replace("study: small", "study: other")
