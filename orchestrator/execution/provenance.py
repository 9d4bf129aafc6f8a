"""Where a result comes from: versions, commit, hardware, command."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestrator.redaction import redacted
from workloads.machine import processor_name

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "scipy", "scikit-learn")


def versions() -> dict[str, str]:
    """Installed versions of what a result depends on."""
    found = {"python": platform.python_version()}
    for name in ("orchestrate-losses", *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def commit() -> str:
    """Git commit of the code, ``+changes`` where files differ from it; empty outside a checkout."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "orchestrator", "workloads")
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head + ("+changes" if head and changed else "")


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware() -> dict[str, Any]:
    """The driver's machine, in plain words."""
    return {"processor": processor_name(), "cores": processors(), "system": platform.platform()}


def session_facts(command: Sequence[str]) -> dict[str, Any]:
    return {
        "versions": versions(),
        "commit": commit(),
        "hardware": hardware(),
        "command": [redacted(word) for word in command],
    }
