"""Folders that appear whole or not at all, whoever else makes the same one at the same time.

Such a folder is made beside its place under a hidden name and then renamed. It holds ``facts.json``,
whose ``files`` give the size of every other file (and, where it is to be verified, more); so that it is whole
can be seen without reading it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

FACTS = "facts.json"
_STALE_SECONDS = 24 * 3600

Record = dict[str, Any]
"""What ``facts.json`` holds."""


@contextlib.contextmanager
def workshop(parent: Path, name: str) -> Iterator[Path]:
    """A new hidden folder in ``parent`` to make something called ``name`` in; gone afterwards.

    What killed processes left of the same name is removed, once it is old: a young one may be at work.
    """
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob(f".{name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(left)
    made = parent / f".{name}.{uuid.uuid4().hex}"
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def install(made: Path, target: Path, record: Record, read: Callable[[Path], Record | None]) -> Record:
    """Write the record, and move the finished folder to ``target``; returns the record in force there.

    Args:
        made: holds every file that ``record`` lists.
        read: gives the record of a folder, or None where it has none of the right form.
    """
    text = json.dumps(record, indent=1) + "\n"
    (made / FACTS).write_text(text, encoding="utf-8")
    record = json.loads(text)
    try:
        made.rename(target)
        return record
    except OSError:
        if not target.is_dir():
            raise
    found = read(target)
    if found is not None and not misfits(target, found, found["files"]):
        return found  # Another process was first.
    # Repaired file by file: several processes may do so at once, and no file that is good ever goes away.
    # Facts of other content go first and ours come last, so that they never vouch for a half-repaired folder.
    if found != record:
        (target / FACTS).unlink(missing_ok=True)
    for name in (*record["files"], FACTS):
        (made / name).replace(target / name)
    return record


def read_record(target: Path, keys: Iterable[str]) -> Record | None:
    """What ``facts.json`` says, or None where it is missing, unreadable or without one of ``keys``."""
    try:
        record = json.loads((target / FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and {"files", *keys} <= record.keys()
    return record if whole and isinstance(record["files"], dict) else None


def misfits(target: Path, record: Record, names: Iterable[str]) -> list[str]:
    """The files among ``names`` that are missing or do not have the size that was written."""
    faults = []
    for name in names:
        path, size = target / name, record["files"][name]["size"]
        found = path.stat().st_size if path.is_file() else None
        if found != size:
            faults.append(f"{path} is " + ("missing" if found is None else f"{found} bytes, not {size}"))
    return faults


def write_json(path: Path, content: object) -> None:
    """Write a small file in one step, so that a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """A small file that may be missing or damaged: then an empty one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
