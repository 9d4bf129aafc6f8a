"""Profiles of Kubernetes clusters to try things on, the least one and a full one."""

from __future__ import annotations

from pathlib import Path

from orchestrator.submission.job import Job
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.cases import NASTY, job

SMALL = Profile("k", "kuberay", storage="/shared/runs", image="r/i:1", volumes={"claim": "/shared"})
FULL = Profile(
    "k",
    "kuberay",
    storage="/shared/runs",
    mounted="/mnt/runs",
    data="/data/sets",
    nodes=3,
    gpus_per_node=4,
    cpus_per_node=32,
    memory_per_node="64G",
    time="1-02:03:04",
    queue="local-queue",
    image="registry:5000/i:1",
    namespace="research",
    service_account="runner",
    volumes={"claim": "/shared", "more": "/data"},
    environment={"A": NASTY},
    forward=("MY_KEY", "OTHER_KEY"),
    setup=("source x",),
    options=("team=vision",),
)
STORED = Profile(
    "k", "kuberay", storage="s3://bucket/runs", image="r/i:1", environment={"A": NASTY}, forward=("MY_KEY",)
)
"""Without any volume: the study lies on an object store."""
NAME = "small-20260102-030405-0abc"


def made(profile: Profile, study: str = "small") -> Job:
    if "://" in str(profile.storage):
        study_file = f"{profile.storage}/submissions/x/study.yaml"
        return job(None, ("orchestrate", "study", study_file, "--out", str(profile.storage)), profile, study)
    folder = Path(profile.storage or "") / "submissions" / "x"
    return job(folder, ("orchestrate", "study", "a b"), profile, study)
