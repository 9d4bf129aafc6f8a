"""A store in a folder, which can be out of reach, or refuse, at chosen moments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator.objects import Objects, Refused


class FolderStore(Objects):
    """Objects behind ``file:``, with a count of what is done to them.

    Args:
        fails: asked before everything that is done, with the word for it and the object's name; raises what
            the store should raise.
    """

    def __init__(self, folder: Path, fails: Callable[[str, str], None] = lambda what, name: None) -> None:
        super().__init__(f"file://{folder}")
        self.folder = folder
        self.fails = fails
        self.done: list[tuple[str, str]] = []

    def _asked(self, what: str, name: str, action: Callable[[Any, str], Any]) -> Any:
        self.fails(what, name)
        self.done.append((what, name))
        return super()._asked(what, name, action)

    def written(self) -> list[str]:
        return [name for what, name in self.done if what == "written"]


class Weather:
    """When a store is out of reach, or refuses."""

    def __init__(self) -> None:
        self.down = 0
        """So many things that are asked of it fail."""
        self.refuses = ""
        """The beginning of names that may not be written."""

    def __call__(self, what: str, name: str) -> None:
        if self.refuses and what == "written" and name.startswith(self.refuses):
            raise Refused(f"{name}: cannot be written: access is denied")
        if self.down > 0:
            self.down -= 1
            raise OSError(f"{name}: cannot be {what} now (no route)")
