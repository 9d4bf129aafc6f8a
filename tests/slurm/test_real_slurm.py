"""Studies on a real Slurm: stopped, requeued, cancelled, on one node and on two; the table stays the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.submission.profile import Profile
from orchestrator.submission.record import find, read_record
from orchestrator.submission.slurm_script import scripts
from orchestrator.submission.storage import Storage
from tests.orchestrator.execution.driver import study_file, undisturbed_run
from tests.orchestrator.submission.cases import NASTY, job, placed
from tests.orchestrator.submission.test_submitted_study import User, assert_same
from tests.slurm.start import OneMachine, missing

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory, folder="a study")


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory, study)


@pytest.fixture(scope="module")
def slurm() -> Iterator[OneMachine]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    running = OneMachine()
    yield running
    running.close()


class SlurmUser(User):
    """A user whose jobs go to the two nodes of this machine."""

    def __init__(self, slurm: OneMachine, folder: Path, nodes: int) -> None:
        super().__init__(folder, folder / "the runs", slurm.environment)
        self.slurm = slurm
        self.out.mkdir()
        (folder / "clusters").mkdir()
        (folder / "clusters" / "big.yaml").write_text(
            f"cluster: big\nkind: slurm\nstorage: {self.out}\nnodes: {nodes}\ncpus_per_node: 2\n"
        )

    @property
    def job(self) -> str:
        """Slurm's number of the last job."""
        storage = Storage(str(self.out))
        return str(read_record(storage, find(storage, "last") or "").native).partition(":")[0]

    @property
    def log(self) -> str:
        return "".join(f.read_text() for f in sorted(self.out.glob("submissions/*/log.txt")))

    def counts(self, event: str) -> int:
        return sum(e["event"] == event for e in self.events())

    def trains(self, opened: int, further: int = 4) -> None:
        """Wait until the study was opened so many times, and got a little further since."""
        self.waits_for(lambda: self.counts("opened") >= opened, 240)
        before = self.counts("reported")
        self.waits_for(lambda: self.counts("reported") >= before + further, 240)

    def begins_again(self) -> None:
        """Wait until Slurm has put the job into the queue again, and let it begin."""
        job = self.job
        self.waits_for(lambda: self.slurm.run("squeue", "--noheader", "--format=%T").strip() == "PENDING", 90)
        assert ": waiting (Slurm job" in self.types("status", "last").splitlines()[0]
        self.slurm.hurry(job)


def test_slurm_reads_every_value_as_it_is_meant(slurm: OneMachine, tmp_path: Path) -> None:
    storage = tmp_path / "".join(letter for letter in NASTY if letter not in "/\\")
    profile = Profile(
        "b", "slurm", storage=str(storage), account='a "b" #c\\', partition="main", time="00:07:00"
    )
    made = job(storage / "submissions" / "x", ("true",), profile)
    files = placed(dict(scripts(made)), made.home)
    number = slurm.run("sbatch", "--parsable", "--hold", str(files["job.sh"])).strip()
    told = slurm.run("scontrol", "show", "job", number, "--oneliner")
    slurm.run("scancel", number)
    assert f" JobName={made.id} " in told
    assert f" StdOut={made.folder}/log.txt " in told
    assert ' Account=a "b" #c\\ ' in told
    assert " TimeLimit=00:07:00 " in told
    assert " Requeue=1 " in told


def test_a_study_goes_on_through_whatever_ends_its_job(
    slurm: OneMachine, study: Path, undisturbed: Path, tmp_path: Path
) -> None:
    user = SlurmUser(slurm, tmp_path, nodes=1)
    assert "Submitted small-" in user.types("submit", study, "--to", "big")
    user.trains(1)
    assert ": running (Slurm job" in user.types("status", "last").splitlines()[0]
    assert "nothing was submitted" in user.types("submit", study, "--to", "big", status=2)

    # As Slurm does when the time is nearly up.
    slurm.run("scancel", "--batch", "--signal=USR1", user.job)
    user.begins_again()
    assert user.events()[-1]["reason"] == "interrupted", "a clean stop"
    assert "The time is up: the job goes to the queue again" in user.log
    user.trains(2)

    slurm.run("scontrol", "requeue", user.job)
    user.begins_again()
    user.trains(3)
    assert "started 3 times" in user.types("status", "last").splitlines()[0]

    assert ": stopped" in user.types("cancel", "last")
    assert user.events()[-1]["event"] == "closed", "a clean stop"
    assert "squeue" not in user.log
    assert user.counts("finished") > 0, "there is something to keep"

    user.types("submit", study, "--to", "big")
    assert "Report: " in user.types("logs", "last", "--follow")
    said = user.types("status", "last")
    assert ": done (Slurm job" in said.splitlines()[0]
    assert "Study small: done" in said
    assert_same(user.out, undisturbed)


def test_a_study_on_two_nodes_goes_on_after_it_was_requeued(
    slurm: OneMachine, study: Path, undisturbed: Path, tmp_path: Path
) -> None:
    user = SlurmUser(slurm, tmp_path, nodes=2)
    user.types("submit", study, "--to", "big")
    user.trains(1)
    assert "on n[1-2]" in user.types("status", "last").splitlines()[0]
    slurm.run("scontrol", "requeue", user.job)
    user.begins_again()
    assert "Report: " in user.types("logs", "last", "--follow")
    assert ": done" in user.types("status", "last").splitlines()[0]
    opened = [e["cluster"] for e in user.events() if e["event"] == "opened"]
    assert len(opened) == 2
    assert all(re.fullmatch(r"[0-9.]+:2\d{4}|[0-9.]+:3[01]\d{3}", each) for each in opened), "its own cluster"
    assert_same(user.out, undisturbed)
    folder = next(user.out.glob("submissions/*"))
    assert (folder / "nodes.log").read_text().count("Ray runtime started") == 2
    assert not list(Path("/tmp").glob("ray.*/session_*")), "the nodes clean up"
