"""Files that are either whole or not there."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.sealed import sealed


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``path`` atomically and durably: after a crash it holds the old content or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are private to their owner, and a study's folder may be shared.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException as error:
        draft.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk does not say where it is, and the draft's name says little.
            error.filename, error.filename2 = str(path), None
        raise


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record with its checksum; ``workloads.sealed.read_sealed`` reads it."""
    write_bytes(path, (json.dumps(sealed(record), indent=1) + "\n").encode())
