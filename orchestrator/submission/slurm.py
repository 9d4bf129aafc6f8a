"""A study as a batch job of Slurm: on several nodes it brings its own Ray cluster.

The job may be requeued at any time (a preemption, a lost node, ``scontrol requeue``): the study goes on.
Shortly before its time is up it stops cleanly and requeues itself, as long as that brings the study forward.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from orchestrator.errors import Unavailable
from orchestrator.submission import slurm_script
from orchestrator.submission.job import Job, State, Status
from orchestrator.submission.log import pieces
from orchestrator.submission.profile import Profile

_PATIENCE_SECONDS = 15.0
"""A study stops within 10 s of being told to."""
_ANSWER_SECONDS = 60.0
_POLL_SECONDS = 1.0
_STOPPED = (130, 143)
"""Exit status of a study that was stopped, and of a job that was told to before the study began."""
_STATES: Mapping[str, State] = {
    **dict.fromkeys(("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "RESV_DEL_HOLD"), "waiting"),
    **dict.fromkeys(("REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "STOPPED"), "waiting"),
    **dict.fromkeys(("RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT", "RESIZING"), "running"),
    "COMPLETED": "done",
    **dict.fromkeys(("CANCELLED", "TIMEOUT", "PREEMPTED", "REVOKED", "DEADLINE"), "stopped"),
    **dict.fromkeys(("FAILED", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY", "LAUNCH_FAILED"), "failed"),
}
_AGAIN = "submit the study again to go on"


def render(job: Job) -> Mapping[str, str]:
    """``job.sh`` for ``sbatch``, and ``node.sh`` where there are several nodes. Raises: UserError."""
    return slurm_script.scripts(job)


def submit(job: Job, files: Mapping[str, Path]) -> str:
    """Hand the script to ``sbatch``.

    Returns: Slurm's number of the job, a colon, and the job's folder as this machine sees it.
    Raises: Unavailable.
    """
    missing = [name for name in job.profile.forward if name not in os.environ]
    if missing:
        raise Unavailable(f"forward: {', '.join(missing)} not set here; nothing was submitted")
    script = files[slurm_script.SCRIPT]
    done = _run("sbatch", "--parsable", "--export=ALL", str(script))
    number = done.stdout.strip()
    if done.returncode or not re.match(r"\d+(;|$)", number):
        raise Unavailable(
            f"sbatch refuses: {_said(done)}\nWhere it only did not answer in time, the job may have been "
            f"taken: squeue --name={job.id}"
        )
    return f"{number}:{script.parent}"


def status(native: str, profile: Profile) -> Status:
    number, cluster, folder = _parts(native)
    told = _control(number, cluster) or _accounting(number, cluster)
    if told is not None:
        return told
    code = _exit_status(folder)
    if code is None:
        return Status("unknown", f"Slurm has forgotten job {number}; what the study did is in its folder")
    return _ended(code, f"Slurm job {number}")


def logs(native: str, profile: Profile, *, follow: bool) -> Iterator[str]:
    """What the job printed, from every time that it ran."""
    log = _parts(native)[2] / slurm_script.LOG
    while not log.exists():
        now = status(native, profile)
        if not follow or now.over or now.state == "unknown":
            raise Unavailable(f"{log}: there is no log; the job is {now.state} ({now.detail})")
        time.sleep(_POLL_SECONDS)
    with log.open(encoding="utf-8", errors="replace") as file:
        over = partial(_is_over, native, profile)
        yield from pieces(file, follow=follow, over=over, poll_seconds=_POLL_SECONDS)


def _is_over(native: str, profile: Profile) -> bool:
    return status(native, profile).state not in ("waiting", "running")


def cancel(native: str, profile: Profile) -> None:
    """Stop the study as Ctrl-C does, wait until it has, and take the job from Slurm. Raises: Unavailable."""
    number, cluster, _ = _parts(native)
    now = status(native, profile)
    if now.over:
        return
    if now.state == "running":
        # The script alone is told first: the study stops while its Ray cluster is still there.
        told = _run("scancel", *cluster, "--batch", "--signal=TERM", number)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while told.returncode == 0 and time.monotonic() < deadline:
            if status(native, profile).over:
                return
            time.sleep(_POLL_SECONDS / 2)
    done = _run("scancel", *cluster, number)
    if done.returncode and not status(native, profile).over:
        raise Unavailable(f"scancel refuses: {_said(done)}")


def _control(number: str, cluster: list[str]) -> Status | None:
    """What the controller says of a job; None where it has forgotten it, minutes after the end.

    Raises: Unavailable where it does not answer.
    """
    done = _run("scontrol", *cluster, "show", "job", number, "--oneliner")
    if done.returncode:
        if "Invalid job id" in done.stderr:
            return None
        raise Unavailable(f"Slurm does not answer: {_said(done)}")
    facts = dict(re.findall(r"(?:^|\s)(JobState|Reason|Restarts|ExitCode|NodeList)=(\S*)", done.stdout))
    where, restarts = facts.get("NodeList", "(null)"), facts.get("Restarts", "0")
    words = [f"Slurm job {number}"]
    words += [f"on {where}"] if where not in ("(null)", "") else []
    words += [f"started {int(restarts) + 1} times"] if restarts != "0" else []
    return _status(
        facts["JobState"], facts.get("ExitCode", ""), facts.get("Reason", "None"), ", ".join(words)
    )


def _accounting(number: str, cluster: list[str]) -> Status | None:
    """What Slurm's accounting says of a job; None where there is none, or it does not know the job."""
    try:
        done = _run(
            *("sacct", *cluster, "--noheader", "--parsable2", "--allocations"),
            *("--format=State,ExitCode", f"--jobs={number}"),
        )
    except Unavailable:
        return None
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        return None
    state, _, code = lines[-1].partition("|")
    # "CANCELLED by 1000"
    return _status(state.split()[0], code, "None", f"Slurm job {number}") if state else None


def _status(told: str, code: str, reason: str, words: str) -> Status:
    """Slurm's words as ours; ``code`` is an exit status, a colon and a signal."""
    state = _STATES.get(told, "unknown")
    if state == "waiting" and reason != "None":
        return Status(state, f"{words}: {reason}")
    number, _, signal = code.partition(":")
    if told == "COMPLETED" or (told == "FAILED" and number not in ("", "0")):
        return _ended(int(number or 0), words)
    if told == "FAILED":
        return Status(state, f"{words}: {reason if reason != 'None' else f'killed by signal {signal}'}")
    if told in ("TIMEOUT", "PREEMPTED", "NODE_FAIL"):
        return Status(state, f"{words}: {told}; {_AGAIN}")
    return Status(state, words if state in ("running", "waiting") else f"{words}: {told}")


def _ended(code: int, words: str) -> Status:
    if code == 0:
        return Status("done", words)
    return Status("stopped" if code in _STOPPED else "failed", f"{words}: exit status {code}")


def _exit_status(folder: Path) -> int | None:
    try:
        return int((folder / slurm_script.EXIT).read_text())
    except (OSError, ValueError):
        return None


def _parts(native: str) -> tuple[str, list[str], Path]:
    """The job's number, the options that name its cluster where a site has several, and its folder."""
    job, _, folder = native.partition(":")
    number, _, cluster = job.partition(";")
    return number, [f"-M{cluster}"] if cluster else [], Path(folder)


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    """Raises: Unavailable where the command is not there, or does not answer."""
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise Unavailable(
            f"{words[0]} is not on this machine: use one where Slurm is, a login node"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{words[0]} does not answer ({error})") from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
