"""A real study, submitted, stopped in the middle and submitted again: the table of one that ran in peace."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import Event, StudyRecord
from tests.orchestrator.execution.driver import COMMAND, study_file, undisturbed_run
from tests.orchestrator.simulation import decisions
from tests.orchestrator.submission.ray_head import RayHead, missing

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

TABLES = ("table.csv", "comparison.csv", "per_set.csv")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory, folder="a study")


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory, study)


class User:
    """Types commands, and reads what they print."""

    def __init__(
        self, folder: Path, out: Path, environment: dict[str, str] | None = None, place: str = ""
    ) -> None:
        self.folder = folder
        self.out = out
        """Where the study's folder lies on this machine."""
        self.place = place or str(out)
        self.environment = {**os.environ, **(environment or {})}
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            self.environment.pop(name, None)

    def types(self, *words: str | Path, status: int = 0) -> str:
        done = subprocess.run(
            [COMMAND, *words, "--out", self.place],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def events(self) -> list[Event]:
        path = self.out / "small" / "ledger.jsonl"
        return list(read_events(path)) if path.exists() else []

    def waits_for(self, ready: Callable[[], bool], seconds: float = 300.0) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline, self.types("logs", "last") + self.types("status", "last")
            time.sleep(0.05)


def stop_in_the_middle(user: User, study: Path, cluster: str, reports: int) -> None:
    """Submit the study, and cancel it when so many more epochs have been reported."""

    def reported() -> int:
        return sum(e["event"] == "reported" for e in user.events())

    before = reported()
    assert "Submitted small-" in user.types("submit", study, "--to", cluster)
    user.waits_for(lambda: reported() >= before + reports)
    assert ": running" in user.types("status", "last").splitlines()[0]
    assert "nothing was submitted" in user.types("submit", study, "--to", cluster, status=2)
    assert ": stopped" in user.types("cancel", "last")
    events = user.events()
    assert events[-1]["event"] == "closed", "a clean stop"
    assert events[-1]["reason"] == "interrupted"
    assert any(e["event"] == "finished" for e in events), "there is something to keep"


def go_on_to_the_end(user: User, study: Path, cluster: str) -> None:
    user.types("submit", study, "--to", cluster)
    assert "Report: " in user.types("logs", "last", "--follow")
    said = user.types("status", "last")
    assert ": done" in said.splitlines()[0]
    assert "Study small: done" in said


def assert_same(out: Path, undisturbed: Path) -> None:
    def record(folder: Path) -> StudyRecord:
        return StudyRecord.fold(read_events(folder / "small" / "ledger.jsonl"))

    assert decisions(record(out)) == decisions(record(undisturbed))
    for name in TABLES:
        found = (out / "small" / "report" / name).read_text()
        assert found == (undisturbed / "small" / "report" / name).read_text()
    kept = [e for e in read_events(out / "small" / "ledger.jsonl") if e["event"] == "finished"]
    assert len({e["key"] for e in kept}) == len(kept), "what was finished was not run again"


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    if missing():
        pytest.skip(f"needs the extra cluster (ray[default]): no {', '.join(missing())}")
    running = RayHead()
    yield running
    running.close()


@pytest.fixture
def user(tmp_path: Path) -> User:
    (tmp_path / "the runs").mkdir()
    return User(tmp_path, tmp_path / "the runs")


def lab(user: User, head: RayHead) -> str:
    """The name of a profile of the head's cluster, for a user who has its token."""
    (user.folder / "clusters").mkdir()
    (user.folder / "clusters" / "lab.yaml").write_text(
        f"cluster: lab\nkind: ray\naddress: {head.address}\nstorage: {user.out}\n"
    )
    user.environment |= head.environment
    return "lab"


@pytest.mark.skipif(not missing(), reason="the next test does this too")
def test_a_study_goes_on_in_the_background(study: Path, undisturbed: Path, user: User) -> None:
    stop_in_the_middle(user, study, "local", 12)
    go_on_to_the_end(user, study, "local")
    assert_same(user.out, undisturbed)


@pytest.mark.skipif(bool(missing()), reason="needs the extra cluster (ray[default])")
def test_a_study_moves_from_the_background_to_a_cluster_and_goes_on_there(
    user: User, study: Path, undisturbed: Path, request: pytest.FixtureRequest
) -> None:
    stop_in_the_middle(user, study, "local", 12)
    head: RayHead = request.getfixturevalue("head")
    stop_in_the_middle(user, study, lab(user, head), 12)
    go_on_to_the_end(user, study, "lab")
    assert_same(user.out, undisturbed)
    opened = [e["cluster"] for e in user.events() if e["event"] == "opened"]
    assert opened == ["local", *[f"127.0.0.1:{head.port}"] * 2], "the cluster did the work"


def test_without_the_token_nobody_gets_in(head: RayHead, user: User, study: Path, tmp_path: Path) -> None:
    assert head.answer() == 401
    assert head.answer("6" * 64) == 403
    assert head.answer(head.token) == 200
    lab(user, head)
    stranger = User(tmp_path, user.out, {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"})
    said = stranger.types("submit", study, "--to", "lab", status=2)
    assert f"no Ray job server answers at {head.address} (Authentication required" in said
    written = (f for f in user.out.rglob("*") if f.is_file())
    assert not [f for f in written if head.token.encode() in f.read_bytes()], "the token is in no file"


def test_a_job_whose_command_is_not_there_fails_with_a_word(head: RayHead, user: User, study: Path) -> None:
    profile = user.folder / "clusters" / f"{lab(user, head)}.yaml"
    profile.write_text(profile.read_text() + "setup: ['export PATH=/usr/bin:/bin']\n")
    user.types("submit", study, "--to", "lab")
    user.types("logs", "last", "--follow")
    assert ": failed" in user.types("status", "last").splitlines()[0]
    assert "orchestrate: not found" in user.types("logs", "last").replace("command not", "not")
