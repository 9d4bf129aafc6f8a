"""A study in the background of this machine: it outlives the terminal, and writes a log."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from orchestrator.errors import Unavailable
from orchestrator.process import Process
from orchestrator.submission.job import Job, Status
from orchestrator.submission.log import pieces
from orchestrator.submission.profile import Profile
from orchestrator.submission.shell import head, surroundings, text

_SCRIPT, _LOG, _PROCESS, _EXIT = "job.sh", "log.txt", "process.json", "exit-status"
_PATIENCE_SECONDS = 15.0
"""A study stops within 10 s; what takes longer is told to the user."""
_POLL_SECONDS = 0.1
_STOPPED = (130, 143)
"""Exit status of a study that was stopped, and of one that had not yet begun to listen to signals."""


def render(job: Job) -> Mapping[str, str]:
    """The script that runs the study, hands on a signal to stop, and keeps the exit status."""
    exit_status = shlex.quote(str(job.home / _EXIT))
    lines = [
        *head(job),
        f"cd {shlex.quote(str(Path.cwd()))} || exit 1",
        f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
        "child= stopped= code=143",
        'trap \'stopped=yes; [ -z "$child" ] || kill -TERM "$child" 2>/dev/null\' TERM INT',
        *surroundings(job.profile),
        'if [ -z "$stopped" ]; then',
        f"  {shlex.join(job.command)} &",
        "  child=$!",
        '  [ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null',
        "  # A signal ends the wait, not the study.",
        "  while stopped=; do",
        '    wait "$child"; waited=$?',
        '    [ "$waited" -eq 127 ] && [ "$code" -ne 143 ] || code=$waited',
        '    [ -n "$stopped" ] || break',
        "  done",
        "fi",
        f'echo "$code" > {exit_status}.new && mv {exit_status}.new {exit_status}',
        'exit "$code"',
    ]
    return {_SCRIPT: text(lines)}


def submit(job: Job, files: Mapping[str, Path]) -> str:
    """Start the script in a session of its own; the native id is the job's folder.

    Raises: Unavailable.
    """
    missing = [name for name in job.profile.forward if name not in os.environ]
    if missing:
        raise Unavailable(f"forward: {', '.join(missing)} not set here; nothing was submitted")
    folder = files[_SCRIPT].parent
    try:
        with (folder / _LOG).open("ab") as log:
            started = subprocess.Popen(
                ["bash", files[_SCRIPT]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        (folder / _PROCESS).write_text(Process.of(started.pid).written(), encoding="utf-8")
    except (OSError, ProcessLookupError) as error:
        raise Unavailable(f"the job could not be started: {error}") from error
    # Whoever submitted may go; the job stays.
    started.returncode = 0
    return str(folder)


def status(native: str, profile: Profile) -> Status:
    folder = Path(native)
    process = _process(folder)
    if process.is_here and process.lives():
        return Status("running", f"process {process.pid}")
    try:
        code = int((folder / _EXIT).read_text())
    except (OSError, ValueError):
        if not process.is_here:
            return Status("unknown", f"it was started on {process.host}: ask there")
        return Status("failed", "it ended without a word: killed, or the machine went down")
    if code == 0:
        return Status("done", "")
    return Status("stopped" if code in _STOPPED else "failed", f"exit status {code}")


def logs(native: str, profile: Profile, *, follow: bool) -> Iterator[str]:
    try:
        file = (Path(native) / _LOG).open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Unavailable(f"{native}: has no log ({error.strerror})") from error
    with file:
        over = partial(_is_over, native, profile)
        yield from pieces(file, follow=follow, over=over, poll_seconds=_POLL_SECONDS)


def _is_over(native: str, profile: Profile) -> bool:
    return status(native, profile).over


def cancel(native: str, profile: Profile) -> None:
    """Stop the study as Ctrl-C does, and wait until it has. Raises: Unavailable where it does not."""
    process = _process(Path(native))
    if not process.is_here:
        raise Unavailable(f"it was started on {process.host}, and can be stopped there only")
    if not process.lives():
        return
    os.kill(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.lives():
        if time.monotonic() > deadline:
            raise Unavailable(
                f"process {process.pid} was told to stop, and had not after {_PATIENCE_SECONDS:g} s. "
                "See what it does with: orchestrate logs"
            )
        time.sleep(_POLL_SECONDS)


def _process(folder: Path) -> Process:
    try:
        return Process.read((folder / _PROCESS).read_text())
    except (OSError, TypeError, ValueError) as error:
        raise Unavailable(f"{folder / _PROCESS}: cannot be read, so the job is not known") from error
