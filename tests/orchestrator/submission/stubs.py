"""Commands of a cluster that is not here: they note how they were called, and answer as the test wants."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

_NOTE = """\
#!/bin/bash
printf '%s\\0' {name} "$@" {end} >> {calls}
. {body}
"""
_END = "<end of a call>"


class Stubs:
    """A folder of commands, to be put first on the ``PATH``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir()
        self._calls = folder / "calls"

    def add(self, name: str, body: str = "") -> None:
        """A command that does what a text for bash says."""
        script = self.folder / f".{name}.sh"
        script.write_text(body)
        file = self.folder / name
        paths = {"calls": shlex.quote(str(self._calls)), "body": shlex.quote(str(script))}
        file.write_text(_NOTE.format(name=name, end=shlex.quote(_END), **paths))
        file.chmod(0o755)

    def say(self, name: str, printed: str, *, status: int = 0, error: str = "") -> None:
        """A command that prints a text, and perhaps complains."""
        for kind, text in (("out", printed), ("err", error)):
            (self.folder / f".{name}.{kind}").write_text(text)
        here = self.folder
        self.add(name, f"cat '{here}/.{name}.out'; cat '{here}/.{name}.err' >&2; exit {status}")

    @property
    def calls(self) -> list[list[str]]:
        """Every call so far, with its arguments."""
        if not self._calls.exists():
            return []
        found: list[list[str]] = [[]]
        for word in self._calls.read_text().split("\0")[:-1]:
            if word == _END:
                found.append([])
            else:
                found[-1].append(word)
        return found[:-1]

    def called(self, name: str) -> list[list[str]]:
        return [call[1:] for call in self.calls if call[0] == name]

    @property
    def path(self) -> str:
        return f"{self.folder}:{os.environ['PATH']}"
