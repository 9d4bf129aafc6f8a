"""Where submissions lie: a folder, or a URI that pyarrow has a file system for."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from orchestrator.errors import Unavailable

_FOLDER = "submissions"


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
        if "://" not in self.place:
            return Path(self.place)
        url = urlsplit(self.place)
        return Path(unquote(url.path)) if url.scheme == "file" else None

    def write(self, submission: str, name: str, text: str) -> None:
        """Write a file of a submission; whole or not at all. Raises: Unavailable."""
        try:
            if self.folder is not None:
                _write_file(self.folder / _FOLDER / submission / name, text)
                return
            system, root = self._remote()
            # An object appears whole when its stream is closed.
            with system.open_output_stream(f"{root}/{_FOLDER}/{submission}/{name}") as stream:
                stream.write(text.encode())
        except OSError as error:
            raise Unavailable(f"{self.place}: cannot be written ({error}); nothing was submitted") from error

    def read(self, submission: str, name: str) -> str:
        """Raises: FileNotFoundError; Unavailable."""
        try:
            if self.folder is not None:
                return (self.folder / _FOLDER / submission / name).read_text(encoding="utf-8")
            system, root = self._remote()
            with system.open_input_stream(f"{root}/{_FOLDER}/{submission}/{name}") as stream:
                return bytes(stream.read()).decode()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise Unavailable(f"{self.place}: cannot be read ({error})") from error

    def submissions(self) -> list[str]:
        """The ids of all submissions, in no order. Raises: Unavailable."""
        try:
            if self.folder is not None:
                home = self.folder / _FOLDER
                return [f.parent.name for f in home.glob("*/submission.json")]
            fs = importlib.import_module("pyarrow.fs")
            system, root = self._remote()
            found = system.get_file_info(fs.FileSelector(f"{root}/{_FOLDER}", allow_not_found=True))
            return [info.base_name for info in found if info.type == fs.FileType.Directory]
        except OSError as error:
            raise Unavailable(f"{self.place}: cannot be read ({error})") from error

    def _remote(self) -> tuple[Any, str]:
        try:
            system, root = importlib.import_module("pyarrow.fs").FileSystem.from_uri(self.place)
        except ValueError as error:
            raise Unavailable(f"{self.place}: is no storage that can be reached ({error})") from error
        return system, root.rstrip("/")


def _write_file(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
