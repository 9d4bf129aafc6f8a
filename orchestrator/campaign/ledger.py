"""The ledger: the durable record from which a study is rebuilt after a crash.

One JSON object a line, appended and never changed. Each line carries the CRC-32 of its own text, which goes
on from that of the line before: so a line is sound only in its place. A copy is written beside it, line by
line. What is damaged in one of the two is taken from the other; where both are damaged at the same place,
the record ends there. A line that a crash left unfinished at the very end is cut off without a word.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestrator.campaign.mending import Damage, bring_up, copy_of, mend

_KEY = ',"chain":"'
_OLD_KEY = ',"crc":"'
"""Of lines from before the sums were chained."""
_COPY_SECONDS = 5.0
"""The copy is a guard against damage of the ledger, which is not there the moment after it was written; the
system brings it to the disk in its own time, and this often it is told to."""


@dataclass(frozen=True)
class _Line:
    """A sound line."""

    content: bytes
    event: dict[str, Any]
    crc: int
    chained: bool = True


_START = _Line(b"", {}, 0, chained=False)
"""Before the first line."""


def _encode(event: dict[str, Any], before: _Line) -> _Line:
    text = json.dumps(event, separators=(",", ":"), allow_nan=False)
    crc = zlib.crc32(text.encode(), before.crc)
    return _Line(f'{text[:-1]}{_KEY}{crc:08x}"}}\n'.encode(), event, crc)


def _decode(content: bytes, before: _Line) -> _Line | None:
    """One line, or None where it is damaged or does not follow that line."""
    text = content.decode(errors="replace")
    for key in (_KEY,) if before.chained else (_KEY, _OLD_KEY):
        head, found, tail = text.rpartition(key)
        crc = zlib.crc32((head + "}").encode(), before.crc if key == _KEY else 0)
        if found and tail == f'{crc:08x}"}}\n':
            return _Line(content, json.loads(head + "}"), crc, key == _KEY)
    return None


def is_there(path: Path) -> bool:
    """Whether a study has a ledger, or what is left of one."""
    return any(each.exists() and each.stat().st_size > 0 for each in (path, copy_of(path)))


def last_written(path: Path) -> float:
    """When the ledger was last written, seconds since the epoch."""
    return max(each.stat().st_mtime for each in (path, copy_of(path)) if each.exists())


def read_events(path: Path, damage: Damage | None = None) -> Iterator[dict[str, Any]]:
    """All events of a ledger, oldest first; also of one that a driver is writing right now.

    Nothing on the disk is changed.

    Args:
        damage: takes what was found damaged.
    """
    return (line.event for line in _walk(path, damage or Damage(path)))


def _walk(path: Path, damage: Damage) -> Iterator[_Line]:
    """Every sound line: the ledger's where it is sound, else the copy's of the same place."""
    offset, before = 0, _START
    with contextlib.ExitStack() as files:
        ledger = _opened(path, files)
        while True:
            content = ledger.readline() if ledger else b""
            line = _decode(content, before)
            if line is None:
                line = _decode(_line_at(copy_of(path), offset), before)
                if line is None:
                    break
                damage.restored(content)
                if ledger:
                    ledger.seek(offset + len(line.content))
            damage.whole += 1
            offset, before = offset + len(line.content), line
            yield line
    damage.ended(offset, lambda content: _decode(content, before) is not None)


def _opened(path: Path, files: contextlib.ExitStack) -> IO[bytes] | None:
    try:
        return files.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _line_at(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.readline()
    except FileNotFoundError:
        return b""


class Ledger:
    """The ledger of a running study, open for appending; only one driver may hold it (see ``lock``).

    Opening mends what is damaged; the damaged file is kept under another name.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._synced = -math.inf
        """When the copy was last brought to the disk."""
        path.parent.mkdir(parents=True, exist_ok=True)
        damage = Damage(path)
        self._last, self._end = _START, 0
        for line in _walk(path, damage):
            self._last, self._end = line, self._end + len(line.content)
        mend(path, damage, lambda: (line.content for line in _walk(path, Damage(path))), self._end)
        self._file: IO[bytes] = path.open("ab", buffering=0)
        bring_up(path, damage)
        self._copy: IO[bytes] = copy_of(path).open("ab", buffering=0)
        self.path = path
        self.word = damage.said(mended=True)
        """What was damaged and what was done about it, for the user; empty where all was well."""

    def append(self, event: dict[str, Any], *, durable: bool = True) -> None:
        """Write one event; with ``durable`` it (and all before it) is on the disk when this returns.

        Raises: OSError where the disk is full; the unfinished line is taken back first.
        """
        line = _encode(event, self._last)
        files = (self._file, self._copy)
        try:
            # One after the other: whenever the power fails, at most one of the two is being written.
            for file in files:
                view = memoryview(line.content)
                while view:
                    view = view[file.write(view) :]
                if durable and file is self._file:
                    os.fsync(file.fileno())
            if durable and self._clock() - self._synced >= _COPY_SECONDS:
                os.fsync(self._copy.fileno())
                self._synced = self._clock()
        except OSError:
            for file in files:
                file.truncate(self._end)
            raise
        self._last, self._end = line, self._end + len(line.content)

    def close(self) -> None:
        for file in (self._file, self._copy):
            if not file.closed:
                os.fsync(file.fileno())
                file.close()
