"""``orchestrate submit``, ``status``, ``logs`` and ``cancel``, with a cluster that only takes notes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.commands import jobs
from orchestrator.errors import Unavailable
from orchestrator.execution.lock import DriverLock
from orchestrator.submission import freeze
from orchestrator.submission.code import Code
from orchestrator.submission.job import Job, Status
from orchestrator.submission.profile import Profile
from tests.orchestrator.execution.driver import STUDY


class Cluster:
    """Takes every job, and says of it what the test wants."""

    def __init__(self) -> None:
        self.now = Status("running", "somewhere")
        self.of: dict[str, Status] = {}
        """Of single jobs, by native id."""
        self.after_cancel = Status("stopped", "")
        self.taken: list[tuple[Job, dict[str, str]]] = []
        self.refusal = ""

    def render(self, job: Job) -> Mapping[str, str]:
        return {"job.txt": f"run {job.id}\n"}

    def submit(self, job: Job, files: Mapping[str, Path]) -> str:
        if self.refusal:
            raise Unavailable(self.refusal)
        self.taken.append((job, {name: path.read_text() for name, path in files.items()}))
        return f"native-{len(self.taken)}"

    def status(self, native: str, profile: Profile) -> Status:
        assert native.startswith("native-")
        return self.of.get(native, self.now)

    def logs(self, native: str, profile: Profile, *, follow: bool) -> Iterator[str]:
        yield from (f"log of {native}, ", f"follow {follow}\n")

    def cancel(self, native: str, profile: Profile) -> None:
        self.now = self.after_cancel


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    for module in (jobs, freeze):
        monkeypatch.setattr(module, "target", lambda kind: made)
    # Asking git and every package takes half a second; test_code does.
    monkeypatch.setattr(freeze, "code_state", lambda: Code("c" * 40, ""))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(STUDY)
    return made


def submissions(out: Path = Path("runs")) -> list[Path]:
    return sorted((out / "submissions").glob("*")) if out.exists() else []


def test_a_submission_is_written_sent_and_followed_by_commands_that_work(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "small.yaml", "--to", "local"]) == 0
    told = capsys.readouterr()
    (folder,) = submissions()
    ((job, files),) = cluster.taken
    assert files == {"job.txt": f"run {folder.name}\n"} == {"job.txt": f"run {job.id}\n"}
    assert json.loads((folder / "submission.json").read_text())["native"] == "native-1"
    assert "small: 2 arms, at most 6 search trials and 4 confirm trials" in told.out
    assert "warning: confirm.seeds" in told.err
    commands = [line.split() for line in told.out.splitlines() if line.startswith("  orchestrate")]
    assert [words[1] for words in commands] == ["status", "logs", "cancel"]
    for words in commands:
        assert main(words[1:]) == 0
    said = capsys.readouterr().out
    assert f"Job {job.id}: running (somewhere)" in said
    assert "Study small: has not begun" in said
    assert "log of native-1, follow True" in said
    assert f"{job.id}: stopped" in said


def test_from_another_folder_the_commands_name_the_output_folder(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["submit", "small.yaml", "--to", "local", "--out", "else where"]) == 0
    said = capsys.readouterr().out
    assert said.count(f"--out '{tmp_path}/else where'") == 3
    assert main(["status", "last", "--out", "else where"]) == 0
    assert not Path("runs").exists()


def test_a_dry_run_shows_every_file_and_leaves_no_trace(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["submit", "small.yaml", "--to", "local", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "--- job.txt\nrun small-" in said
    assert "Command  orchestrate study" in said
    assert [f.name for f in tmp_path.iterdir()] == ["small.yaml"]
    assert cluster.taken == []


def test_a_study_under_way_is_not_submitted_again(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["submit", "small.yaml", "--to", "local"])
    for state in ("waiting", "running"):
        cluster.now = Status(state, "")
        assert main(["submit", "small.yaml", "--to", "local"]) == 2
        assert f"of this study is {state}; nothing was submitted" in capsys.readouterr().err
    assert len(submissions()) == 1
    for count, state in enumerate(("done", "failed", "stopped", "unknown"), start=2):
        cluster.now = Status(state, "")  # type: ignore[arg-type]
        assert main(["submit", "small.yaml", "--to", "local"]) == 0
        assert len(submissions()) == count


def test_another_study_under_way_is_no_hindrance(cluster: Cluster) -> None:
    Path("small-er.yaml").write_text(STUDY.replace("study: small", "study: small-er"))
    main(["submit", "small.yaml", "--to", "local"])
    assert main(["submit", "small-er.yaml", "--to", "local"]) == 0
    cluster.of["native-1"] = Status("done", "")
    assert main(["submit", "small.yaml", "--to", "local"]) == 0, "the last one of small, not of small-er"
    assert main(["submit", "small-er.yaml", "--to", "local"]) == 2


def test_a_study_with_a_driver_is_not_submitted(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/small").mkdir(parents=True)
    with DriverLock(Path("runs/small")):
        assert main(["submit", "small.yaml", "--to", "local"]) == 2
    assert "a driver works on this study already; nothing was submitted" in capsys.readouterr().err
    assert submissions() == []


def test_a_refused_job_is_kept_with_the_reason(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.refusal = "the queue is closed"
    assert main(["submit", "small.yaml", "--to", "local"]) == 2
    (folder,) = submissions()
    assert f"the queue is closed\nWhat would have been submitted is kept in {folder.absolute()}" in (
        capsys.readouterr().err
    )
    assert main(["status", "last"]) == 0
    assert "failed (the queue is closed)" in capsys.readouterr().out
    assert main(["logs", "last"]) == 2
    assert "was never handed over to the cluster: the queue is closed" in capsys.readouterr().err
    cluster.refusal = ""
    assert main(["submit", "small.yaml", "--to", "local"]) == 0


def test_a_stopped_job_tells_how_to_go_on_and_a_failed_one_where_to_look(
    cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["submit", "small.yaml", "--to", "local", "--data", "my sets"])
    name = submissions()[0].name
    cluster.now = Status("failed", "exit status 1")
    capsys.readouterr()
    main(["status", "last"])
    said = capsys.readouterr().out
    assert f"See why: orchestrate logs {name}\n" in said
    again = f"orchestrate submit runs/submissions/{name}/study.yaml --to local --data 'my sets'"
    assert f"To go on: {again}\n" in said
    assert main(["submit", f"runs/submissions/{name}/study.yaml", "--to", "local", "--data", "my sets"]) == 0
    assert cluster.taken[1][0].command[4:] == cluster.taken[0][0].command[4:]


def test_cancel_says_so_where_a_job_takes_its_time_or_is_over(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_STOP_SECONDS", 0.0)
    main(["submit", "small.yaml", "--to", "local"])
    cluster.after_cancel = cluster.now
    assert main(["cancel", "last"]) == 0
    assert "was told to stop, and has not yet" in capsys.readouterr().out
    cluster.now = Status("done", "")
    assert main(["cancel", "last"]) == 0
    assert "is over already: done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["submit", "small.yaml"], "required: --to"),
        (["submit", "gone.yaml", "--to", "local"], "gone.yaml: no such file. Did you mean"),
        (
            ["submit", "small.yaml", "--to", "labb"],
            "there is no profile 'labb' in clusters. Known: local, ray",
        ),
        (["submit", "small.yaml", "--to", "p.yaml"], "p.yaml:2: kind: must be one of"),
        (["submit", "small.yaml", "--to", "local", "--out", "s3://a:b@c/r"], "storage: s3://***@c/r: must"),
        (["logs", "last"], "no submission 'last'. Nothing was submitted there"),
        (["cancel", "x"], "no submission 'x'"),
        (["status", "last"], "no study has run there"),
    ],
)
def test_what_is_wrong_exits_with_2_and_says_why(
    words: list[str], says: str, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("p.yaml").write_text("cluster: p\nkind: lokal\n")
    assert main(words) == 2
    assert says in capsys.readouterr().err
    assert submissions() == []
