"""Slurm's targets with stubs in the place of its commands; the real ones are in ``tests/slurm``."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import Unavailable, UserError
from orchestrator.submission import slurm
from orchestrator.submission.job import Status
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.cases import job
from tests.orchestrator.submission.stubs import Stubs

PROFILE = Profile("big", "slurm", storage="/shared")
NATIVE = "77:/shared/submissions/x"
TOLD = "JobId=77 JobName=x JobState={} Reason={} Restarts={} ExitCode={} NodeList={} BatchHost=n1\n"


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    made = Stubs(tmp_path)
    # Not the system's, where a real Slurm may be.
    monkeypatch.setenv("PATH", str(made.folder))
    for name in ("cat", "cp"):
        (made.folder / name).symlink_to(f"/bin/{name}")
    return made


def directives(profile: Profile, folder: Path = Path("/shared/submissions/x")) -> list[str]:
    script = slurm.render(job(folder, ("orchestrate",), profile))["job.sh"]
    lines = script.splitlines()
    found = [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]
    assert lines[2 : 2 + len(found)] == [f"#SBATCH {each}" for each in found], "Slurm reads up to a command"
    return found


def test_every_key_of_a_profile_reaches_sbatch() -> None:
    profile = Profile(
        "big",
        "slurm",
        storage="/shared",
        nodes=2,
        gpus_per_node=4,
        cpus_per_node=32,
        memory_per_node="64G",
        partition="gpu",
        account="me",
        qos="high",
        time="1-12:00:00",
        options=("--constraint=a100", "--exclusive"),
    )
    assert directives(profile) == [
        '--job-name="small-20260102-030405-0abc"',
        '--output="/shared/submissions/x/log.txt"',
        "--open-mode=append",
        "--requeue",
        "--signal=B:USR1@90",
        "--nodes=2",
        "--ntasks-per-node=1",
        '--cpus-per-task="32"',
        '--gpus-per-node="4"',
        '--mem="64G"',
        '--time="1-12:00:00"',
        '--partition="gpu"',
        '--account="me"',
        '--qos="high"',
        "--constraint=a100",
        "--exclusive",
    ]


def test_what_is_not_said_is_left_to_the_cluster() -> None:
    assert [each.split("=")[0] for each in directives(PROFILE)] == [
        *("--job-name", "--output", "--open-mode", "--requeue", "--signal", "--nodes", "--ntasks-per-node")
    ]


def test_a_value_cannot_leave_its_quotes() -> None:
    assert directives(Profile("b", "slurm", storage="/s", partition='a b"#c\\'))[-1] == (
        r'--partition="a b\"#c\\"'
    )


@pytest.mark.parametrize("letter", ["%", "\\"])
def test_a_folder_that_slurm_would_misread_is_refused(letter: str) -> None:
    with pytest.raises(UserError, match=r"storage: must hold no % and no"):
        directives(Profile("b", "slurm", storage=f"/s{letter}j"), Path(f"/s{letter}j/submissions/x"))


def test_in_an_image_the_study_sees_its_storage_and_data() -> None:
    profile = Profile("b", "slurm", storage="/s t", data="/d", image="i.sif", gpus_per_node=1, nodes=2)
    files = slurm.render(job(Path("/s t/submissions/x"), ("orchestrate", "study"), profile))
    run = "apptainer exec --nv --bind '/s t' --bind /d i.sif"
    assert f"\n  {run} orchestrate study &\n" in files["job.sh"]
    assert f'\n{run} ray start "${{options[@]}}" &\n' in files["node.sh"]


def test_a_job_is_handed_to_sbatch_with_what_is_exported(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stubs.say("sbatch", "77\n")
    made = job(Path("/shared/x"), ("orchestrate",), Profile("b", "slurm", storage="/s", forward=("MY_KEY",)))
    files = {"job.sh": Path("/mounted/a b/job.sh")}
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(Unavailable, match="forward: MY_KEY not set here; nothing was submitted"):
        slurm.submit(made, files)
    assert stubs.calls == []
    monkeypatch.setenv("MY_KEY", "open sesame")
    assert slurm.submit(made, files) == "77:/mounted/a b"
    assert stubs.calls == [["sbatch", "--parsable", "--export=ALL", "/mounted/a b/job.sh"]]


def test_what_sbatch_says_is_told(stubs: Stubs) -> None:
    made, files = job(Path("/shared/x"), ("orchestrate",), PROFILE), {"job.sh": Path("/x/job.sh")}
    with pytest.raises(Unavailable, match="sbatch is not on this machine"):
        slurm.submit(made, files)
    stubs.say("sbatch", "", status=1, error="sbatch: error: noise\nsbatch: error: invalid partition\n")
    with pytest.raises(
        Unavailable, match=r"sbatch refuses: sbatch: error: invalid partition\n.*--name=small-"
    ):
        slurm.submit(made, files)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (("PENDING", "Priority", 0, "0:0", "(null)"), Status("waiting", "Slurm job 77: Priority")),
        (("PENDING", "BeginTime", 2, "0:0", ""),
         Status("waiting", "Slurm job 77, started 3 times: BeginTime")),
        (("RUNNING", "None", 0, "0:0", "n[1-2]"), Status("running", "Slurm job 77, on n[1-2]")),
        (("COMPLETING", "None", 0, "0:0", "n1"), Status("running", "Slurm job 77, on n1")),
        (("COMPLETED", "None", 0, "0:0", "n1"), Status("done", "Slurm job 77, on n1")),
        (("FAILED", "NonZeroExitCode", 0, "1:0", "n1"),
         Status("failed", "Slurm job 77, on n1: exit status 1")),
        (("FAILED", "NonZeroExitCode", 0, "130:0", "n1"),
         Status("stopped", "Slurm job 77, on n1: exit status 130")),
        (("FAILED", "JobLaunchFailure", 0, "0:53", "n1"),
         Status("failed", "Slurm job 77, on n1: JobLaunchFailure")),
        (("CANCELLED", "None", 0, "0:15", "n1"), Status("stopped", "Slurm job 77, on n1: CANCELLED")),
        (("TIMEOUT", "TimeLimit", 0, "0:1", "n1"),
         Status("stopped", "Slurm job 77, on n1: TIMEOUT; submit the study again to go on")),
        (("NODE_FAIL", "None", 0, "0:0", "n1"),
         Status("failed", "Slurm job 77, on n1: NODE_FAIL; submit the study again to go on")),
        (("OUT_OF_MEMORY", "None", 0, "0:9", "n1"), Status("failed", "Slurm job 77, on n1: OUT_OF_MEMORY")),
        (("A_NEW_WORD", "None", 0, "0:0", "n1"), Status("unknown", "Slurm job 77, on n1: A_NEW_WORD")),
    ],
)  # fmt: skip
def test_slurms_words_become_ours(told: tuple[object, ...], wanted: Status, stubs: Stubs) -> None:
    stubs.say("scontrol", TOLD.format(*told))
    assert slurm.status(NATIVE, PROFILE) == wanted
    assert stubs.called("scontrol") == [["show", "job", "77", "--oneliner"]]


@pytest.fixture
def forgotten(stubs: Stubs) -> Stubs:
    """The controller has forgotten the job."""
    stubs.say("scontrol", "", status=1, error="slurm_load_jobs error: Invalid job id specified\n")
    return stubs


@pytest.mark.parametrize(
    ("told", "state"),
    [("COMPLETED|0:0", "done"), ("CANCELLED by 1000|0:15", "stopped"), ("FAILED|2:0", "failed")],
)
def test_what_the_controller_has_forgotten_the_accounting_knows(
    told: str, state: str, forgotten: Stubs
) -> None:
    forgotten.say("sacct", f"NODE_FAIL|0:0\n{told}\n")
    assert slurm.status("77;far:/nowhere", PROFILE).state == state
    assert forgotten.called("scontrol")[0][0] == "-Mfar"
    assert forgotten.called("sacct")[0][0] == "-Mfar"


def test_without_accounting_the_jobs_folder_tells(forgotten: Stubs, tmp_path: Path) -> None:
    native = f"77:{tmp_path}"
    for status, error in ((1, "Slurm accounting storage is disabled\n"), (0, "")):
        forgotten.say("sacct", "", status=status, error=error)
        assert slurm.status(native, PROFILE).state == "unknown"
    (forgotten.folder / "sacct").unlink()
    assert slurm.status(native, PROFILE).state == "unknown"
    for code, state in ((0, "done"), (130, "stopped"), (1, "failed")):
        (tmp_path / "exit-status").write_text(f"{code}\n")
        assert slurm.status(native, PROFILE).state == state


def test_a_controller_that_is_away_is_no_answer(stubs: Stubs, tmp_path: Path) -> None:
    (tmp_path / "exit-status").write_text("0\n")
    stubs.say("scontrol", "", status=1, error="Unable to contact slurm controller (connect failure)\n")
    with pytest.raises(Unavailable, match="Slurm does not answer: Unable to contact slurm controller"):
        slurm.status(f"77:{tmp_path}", PROFILE)


def test_a_waiting_job_is_taken_from_the_queue(stubs: Stubs) -> None:
    stubs.say("scontrol", TOLD.format("PENDING", "Priority", 0, "0:0", "(null)"))
    stubs.say("scancel", "")
    slurm.cancel(NATIVE, PROFILE)
    assert stubs.called("scancel") == [["77"]]


def test_a_running_study_is_told_first_and_the_job_taken_where_it_does_not_stop(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.02)
    stubs.say("scontrol", TOLD.format("RUNNING", "None", 0, "0:0", "n1"))
    stubs.say("scancel", "")
    slurm.cancel(NATIVE, PROFILE)
    assert stubs.called("scancel") == [["--batch", "--signal=TERM", "77"], ["77"]]
    over = TOLD.format("FAILED", "NonZeroExitCode", 0, "130:0", "n1")
    (stubs.folder / ".over").write_text(over)
    stubs.add("scancel", f"cp '{stubs.folder}/.over' '{stubs.folder}/.scontrol.out'")
    slurm.cancel(NATIVE, PROFILE)
    assert stubs.called("scancel")[2:] == [["--batch", "--signal=TERM", "77"]], "once it has stopped, no more"
    slurm.cancel(NATIVE, PROFILE)
    assert len(stubs.called("scancel")) == 3, "what is over is left alone"


def test_a_refused_cancel_is_told(stubs: Stubs) -> None:
    stubs.say("scontrol", TOLD.format("PENDING", "Priority", 0, "0:0", "(null)"))
    stubs.say("scancel", "", status=1, error="scancel: error: Access/permission denied\n")
    with pytest.raises(Unavailable, match=r"scancel refuses: .*permission denied"):
        slurm.cancel(NATIVE, PROFILE)


def test_logs_are_followed_until_the_job_is_over(
    stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.01)
    now = iter(["waiting", "running", "running", "done"])

    def told(native: str, profile: Profile) -> Status:
        state = next(now)
        if state == "running":
            with (tmp_path / "log.txt").open("a") as file:
                file.write("ä line\n")
        return Status(state, "")  # type: ignore[arg-type]

    monkeypatch.setattr(slurm, "status", told)
    assert "".join(slurm.logs(f"77:{tmp_path}", PROFILE, follow=True)) == "ä line\n" * 2
    assert next(now, None) is None
    assert "".join(slurm.logs(f"77:{tmp_path}", PROFILE, follow=False)) == "ä line\n" * 2


def test_a_job_that_has_no_log_yet_says_why(stubs: Stubs, tmp_path: Path) -> None:
    stubs.say("scontrol", TOLD.format("PENDING", "Priority", 0, "0:0", "(null)"))
    with pytest.raises(Unavailable, match=r"there is no log; the job is waiting \(Slurm job 77: Priority\)"):
        list(slurm.logs(f"77:{tmp_path}", PROFILE, follow=False))
