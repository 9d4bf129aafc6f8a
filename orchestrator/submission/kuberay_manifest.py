"""The RayJob that a study is for KubeRay, as JSON: ``kubectl`` reads it as it reads YAML."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib import metadata
from pathlib import PurePosixPath
from typing import Any

from orchestrator.errors import UserError
from orchestrator.submission.job import Job
from orchestrator.submission.profile import Profile
from orchestrator.submission.shell import head, surroundings, text

SCRIPT, MANIFEST = "job.sh", "rayjob.json"
_STOP_SECONDS = 30
"""Ray kills a stopped job after 3 s unless told otherwise; a study may take 10 to stop cleanly."""
_KEPT_SECONDS = 600
"""How long the pods stay after the end, for their logs."""
_RETRIES = 2
"""A lost head node ends a job, and the next one goes on; what fails of itself costs little to try again."""
_MOST_LETTERS = 47
"""Of a RayJob's name, as KubeRay makes longer names of it."""
_MARKS = "_./+@:,-"
_PLAIN = re.compile(rf"[A-Za-z0-9{_MARKS}]+")
_LABEL = re.compile(r"(?P<name>[^=\s]+)=(?P<value>([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?)")


def files(job: Job) -> Mapping[str, str]:
    """The script that runs on the head node, and the manifest; no script where no pod could read one.

    Raises: UserError where a folder is on no volume, a word would not survive KubeRay's shell, or an option
        is no label.
    """
    _require_mounted(job)
    manifest = json.dumps(_manifest(job), indent=2) + "\n"
    if job.folder is None:
        return {MANIFEST: manifest}
    script = [*head(job), *surroundings(job.profile), f"exec {shlex.join(job.command)}"]
    return {SCRIPT: text(script), MANIFEST: manifest}


def _entrypoint(job: Job) -> str:
    """What runs on the head node; its words hold nothing that a shell reads, as KubeRay does not quote them.

    Raises: UserError.
    """
    if job.folder is None and job.profile.setup:
        raise UserError(
            f"setup: needs a script that the pods can read, and {job.profile.storage!r} is no folder: put "
            "the lines into the image, or take a storage on one of the profile's volumes"
        )
    words = job.command if job.folder is None else ("bash", str(job.folder / SCRIPT))
    for word in words:
        if not _PLAIN.fullmatch(word):
            raise UserError(
                f"storage and data: must be of letters, digits and {_MARKS} for kind kuberay, as KubeRay "
                f"does not quote them; got {word!r}"
            )
    return " ".join(words)


def name_of(job: Job) -> str:
    """The job's name in Kubernetes: small letters, digits and -, a letter first; unique as the id is."""
    study, tail = job.id[: len(job.study)], job.id[len(job.study) :]
    small = re.sub(r"[^a-z0-9]+", "-", study.lower()).strip("-")
    if not small[:1].isalpha():
        small = f"s-{small}".rstrip("-")
    return small[: _MOST_LETTERS - len(tail)].rstrip("-") + tail


def _manifest(job: Job) -> dict[str, Any]:
    profile = job.profile
    about = {"name": name_of(job), "annotations": {"orchestrate/submission": job.id}}
    if profile.namespace:
        about["namespace"] = profile.namespace
    labels = dict(_label(option) for option in profile.options)
    if profile.queue:
        labels["kueue.x-k8s.io/queue-name"] = profile.queue
    cluster: dict[str, Any] = {
        "rayVersion": metadata.version("ray"),
        "authOptions": {"mode": "token"},
        "headGroupSpec": {"rayStartParams": {}, "template": _pod(job, "ray-head")},
    }
    if profile.nodes > 1:
        workers = profile.nodes - 1
        cluster["workerGroupSpecs"] = [
            {
                "groupName": "workers",
                "replicas": workers,
                "minReplicas": workers,
                "maxReplicas": workers,
                "rayStartParams": {},
                "template": _pod(job, "ray-worker"),
            }
        ]
    spec: dict[str, Any] = {
        "entrypoint": _entrypoint(job),
        "runtimeEnvYAML": json.dumps({"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(_STOP_SECONDS)}}),
        "metadata": {"study": job.study, "commit": str(job.facts.get("commit", ""))},
        "submissionMode": "K8sJobMode",
        "backoffLimit": _RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEPT_SECONDS,
        "rayClusterSpec": cluster,
    }
    if profile.time:
        spec["activeDeadlineSeconds"] = _seconds(profile.time)
    if profile.queue:
        # Kueue lifts it when there is room.
        spec["suspend"] = True
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {**about, **({"labels": labels} if labels else {})},
        "spec": spec,
    }


def _pod(job: Job, container: str) -> dict[str, Any]:
    """The template of a node's pod. Every node is alike: trials run on the head's too."""
    profile = job.profile
    claims = [
        {"name": f"volume-{index}", "persistentVolumeClaim": {"claimName": claim}}
        for index, claim in enumerate(profile.volumes)
    ]
    mounts = [
        {"name": f"volume-{index}", "mountPath": path} for index, path in enumerate(profile.volumes.values())
    ]
    of_container: dict[str, Any] = {"name": container, "image": profile.image, "env": _variables(job)}
    wanted = _resources(profile)
    if wanted:
        of_container["resources"] = {"requests": wanted, "limits": wanted}
    if mounts:
        of_container["volumeMounts"] = mounts
    pod: dict[str, Any] = {"containers": [of_container]}
    if claims:
        pod["volumes"] = claims
    if profile.service_account:
        pod["serviceAccountName"] = profile.service_account
    return {"spec": pod}


def _variables(job: Job) -> list[dict[str, Any]]:
    """The profile's variables, and those whose values are in the job's secret alone.

    They are the nodes', not the driver's: trials run in processes that the nodes start.
    """
    plain = [{"name": name, "value": value} for name, value in job.profile.environment.items()]
    secret = [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": name_of(job), "key": name}}}
        for name in job.profile.forward
    ]
    return [*plain, *secret]


def _resources(profile: Profile) -> dict[str, str]:
    wanted = {}
    if profile.cpus_per_node is not None:
        wanted["cpu"] = str(profile.cpus_per_node)
    if profile.memory_per_node is not None:
        # Profiles mean powers of 1024, as Slurm does.
        wanted["memory"] = f"{profile.memory_per_node}i"
    if profile.gpus_per_node:
        wanted["nvidia.com/gpu"] = str(profile.gpus_per_node)
    return wanted


def _seconds(time: str) -> int:
    """``[D-]HH:MM:SS`` in seconds."""
    days, _, clock = time.rpartition("-")
    hours, minutes, seconds = map(int, clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _label(option: str) -> tuple[str, str]:
    matched = _LABEL.fullmatch(option)
    if matched is None:
        raise UserError(f"options: must be labels, name=value, for kind kuberay; got {option!r}")
    return matched["name"], matched["value"]


def _require_mounted(job: Job) -> None:
    """Raise UserError where no pod would see a folder, or its path would not survive KubeRay's shell."""
    profile = job.profile
    for key, place in (("storage", profile.storage), ("data", profile.data)):
        if place is None or "://" in place:
            continue
        paths = [PurePosixPath(path) for path in profile.volumes.values()]
        if not any(PurePosixPath(place).is_relative_to(path) for path in paths):
            raise UserError(
                f"{key}: must be on one of the profile's volumes, or no pod sees it; got {place!r}. "
                "Add volumes: {name-of-a-claim: /its/path}"
            )
