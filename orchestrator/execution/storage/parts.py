"""A ledger on an object store, which cannot append: in parts, of which only the last one grows.

So what is sent grows with the ledger, not with its square: a push sends the last part alone. A part is named
by the place of its first byte in the ledger; put one after the other the parts are the ledger.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from orchestrator.campaign.mending import copy_of
from orchestrator.objects import Objects

PART_BYTES = 2**18
"""A part is closed once it holds more, at an end of a line."""
_ENDING = ".jsonl"


class Parts:
    """The parts of one ledger.

    Args:
        folder: theirs.
    """

    def __init__(self, objects: Objects, folder: str, part_bytes: int = PART_BYTES) -> None:
        self._objects = objects
        self._folder = folder
        self._most = part_bytes
        self._known: list[tuple[int, int, bytes]] = []
        """Start, size and digest of each part that is on the store."""
        self._left_over: set[int] = set()
        """Starts of parts there that are of no use."""

    def pull(self, path: Path) -> None:
        """Make a ledger on this machine hold what the store has, unless it holds just that and more.

        Raises: Refused; OSError.
        """
        remote = b""
        self._known, self._left_over = [], set()
        found = self._objects.listed(self._folder)
        written = max((each.at for each in found.values()), default=0.0)
        for name in sorted(found):
            start = int(name.removesuffix(_ENDING))
            if start != len(remote):
                # Left over from a ledger whose end was lost and has gone on differently.
                self._left_over.add(start)
                continue
            content = self._objects.get(f"{self._folder}/{name}")
            self._known.append((start, len(content), _digest(content)))
            remote += content
        local = path.read_bytes() if path.exists() else b""
        if not local.startswith(remote):
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = path.with_name(f".{path.name}.pulled")
            draft.write_bytes(remote)
            os.utime(draft, (written, written))
            copy_of(path).unlink(missing_ok=True)
            draft.replace(path)

    def push(self, path: Path) -> None:
        """Send what is new of a ledger. Raises: Refused; OSError."""
        content = path.read_bytes()
        content = content[: content.rfind(b"\n") + 1]
        start, keep = 0, []
        for part in self._known:
            known = content[part[0] : part[0] + part[1]]
            if part[0] != start or _digest(known) != part[2] or len(known) != part[1]:
                break
            start += part[1]
            keep.append(part)
        self._left_over |= {part[0] for part in self._known[len(keep) :]}
        if start == len(content) and not self._left_over:
            return
        if keep and keep[-1][1] < self._most and start < len(content):
            # The last part grows.
            start = keep.pop()[0]
        for begin, piece in _pieces(content, start, self._most):
            self._objects.put(self._name(begin), piece)
            keep.append((begin, len(piece), _digest(piece)))
            self._known = list(keep)
            self._left_over.discard(begin)
        for begin in sorted(self._left_over):
            self._objects.delete(self._name(begin))
            self._left_over.discard(begin)

    def _name(self, start: int) -> str:
        return f"{self._folder}/{start:015d}{_ENDING}"


def _pieces(content: bytes, start: int, most: int) -> list[tuple[int, bytes]]:
    """Whole lines, of more than ``most`` bytes together in every piece but the last."""
    pieces = []
    while start < len(content):
        end = content.find(b"\n", start + most) + 1
        end = end if end > 0 else len(content)
        pieces.append((start, content[start:end]))
        start = end
    return pieces


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
