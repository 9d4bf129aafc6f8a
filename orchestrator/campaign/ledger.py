"""The ledger: the durable record from which a study is rebuilt after a crash.

One JSON object a line, appended and never changed; each line carries the CRC-32 of its own text. A line that
a crash left unfinished at the very end is cut off on opening; damage anywhere else is refused with a word.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from orchestrator.errors import LedgerDamaged

_CRC_KEY = ',"crc":"'


def _encode(event: dict[str, Any]) -> bytes:
    text = json.dumps(event, separators=(",", ":"), allow_nan=False)
    return f'{text[:-1]}{_CRC_KEY}{zlib.crc32(text.encode()):08x}"}}\n'.encode()


def _decode(line: bytes) -> dict[str, Any] | None:
    """The event of one line, or None where the line is damaged."""
    text = line.decode(errors="replace")
    head, found, tail = text.rpartition(_CRC_KEY)
    if not found or tail[8:] != '"}\n' or f"{zlib.crc32((head + '}').encode()):08x}" != tail[:8]:
        return None
    event: dict[str, Any] = json.loads(head + "}")
    return event


def _scan(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each sound event with the offset of its end; stops before an unfinished last line.

    Raises: LedgerDamaged where a damaged line is not the last one.
    """
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            event = _decode(line)
            if event is None:
                if file.read(1):
                    raise LedgerDamaged(
                        f"{path}:{number}: this line of the ledger is damaged (its checksum does not fit); "
                        f"nothing was changed. Restore the file from a backup, or start anew with --fresh: "
                        f"that keeps the old folder under another name."
                    )
                return
            offset += len(line)
            yield offset, event


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """All events of a ledger, oldest first; also of one that a driver is writing right now.

    Raises: LedgerDamaged where a line other than the last is damaged.
    """
    return (event for _, event in _scan(path))


class Ledger:
    """The ledger of a running study, open for appending; only one driver may hold it (see ``lock``)."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        end = 0
        if path.exists():
            for end, _ in _scan(path):  # noqa: B007
                pass
            if end < path.stat().st_size:
                with path.open("r+b") as file:
                    file.truncate(end)
        self._end = end
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self.path = path

    def append(self, event: dict[str, Any], *, durable: bool = True) -> None:
        """Write one event; with ``durable`` it (and all before it) is on the disk when this returns.

        Raises: OSError where the disk is full; the unfinished line is taken back first.
        """
        line = _encode(event)
        try:
            view = memoryview(line)
            while view:
                view = view[self._file.write(view) :]
            if durable:
                os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(line)

    def close(self) -> None:
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()
