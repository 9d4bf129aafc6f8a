"""One driver a study: an operating-system lock on a file, which dies with the process that holds it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from orchestrator.errors import StudyLocked

_NAME = "driver.lock"


class DriverLock:
    """Held by the driver of a study from start to end. A killed driver's lock is free at once."""

    def __init__(self, study_dir: Path) -> None:
        self._lock = FileLock(study_dir / _NAME)
        self._note = study_dir / "driver.txt"

    def __enter__(self) -> DriverLock:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            holder = self._note.read_text().strip() if self._note.exists() else "unknown process"
            raise StudyLocked(
                f"{self._note.parent}: another driver works on this study ({holder}); nothing was changed. "
                f"Wait for it, stop it with Ctrl-C, or give this one another folder with --out."
            ) from None
        self._note.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._note.unlink(missing_ok=True)
        self._lock.release()


def is_locked(study_dir: Path) -> bool:
    """Whether a driver works on the study right now."""
    if not (study_dir / _NAME).exists():
        return False
    lock = FileLock(study_dir / _NAME)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False
