"""The kinds of cluster, each a module of its own that is loaded when it is needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from orchestrator.submission.job import Target

TARGETS: Mapping[str, str] = {
    "local": "orchestrator.submission.local",
    "ray": "orchestrator.submission.ray_jobs",
    "slurm": "orchestrator.submission.slurm",
    "kuberay": "orchestrator.submission.kuberay",
}


def target(kind: str) -> Target:
    return cast(Target, importlib.import_module(TARGETS[kind]))
