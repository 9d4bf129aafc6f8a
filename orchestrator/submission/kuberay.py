"""A study as a RayJob of Kubernetes, through ``kubectl``: KubeRay starts a Ray cluster for it and ends it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import Unavailable
from orchestrator.submission import kuberay_manifest
from orchestrator.submission.job import Job, State, Status
from orchestrator.submission.profile import Profile

_ANSWER_SECONDS = 60.0
_POLL_SECONDS = 2.0
_STATES: Mapping[str, State] = {
    **dict.fromkeys(("", "Initializing", "Waiting", "Suspending", "Suspended", "Retrying"), "waiting"),
    "Running": "running",
    "Complete": "done",
    **dict.fromkeys(("Failed", "ValidationFailed"), "failed"),
}
"""What KubeRay says of a job, until Ray's own word counts."""
_STOPPED = re.compile(r"exit code (130|143)\b")


def render(job: Job) -> Mapping[str, str]:
    """``job.sh``, which runs on the head node, and the manifest. Raises: UserError."""
    return kuberay_manifest.files(job)


def submit(job: Job, files: Mapping[str, Path]) -> str:
    """Create the RayJob, and a secret with the variables to forward, which goes when the RayJob goes.

    Returns: the RayJob's name.
    Raises: Unavailable.
    """
    missing = [name for name in job.profile.forward if name not in os.environ]
    if missing:
        raise Unavailable(f"forward: {', '.join(missing)} not set here; nothing was submitted")
    manifest = files[kuberay_manifest.MANIFEST]
    try:
        done = _kubectl(job.profile, "create", "-f", str(manifest), "-o", "json")
    except Unavailable as error:
        raise Unavailable(f"{error}\nBy hand: kubectl create -f {manifest}") from error
    if done.returncode:
        raise Unavailable(f"kubectl refuses: {_said(done)}")
    made = json.loads(done.stdout)["metadata"]
    name = str(made["name"])
    if job.profile.forward:
        # The pods wait for it. Through standard input: neither a file nor a command line holds a secret.
        secret = json.dumps(_secret(job, made))
        done = _kubectl(job.profile, "create", "-f", "-", text=secret)
        if done.returncode:
            _kubectl(job.profile, "delete", "rayjob", name, "--wait=false")
            raise Unavailable(f"kubectl refuses the secret of the variables to forward: {_said(done)}")
    return name


def _secret(job: Job, owner: Mapping[str, Any]) -> dict[str, Any]:
    encoded = {name: base64.b64encode(os.environ[name].encode()).decode() for name in job.profile.forward}
    reference = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": owner["name"], "uid": owner["uid"]}
    about = {"name": owner["name"], "ownerReferences": [reference]}
    if job.profile.namespace:
        about["namespace"] = job.profile.namespace
    return {"apiVersion": "v1", "kind": "Secret", "metadata": about, "type": "Opaque", "data": encoded}


def status(native: str, profile: Profile) -> Status:
    found = _rayjob(native, profile)
    if found is None:
        return Status("unknown", f"there is no RayJob {native} any more; what the study did is in its folder")
    told = str(found.get("jobDeploymentStatus", ""))
    of_ray = str(found.get("jobStatus", ""))
    message = str(found.get("message", "")).strip()
    detail = ", ".join(filter(None, [f"RayJob {native}", told, str(found.get("reason", ""))]))
    if of_ray == "SUCCEEDED":
        return Status("done", detail)
    if of_ray == "STOPPED" or found.get("reason") == "DeadlineExceeded":
        return Status("stopped", detail)
    state = _STATES.get(told, "unknown")
    if state == "failed":
        first = message.splitlines()[0] if message else ""
        return Status(
            "stopped" if _STOPPED.search(first) else "failed", ": ".join(filter(None, [detail, first]))
        )
    return Status(state, detail)


def logs(native: str, profile: Profile, *, follow: bool) -> Iterator[str]:
    """What the job printed, as long as its pods are kept."""
    while follow and status(native, profile).state == "waiting":
        time.sleep(_POLL_SECONDS)
    words = [*_words(profile), "logs", f"job/{native}", *(["--follow"] if follow else [])]
    try:
        running = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
    except OSError as error:
        raise Unavailable(_NO_KUBECTL) from error
    with running:
        assert running.stdout is not None
        assert running.stderr is not None
        yield from running.stdout
        said = running.stderr.read().strip()
    if running.returncode:
        raise Unavailable(f"kubectl has no logs of {native}: {said}")


def cancel(native: str, profile: Profile) -> None:
    """Let Ray stop the study as Ctrl-C does; where that cannot be, delete the RayJob.

    Raises: Unavailable.
    """
    found = _rayjob(native, profile)
    if found is None or _ask_ray(found, profile):
        return
    # KubeRay, too, asks Ray to stop the job before it takes the cluster down, but does not wait.
    done = _kubectl(profile, "delete", "rayjob", native, "--wait=false")
    if done.returncode:
        raise Unavailable(f"kubectl refuses: {_said(done)}")


def _ask_ray(found: Mapping[str, Any], profile: Profile) -> bool:
    """Stop the job from its head node, which has the cluster's token; whether that was possible."""
    job, cluster = found.get("jobId"), found.get("rayClusterName")
    if not job or not cluster:
        return False
    chosen = f"ray.io/cluster={cluster},ray.io/node-type=head"
    pods = _kubectl(profile, "get", "pods", "-l", chosen, "-o", "name").stdout.split()
    if not pods:
        return False
    words = ("ray", "job", "stop", "--address", "http://127.0.0.1:8265", str(job))
    return _kubectl(profile, "exec", pods[0], "-c", "ray-head", "--", *words).returncode == 0


def _rayjob(native: str, profile: Profile) -> Mapping[str, Any] | None:
    """The status of a RayJob; None where there is none of that name. Raises: Unavailable."""
    done = _kubectl(profile, "get", "rayjob", native, "-o", "json")
    if done.returncode:
        if "NotFound" in done.stderr:
            return None
        raise Unavailable(f"Kubernetes does not answer: {_said(done)}")
    found: Mapping[str, Any] = json.loads(done.stdout).get("status") or {}
    return found


_NO_KUBECTL = "kubectl is not on this machine"


def _words(profile: Profile) -> list[str]:
    return ["kubectl", *([f"--namespace={profile.namespace}"] if profile.namespace else [])]


def _kubectl(profile: Profile, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Raises: Unavailable where there is no kubectl, or it does not answer."""
    try:
        return subprocess.run(
            [*_words(profile), *words],
            input=text or "",
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise Unavailable(_NO_KUBECTL) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        # Not the error's own words: they may hold what was sent.
        raise Unavailable(f"kubectl does not answer ({type(error).__name__})") from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
