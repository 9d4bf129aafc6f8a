"""Whether an error means a full disk, and what to tell the user of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)


def full_disk(error: BaseException | None) -> OSError | None:
    """The error of the operating system that says so: ``error``, or one that it came from; else None."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def full_disk_text(error: OSError, folder: Path) -> str:
    """Which file could not be written, on which file system, and how much is free there.

    Args:
        folder: taken for the place where the error does not name a file.
    """
    file = Path(error.filename).absolute() if isinstance(error.filename, str) else folder.absolute()
    place = file
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    free = found.f_bavail * found.f_frsize
    while not place.is_mount():
        place = place.parent
    what = "the quota is used up" if error.errno == errno.EDQUOT else "the disk is full"
    where = f"file system at {place}, {free:,} bytes free"
    return f"{file} could not be written: {what} ({where}); free some space there"
