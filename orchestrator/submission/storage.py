"""Where submissions lie: a folder, or a URI that pyarrow has a file system for."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.errors import Unavailable
from orchestrator.objects import Objects, folder_of

SUBMISSIONS = "submissions"


class Storage:
    """A study's output folder, as far as submissions are concerned.

    Args:
        place: a folder of this machine, or a URI such as ``s3://bucket/runs``.
    """

    def __init__(self, place: str) -> None:
        self.place = place.rstrip("/") or "/"

    @property
    def folder(self) -> Path | None:
        """The folder on this machine; None in an object store."""
        return folder_of(self.place)

    def write(self, submission: str, name: str, text: str) -> None:
        """Write a file of a submission; whole or not at all. Raises: Unavailable."""
        try:
            if self.folder is not None:
                _write_file(self.folder / SUBMISSIONS / submission / name, text)
                return
            Objects(self.place).put(f"{SUBMISSIONS}/{submission}/{name}", text.encode())
        except OSError as error:
            raise Unavailable(f"{self.place}: cannot be written ({error}); nothing was submitted") from error

    def read(self, submission: str, name: str) -> str:
        """Raises: FileNotFoundError; Unavailable."""
        try:
            if self.folder is not None:
                return (self.folder / SUBMISSIONS / submission / name).read_text(encoding="utf-8")
            return Objects(self.place).get(f"{SUBMISSIONS}/{submission}/{name}").decode()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unavailable(f"{self.place}: cannot be read ({error})") from error

    def submissions(self) -> list[str]:
        """The ids of all submissions, in no order. Raises: Unavailable."""
        try:
            if self.folder is not None:
                home = self.folder / SUBMISSIONS
                return [f.parent.name for f in home.glob("*/submission.json")]
            return Objects(self.place).folders(SUBMISSIONS)
        except OSError as error:
            raise Unavailable(f"{self.place}: cannot be read ({error})") from error


def _write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
