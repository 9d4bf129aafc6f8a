"""The code that a study is submitted with: commit, changes, installed packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Code:
    """The state of the checkout; both empty where the code was installed without one."""

    commit: str
    patch: str
    """What ``git apply`` makes of the commit what is here, new files of the two packages among it."""


def code_state(root: Path = _ROOT) -> Code:
    """The code as it is now. An installed package, or a machine without git, has no commit to tell."""
    if not (root / ".git").exists():
        return Code("", "")
    try:
        return Code(_git(root, "rev-parse", "HEAD").strip(), _patch(root))
    except (OSError, subprocess.SubprocessError):
        return Code("", "")


def _patch(root: Path) -> str:
    """The difference to the commit. New files are shown to git in a copy of its index: its own stays."""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        own = root / _git(root, "rev-parse", "--git-path", "index").strip()
        if own.exists():
            shutil.copyfile(own, index)
        packages = [name for name in ("orchestrator", "workloads") if (root / name).is_dir()]
        _git(root, "add", "--intent-to-add", "--", *packages, index=index)
        return _git(root, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", index=index)


def _git(root: Path, *words: str, index: Path | None = None) -> str:
    environment = {**os.environ, **({"GIT_INDEX_FILE": str(index)} if index else {})}
    done = subprocess.run(
        ["git", *words], cwd=root, env=environment, capture_output=True, timeout=60, check=True
    )
    return done.stdout.decode("utf-8", errors="replace")


def installed() -> str:
    """Every installed package as ``name==version``, one a line."""
    found = {(d.metadata["Name"] or "", d.version) for d in metadata.distributions()}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found, key=str) if name)
