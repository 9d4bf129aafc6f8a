"""What was found damaged in a ledger, in words, and how the files are made whole again."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = 2**20
_NAMED = 5
"""Damaged lines that are named one by one."""
_RESCORED = b'"event":"rescored"'


def copy_of(path: Path) -> Path:
    """Where the copy of a ledger is."""
    return path.with_name(f"{path.stem}.copy{path.suffix}")


@dataclass
class Damage:
    """What a walk through a ledger and its copy met."""

    path: Path
    whole: int = 0
    """Lines that were read."""
    replaced: list[int] = field(default_factory=list)
    """Numbers, from 1, of the ledger's lines that were damaged and sound in the copy."""
    missing: int = 0
    """Lines that the ledger lacks at its end and the copy has."""
    lost: int = 0
    """Lines from the first one on that is damaged in both."""
    lost_scores: bool = False
    """Whether some of these added scores to finished trials."""
    copy_damaged: bool = False
    kept: list[Path] = field(default_factory=list)
    """The damaged files under their new names."""

    def restored(self, line: bytes) -> None:
        """The next line was taken from the copy; the ledger had ``line`` there."""
        if line.endswith(b"\n"):
            self.replaced.append(self.whole + 1)
        else:
            self.missing += 1

    def ended(self, offset: int, sound: Callable[[bytes], bool]) -> None:
        """Nothing could be read at ``offset``; whether something was there.

        Args:
            sound: whether a line can follow what was read.
        """
        for rest in (_rest(self.path, offset), _rest(copy_of(self.path), offset)):
            lines = [line + b"\n" for line in rest.split(b"\n") if line]
            # Without an end of line it is what a crash left unfinished; a sound one was written just now.
            if b"\n" in rest and not (lines and sound(lines[0])):
                self.lost = max(self.lost, len(lines))
                self.lost_scores |= _RESCORED in rest

    def said(self, *, mended: bool) -> str:
        """Sentences for the user; empty where all is well.

        Args:
            mended: the files have been made whole, and are not only read.
        """
        name, copy = self.path, copy_of(self.path).name
        said = []
        verb = "restored" if mended else "read"
        if self.replaced:
            some = ", ".join(str(n) for n in self.replaced[:_NAMED])
            some += f" and {len(self.replaced) - _NAMED} more" if len(self.replaced) > _NAMED else ""
            line, was = ("line", "was") if len(self.replaced) == 1 else ("lines", "were")
            said.append(
                f"{name}: {line} {some} {was} damaged (the checksum does not fit) and {was} {verb} from "
                f"{copy}; nothing is lost by it."
            )
        if self.missing and (mended or not self.path.exists()):
            said.append(f"{name}: its last {_counted(self.missing)} missing and {verb} from {copy}.")
        if self.lost:
            said.append(
                f"{name}: line {self.whole + 1} is damaged here and in {copy}; from there on "
                f"{_counted(self.lost)} lost. What they said is worked out again by `orchestrate study`: "
                "finished trials are taken from their folders without training."
            )
        if self.lost_scores:
            said.append("Scores that `orchestrate rescore` had added must be added again.")
        if self.copy_damaged:
            said.append(f"{copy} was damaged and was written anew.")
        if self.kept:
            said.append(f"The damaged {_files(self.kept)}.")
        return " ".join(said)


def _counted(lines: int) -> str:
    return "line was" if lines == 1 else f"{lines} lines were"


def _files(kept: list[Path]) -> str:
    names = " and ".join(path.name for path in kept)
    return f"file is kept as {names}" if len(kept) == 1 else f"files are kept as {names}"


def _rest(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""


def mend(path: Path, damage: Damage, lines: Callable[[], Iterable[bytes]], end: int) -> None:
    """Make the ledger hold exactly its sound lines; a damaged one is kept under another name.

    Args:
        lines: gives the sound lines, oldest first.
        end: their size in bytes.
    """
    if damage.replaced or damage.missing or damage.lost:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        damaged = [path] if damage.replaced or damage.lost else []
        damaged += [copy_of(path)] if damage.lost else []
        for file in damaged:
            if file.exists():
                damage.kept.append(_kept(file, stamp))
        _write(path, lines())
    elif path.exists() and end < path.stat().st_size:
        os.truncate(path, end)


def bring_up(path: Path, damage: Damage) -> None:
    """Make the copy equal to the ledger, which is whole."""
    copy = copy_of(path)
    same = _common(path, copy)
    left = copy.stat().st_size - same if copy.exists() else 0
    if left:
        # A longer copy that agrees so far has an unfinished line, or what was said to be lost.
        damage.copy_damaged = same < path.stat().st_size and not _is_unfinished(copy, same)
        _write(copy, _blocks(path, 0))
    else:
        with copy.open("ab") as file:
            file.writelines(_blocks(path, same))


def _is_unfinished(copy: Path, same: int) -> bool:
    """Whether what differs is one line that was cut off."""
    return b"\n" not in _rest(copy, same)


def _common(first: Path, second: Path) -> int:
    """Bytes in which both files agree, from their start."""
    if not second.exists():
        return 0
    same = 0
    for one, other in itertools.zip_longest(_blocks(first, 0), _blocks(second, 0), fillvalue=b""):
        if one != other:
            pairs = enumerate(zip(one, other, strict=False))
            return same + next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
        same += len(one)
    return same


def _blocks(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while block := file.read(_BLOCK):
            yield block


def _kept(path: Path, stamp: str) -> Path:
    """A copy of a damaged file under a name of its own."""
    for number in itertools.count(1):
        more = f"-{number}" if number > 1 else ""
        kept = path.with_name(f"{path.stem}.damaged-{stamp}{more}{path.suffix}")
        if not kept.exists():
            shutil.copyfile(path, kept)
            return kept
    raise AssertionError("unreachable")


def _write(path: Path, content: Iterable[bytes]) -> None:
    """Replace a file at once: after a crash it holds the old content or the new."""
    draft = path.with_name(path.name + ".new")
    with draft.open("wb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
