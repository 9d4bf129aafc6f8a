"""Files that tell whether they hold what was written, by a SHA-256 of their own content.

JSON files hold it as their last entry, of the canonical text of the rest; other files end with a line of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_KEY = "sha256"
_TRAILER = b"\nsha256 "
TRAILER_SIZE = len(_TRAILER) + 64
_BLOCK = 2**20


class Damaged(ValueError):
    """A saved file is missing or does not hold what was written."""


# -- JSON ---------------------------------------------------------------------------------------------------


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back, with its checksum."""
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return {**plain, _KEY: _canonical_digest(plain)}


def read_sealed(path: Path) -> dict[str, Any]:
    """What :func:`sealed` made of a record, without its checksum.

    Raises: Damaged for a file that is missing, or is not what was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Damaged(f"{path} is missing or not readable ({error.strerror})") from error
    try:
        record = json.loads(content)
        written = record.pop(_KEY)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Damaged(f"{path} does not hold what was written (no JSON with a SHA-256)") from error
    if written != _canonical_digest(record):
        raise Damaged(f"{path} does not hold what was written (its SHA-256 differs)")
    found: dict[str, Any] = record
    return found


def _canonical_digest(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# -- other files --------------------------------------------------------------------------------------------


def with_trailer(payload: bytes) -> bytes:
    """The content of a file that ends with its checksum."""
    return payload + _trailer(hashlib.sha256(payload))


def without_trailer(content: bytes) -> bytes | None:
    """The payload, or None where it is not what was written."""
    payload, trailer = content[:-TRAILER_SIZE], content[-TRAILER_SIZE:]
    return payload if trailer == _trailer(hashlib.sha256(payload)) else None


def has_whole_payload(path: Path) -> bool:
    """Whether a file with a trailer holds what was written; it need not fit into memory.

    Raises: OSError where it cannot be read.
    """
    left = path.stat().st_size - TRAILER_SIZE
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            digest.update(block)
            left -= len(block)
        return left == 0 and file.read() == _trailer(digest)


def _trailer(digest: hashlib._Hash) -> bytes:
    return _TRAILER + digest.hexdigest().encode()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises: OSError where it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
