"""What ``orchestrate doctor`` examines: is everything here that a study needs?"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from orchestrator.errors import Unavailable

Level = Literal["ok", "warn", "FAIL"]

_PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow", "numpy", "scipy", "scikit-learn")
_DISK_LOW = 5e9
_DISK_FULL = 0.5e9
_TORCH_SECONDS = 120
# Of another process: a broken torch must not break the examination, and its import takes seconds.
_TORCH_PROGRAM = """
import json, torch, torchvision
torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
print(json.dumps({"cuda": torch.version.cuda, "devices": names}))
"""


@dataclass(frozen=True)
class Finding:
    level: Level
    what: str
    detail: str


def examine(out: Path) -> int:
    """Print every finding as it is made; returns 1 where a study could not run, else 0."""
    failed = False
    for finding in findings(out):
        print(f"{finding.level:<4}  {finding.what:<15} {finding.detail}", flush=True)
        failed = failed or finding.level == "FAIL"
    print("Something must be mended before a study can run." if failed else "Ready to run a study.")
    return 1 if failed else 0


def findings(out: Path) -> Iterator[Finding]:
    """The findings, cheap ones first."""
    yield from _versions()
    yield _processors()
    yield _data()
    yield _folder("output folder", out, "Give another with --out", "FAIL")
    yield _disk(out)
    home = Path.home()
    hint = "Ray's token is made anew for every run then, unless RAY_AUTH_TOKEN_PATH names a file"
    yield _folder("home folder", home, hint, "warn")
    yield from _token(home)
    yield _store(out)
    yield from _torch()


def _versions() -> Iterator[Finding]:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Finding("ok" if fits else "FAIL", "python", version if fits else f"{version}; must be 3.11 or 3.12")
    needed = _requirements()
    for name in _PACKAGES:
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("FAIL", name, "not installed; run: make install")
            continue
        wanted = needed.get(name, "")
        if wanted and not _satisfies(version, wanted):
            yield Finding("FAIL", name, f"{version}; must be {wanted}")
        else:
            yield Finding("ok", name, version)


def _requirements() -> dict[str, str]:
    """Version ranges that this package asks for, by package name."""
    from packaging.requirements import Requirement

    try:
        lines = metadata.requires("orchestrate-losses") or []
    except metadata.PackageNotFoundError:
        return {}
    parsed = (Requirement(line) for line in lines)
    return {r.name: str(r.specifier) for r in parsed if r.marker is None}


def _satisfies(version: str, wanted: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(wanted).contains(version, prereleases=True)


def _processors() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Finding("ok", "processors", f"{usable} usable of {os.cpu_count()}")


def _data() -> Finding:
    package = importlib.util.find_spec("sklearn")
    if package is None or package.origin is None:
        return Finding("FAIL", "data: digits", "scikit-learn, which brings them, is not installed")
    folder = Path(package.origin).parent / "datasets"
    needed = [
        folder / "data" / "digits.csv.gz",
        folder / "images" / "china.jpg",
        folder / "images" / "flower.jpg",
    ]
    lacking = [file.name for file in needed if not file.exists()]
    if lacking:
        return Finding(
            "FAIL", "data: digits", f"{', '.join(lacking)} missing in {folder}; reinstall scikit-learn"
        )
    return Finding("ok", "data: digits", "bundled with scikit-learn, with two photographs")


def _standing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.absolute()
    return next(p for p in (folder, *folder.parents) if p.exists())


def _folder(what: str, folder: Path, hint: str, level: Level) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=_standing(folder)):
            return Finding("ok", what, f"{folder} can be written")
    except OSError as error:
        return Finding(level, what, f"{folder} cannot be written ({error.strerror}). {hint}")


def _token(home: Path) -> Iterator[Finding]:
    """Who knows Ray's token may run programs as this user while a study runs."""
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or home / ".ray" / "auth_token")
    try:
        shared = path.stat().st_mode & 0o077
    except OSError:
        # None yet: the first study makes one.
        return
    if shared:
        yield Finding("warn", "Ray's token", f"other users may read {path}; run: chmod 600 {path}")
    else:
        yield Finding("ok", "Ray's token", f"{path}, for this user alone")


def _disk(out: Path) -> Finding:
    free = shutil.disk_usage(_standing(out)).free
    level: Level = "FAIL" if free < _DISK_FULL else "warn" if free < _DISK_LOW else "ok"
    return Finding(level, "disk", f"{free / 1e9:.1f} GB free for {out}")


def _store(out: Path) -> Finding:
    from orchestrator.tracking.store import check_store, resolve_uri

    try:
        return Finding("ok", "MLflow store", check_store(resolve_uri(None, out)))
    except Unavailable as error:
        return Finding("FAIL", "MLflow store", str(error))


def _torch() -> Iterator[Finding]:
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TORCH_PROGRAM],
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        yield Finding("FAIL", "torch works", f"did not answer in {_TORCH_SECONDS} s")
        return
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        yield Finding("FAIL", "torch works", f"{last}. torch and torchvision must match: run make install")
        return
    facts = json.loads(done.stdout.strip().splitlines()[-1])
    yield Finding("ok", "torch works", "torch and torchvision match")
    devices = ", ".join(facts["devices"])
    yield Finding("ok", "GPUs", devices or "none; trials run on the processors")
