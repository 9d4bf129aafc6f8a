"""Prepared data on an object store: sent once by a driver, fetched once by each machine."""

from __future__ import annotations

import shutil
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from filelock import FileLock

from orchestrator.objects import Objects
from workloads.data.workshop import FACTS, misfits, read_record
from workloads.sealed import file_digest

_HOME = "data"
_SIDE_BY_SIDE = 4
_RECORD = ("facts", "mean", "std")


def send_data(objects: Objects, folder: Path) -> bool:
    """Send a folder of prepared data unless the store has it; whether it was sent.

    Raises: Refused; OSError.
    """
    there = objects.listed(f"{_HOME}/{folder.name}")
    if FACTS in there:
        return False
    record = read_record(folder, _RECORD)
    if record is None:
        raise FileNotFoundError(f"{folder / FACTS} is missing or damaged")
    names = [name for name in record["files"] if there.get(name) is None]
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        list(pool.map(lambda name: objects.put(f"{_HOME}/{folder.name}/{name}", folder / name), names))
    # Last of all: it vouches for the others.
    objects.put(f"{_HOME}/{folder.name}/{FACTS}", folder / FACTS)
    return True


def fetch_data(objects: Objects, name: str, root: Path) -> None:
    """Have a folder of prepared data on this machine, compared with its SHA-256 when it comes.

    Of several workers that want it at once one fetches it, and the others wait.

    Raises: FileNotFoundError where the store lacks it; Refused; OSError, also for what came damaged.
    """
    target = root / name
    if _is_whole(target):
        return
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / f".{name}.fetch.lock"):
        if _is_whole(target):
            return
        draft = root / f".{name}.{uuid.uuid4().hex}"
        try:
            objects.fetch(f"{_HOME}/{name}/{FACTS}", draft / FACTS)
            record = read_record(draft, _RECORD)
            if record is None:
                raise OSError(f"{objects.place}/{_HOME}/{name}/{FACTS} is damaged")
            files = dict(record["files"])
            with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
                list(pool.map(lambda file: objects.fetch(f"{_HOME}/{name}/{file}", draft / file), files))
            for file, known in files.items():
                if file_digest(draft / file) != known["sha256"]:
                    raise OSError(f"{objects.place}/{_HOME}/{name}/{file} does not hold what was sent")
            shutil.rmtree(target, ignore_errors=True)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _is_whole(folder: Path) -> bool:
    record = read_record(folder, _RECORD)
    return record is not None and not misfits(folder, record, record["files"])
