"""A study as a job of a running Ray cluster, through the Jobs API of its head node.

The head needs ``ray[default]`` (this package's extra ``cluster``): the job server is a part of its dashboard.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import Unavailable
from orchestrator.submission.job import Job, State, Status
from orchestrator.submission.profile import Profile
from orchestrator.submission.shell import head, surroundings, text

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
_SCRIPT, _REQUEST = "job.sh", "request.json"
_STOP_SECONDS = 30
"""Ray kills a stopped job after 3 s unless told otherwise; a study may take 10 to stop cleanly."""
_STATES: Mapping[str, State] = {
    "PENDING": "waiting",
    "RUNNING": "running",
    "SUCCEEDED": "done",
    "FAILED": "failed",
    "STOPPED": "stopped",
}
_INTERRUPTED = 130


def render(job: Job) -> Mapping[str, str]:
    """The script that runs on the head node, and the request to the Jobs API.

    No processor is asked for: the driver mostly waits, it stays on the head node that way, and a study counts
    every processor of the cluster for its trials. No files are uploaded: the frozen folder is on the storage.
    Where that is an object store, the script is a part of the request.
    """
    script = text([*head(job), *surroundings(job.profile), f"exec {shlex.join(job.command)}"])
    words = ["-c", script] if job.folder is None else [str(job.folder / _SCRIPT)]
    request = {
        "entrypoint": f"exec bash {shlex.join(words)}",
        "submission_id": job.id,
        "entrypoint_num_cpus": 0,
        "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}},
        "metadata": {
            "study": job.study,
            "commit": str(job.facts.get("commit", "")),
            **_metadata(job.profile),
        },
    }
    return {_SCRIPT: script, _REQUEST: json.dumps(request, indent=2) + "\n"}


def _metadata(profile: Profile) -> dict[str, str]:
    """``options`` as ``name=value``, which the cluster's users see beside the job."""
    found = {}
    for option in profile.options:
        name, _, value = option.partition("=")
        found[name] = value
    return found


def submit(job: Job, files: Mapping[str, Path]) -> str:
    request = json.loads(files[_REQUEST].read_text(encoding="utf-8"))
    with _reached(job.profile) as client:
        return str(client.submit_job(**request))


def status(native: str, profile: Profile) -> Status:
    with _reached(profile) as client:
        info = client.get_job_info(native)
    if info.driver_exit_code == _INTERRUPTED:
        return Status("stopped", f"exit status {_INTERRUPTED}")
    state = _STATES.get(str(info.status.value), "unknown")
    # What is said of a failed job is its log over again.
    message = (info.message or "").splitlines()
    return Status(state, message[0] if message and state not in ("done", "running") else "")


def logs(native: str, profile: Profile, *, follow: bool) -> Iterator[str]:
    with _reached(profile) as client:
        if not follow:
            yield client.get_job_logs(native)
            return
        tail = client.tail_job_logs(native)
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            while (piece := loop.run_until_complete(anext(tail, None))) is not None:
                yield piece


def cancel(native: str, profile: Profile) -> None:
    """Ray sends SIGTERM to the study, and kills it where it has not stopped after 30 s."""
    with _reached(profile) as client:
        client.stop_job(native)


@contextlib.contextmanager
def _reached(profile: Profile) -> Iterator[Any]:
    """A client of the profile's job server.

    Raises: Unavailable where nothing answers there, or the server refuses.
    """
    address = profile.address or DEFAULT_ADDRESS
    _offer_token()
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)
    # Ray lets these overrule the address that it is given.
    aside = {name: os.environ.pop(name, None) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")}
    try:
        client = JobSubmissionClient(address)
    except (OSError, RuntimeError, RayError) as error:
        raise Unavailable(
            f"no Ray job server answers at {address} ({_first_line(error)}). The head node runs one where "
            "ray[default] is installed; with token authentication, RAY_AUTH_MODE=token and its token are "
            "needed here too."
        ) from error
    finally:
        os.environ.update({name: value for name, value in aside.items() if value is not None})
    try:
        yield client
    except (OSError, RuntimeError, RayError) as error:
        raise Unavailable(f"the Ray job server at {address} refuses: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _offer_token() -> None:
    """Send the user's token where there is one."""
    home = Path(os.environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111
    named = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named or (home / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
