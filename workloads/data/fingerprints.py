"""A hash over the raw files of a part, remembered so that unchanged files are not read again."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path

from workloads.data.workshop import read_json, write_json

MEMORY = "fingerprints.json"
_KEPT = 500
_YOUNG_NS = 2_000_000_000
_BLOCK = 1 << 20


def fingerprint(files: Sequence[Path], base: Path, note: str, memory: Path) -> str:
    """16 hex digits over ``note`` and the name (below ``base``), size and content of every file.

    Where no file's name, size or time has changed since it was last asked for, the answer comes from
    ``memory/fingerprints.json``. The time of the last change of the file's entry counts as well as that
    of its content, so that a file put in another's place with its time set back is noticed.

    Raises: OSError where a file cannot be read.
    """
    listing = []
    youngest = 0
    for path in files:
        state = path.stat()
        listing.append([str(path.relative_to(base)), state.st_size, state.st_mtime_ns, state.st_ctime_ns])
        youngest = max(youngest, state.st_mtime_ns, state.st_ctime_ns)
    key = hashlib.sha256(json.dumps([note, str(base), listing]).encode()).hexdigest()
    known = read_json(memory / MEMORY)
    if isinstance(known.get(key), str):
        return str(known[key])
    digest = hashlib.sha256(note.encode())
    for path, (name, size, *_) in zip(files, listing, strict=True):
        digest.update(json.dumps([name, size, _content(path)]).encode())
    found = digest.hexdigest()[:16]
    # A file that changed just now may change again within the clock's resolution, unnoticed.
    if time.time_ns() - youngest > _YOUNG_NS:
        entries = {**read_json(memory / MEMORY), key: found}
        write_json(memory / MEMORY, dict(list(entries.items())[-_KEPT:]))
    return found


def _content(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
