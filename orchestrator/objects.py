"""Objects by name under a URI: S3, GCS, HDFS and whatever else pyarrow, or fsspec through it, can reach.

An object appears whole when it is written, and is replaced whole. What a wait cannot mend is
:class:`Refused`; every other trouble is a plain ``OSError`` and may pass.
"""

from __future__ import annotations

import atexit
import errno
import importlib
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from orchestrator.redaction import redacted

_Result = TypeVar("_Result")

_FOR_GOOD = {
    "NO_SUCH_BUCKET": "there is no such bucket",
    "ACCESS_DENIED": "access is denied",
    "INVALID_ACCESS_KEY_ID": "the access key is not known there",
    "SIGNATURE_DOES_NOT_MATCH": "the secret key does not fit the access key",
    "INVALID_CLIENT_TOKEN_ID": "the session token is not valid there",
    "UNRECOGNIZED_CLIENT": "the credentials are not known there",
    "MISSING_AUTHENTICATION_TOKEN": "there are no credentials",
    "OPT_IN_REQUIRED": "the account has no access to that region",
    "HTTP status 403": "access is denied",
    "QuotaExceeded": "the quota is used up",
    "InsufficientStorage": "the storage is full",
    "HTTP status 507": "the storage is full",
    "PERMISSION_DENIED": "access is denied",
    "UNAUTHENTICATED": "there are no valid credentials",
}
"""How stores name what a wait cannot mend (S3 and its kin, GCS), and what that means."""
_FOR_GOOD_NUMBERS = {
    errno.EPERM: "access is denied",
    errno.EACCES: "access is denied",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
}
"""Of stores that are file systems."""
_LONGEST_PAUSE = 10.0


class Refused(OSError):
    """The store will not have it: no bucket, no credentials, no access, no room."""


class BadPlace(ValueError):
    """A URI that cannot name a place for objects."""


@dataclass(frozen=True)
class Listed:
    """An object as its store lists it."""

    size: int
    """Bytes."""
    at: float
    """When it was written, seconds since the epoch, by the store's clock."""


def is_uri(place: str) -> bool:
    """Whether a place is a URI and not a folder's path."""
    return "://" in place


def folder_of(place: str) -> Path | None:
    """The folder of this machine that a path or a ``file:`` URI names; None for a store."""
    if not is_uri(place):
        return Path(place)
    parts = urlsplit(place)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def require_place(uri: str) -> str:
    """The URI without a slash at its end. Raises: BadPlace for one that holds a login or names no bucket."""
    parts = urlsplit(uri)
    if parts.username or parts.password:
        raise BadPlace(
            "must not hold a login: give credentials by the environment (AWS_ACCESS_KEY_ID ...) or a profile"
        )
    if not parts.netloc and not parts.scheme.startswith("fsspec+"):
        raise BadPlace("names no bucket")
    if parts.fragment:
        raise BadPlace("must not hold a #")
    return parts._replace(path=parts.path.rstrip("/")).geturl()


class Objects:
    """The objects of one place.

    Args:
        uri: such as ``s3://bucket/runs``; a query is pyarrow's (``endpoint_override``, ``region`` ...).
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.place = uri.partition("?")[0].rstrip("/")
        """The URI as it is shown."""
        self._opened: tuple[Any, str] | None = None
        self.sent = 0
        """Bytes written by this object."""
        self.received = 0
        """Bytes read by this object."""

    def put(self, name: str, content: bytes | Path) -> None:
        """Write an object, or a file's content as one. Raises: Refused; OSError."""
        arrow = importlib.import_module("pyarrow")
        # The file is open before the object is: an object whose writing an error ends would stay as a half.
        data = content if isinstance(content, bytes) else _mapped(arrow, content)

        def write(system: Any, root: str) -> None:
            path = f"{root}/{name}"
            if system.type_name in ("local", "hdfs"):
                # These have folders, and show a file while it is written.
                system.create_dir(path.rpartition("/")[0], recursive=True)
                with system.open_output_stream(f"{path}.part") as stream:
                    stream.write(data)
                if system.type_name == "hdfs":
                    # It does not move a file over another.
                    with suppress(OSError):
                        system.delete_file(path)
                system.move(f"{path}.part", path)
                return
            with system.open_output_stream(path) as stream:
                stream.write(data)

        self._asked("written", name, write)
        self.sent += len(data) if isinstance(data, bytes) else data.size

    def get(self, name: str) -> bytes:
        """Raises: FileNotFoundError; Refused; OSError."""

        def read(system: Any, root: str) -> bytes:
            with system.open_input_stream(f"{root}/{name}") as stream:
                return bytes(stream.read())

        content = self._asked("read", name, read)
        self.received += len(content)
        return content

    def fetch(self, name: str, path: Path) -> None:
        """An object's content into a file, which appears whole. Raises: as :meth:`get`."""
        draft = path.with_name(f".{path.name}.fetched")

        def read(system: Any, root: str) -> None:
            with system.open_input_stream(f"{root}/{name}") as stream:
                path.parent.mkdir(parents=True, exist_ok=True)
                with draft.open("wb") as file:
                    while block := stream.read(2**23):
                        file.write(block)
                        self.received += len(block)

        try:
            self._asked("read", name, read)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def listed(self, folder: str = "") -> Mapping[str, Listed]:
        """Every object under a folder, at any depth, by its name from there. Raises: Refused; OSError."""
        return {
            info.path: Listed(int(info.size or 0), info.mtime.timestamp() if info.mtime else 0.0)
            for info in self._found(folder, deep=True)
            if info.is_file and not info.base_name.endswith(".part")
        }

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder. Raises: Refused; OSError."""
        kind = importlib.import_module("pyarrow.fs").FileType.Directory
        return sorted(info.base_name for info in self._found(folder, deep=False) if info.type == kind)

    def delete(self, name: str) -> None:
        """Delete an object; nothing where there is none. Raises: Refused; OSError."""
        with suppress(FileNotFoundError):
            self._asked("deleted", name, lambda system, root: system.delete_file(f"{root}/{name}"))

    def copy(self, name: str, to: str) -> None:
        """Copy an object within the store. Raises: FileNotFoundError; Refused; OSError."""

        def copied(system: Any, root: str) -> None:
            if system.type_name in ("local", "hdfs"):
                system.create_dir(f"{root}/{to}".rpartition("/")[0], recursive=True)
            system.copy_file(f"{root}/{name}", f"{root}/{to}")

        self._asked("copied", name, copied)

    def _found(self, folder: str, *, deep: bool) -> list[Any]:
        fs = importlib.import_module("pyarrow.fs")

        def look(system: Any, root: str) -> list[Any]:
            home = f"{root}/{folder}".rstrip("/")
            selector = fs.FileSelector(home, recursive=deep, allow_not_found=True)
            return [_Info(info, home) for info in system.get_file_info(selector)]

        return self._asked("listed", folder, look)

    def _asked(self, what: str, name: str, action: Callable[[Any, str], _Result]) -> _Result:
        shown = f"{self.place}/{name}".rstrip("/")
        try:
            return action(*self._system())
        except FileNotFoundError as error:
            if "NO_SUCH_BUCKET" in str(error) or "NoSuchBucket" in str(error):
                raise Refused(f"{shown}: cannot be {what}: there is no such bucket") from error
            raise
        except OSError as error:
            if isinstance(error, Refused):
                raise
            told = redacted(str(error))
            why = next((text for word, text in _FOR_GOOD.items() if word in told), "")
            why = why or _FOR_GOOD_NUMBERS.get(error.errno or 0, "")
            if why:
                raise Refused(f"{shown}: cannot be {what}: {why}") from error
            raise OSError(f"{shown}: cannot be {what} now ({_short(told)})") from error

    def _system(self) -> tuple[Any, str]:
        if self._opened is None:
            try:
                found = importlib.import_module("pyarrow.fs").FileSystem.from_uri(_quick(self.uri))
            except (ValueError, ImportError) as error:
                # A scheme that needs a package that is not there is no better than one that nobody knows.
                why = str(error).splitlines()[0]
                raise Refused(f"{self.place}: is no storage that can be reached ({why})") from error
            except OSError as error:
                raise Refused(f"{self.place}: cannot be reached ({_short(str(error))})") from error
            self._opened = found[0], found[1].rstrip("/")
        return self._opened


class _Info:
    """A file or folder of a listing, with its path from where it was looked for."""

    def __init__(self, info: Any, home: str) -> None:
        self.type = info.type
        self.is_file = bool(info.is_file)
        self.size = info.size
        self.mtime = info.mtime
        self.base_name = str(info.base_name)
        self.path = str(info.path).removeprefix(home).lstrip("/")


def patiently(
    action: Callable[[], _Result],
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> _Result:
    """Do something that may fail for a while, again and again, for so long.

    Raises: what it raised last; Refused and FileNotFoundError at once.
    """
    end, wait = clock() + seconds, 0.25
    while True:
        try:
            return action()
        except (Refused, FileNotFoundError):
            raise
        except OSError:
            if clock() + wait > end:
                raise
        pause(wait)
        wait = min(2 * wait, _LONGEST_PAUSE)


_QUICK = {
    # One request for a small object, where S3 otherwise takes three.
    "s3": "allow_delayed_open=true",
    # Otherwise pyarrow tries a store that does not answer for a quarter of an hour.
    "gs": "retry_limit_seconds=10",
    "gcs": "retry_limit_seconds=10",
}


def leave_stores() -> None:
    """To be called where this process is about to end, and not by taking the interpreter apart.

    At an ordinary end pyarrow waits until every request has been answered, however long that takes.
    """
    module = sys.modules.get("pyarrow.fs")
    if module is not None and hasattr(module, "ensure_s3_finalized"):
        atexit.unregister(module.ensure_s3_finalized)


def _quick(uri: str) -> str:
    wanted = _QUICK.get(urlsplit(uri).scheme, "")
    if not wanted or wanted.partition("=")[0] in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}{wanted}"


def _mapped(arrow: Any, path: Path) -> Any:
    if path.stat().st_size == 0:
        return b""
    with arrow.memory_map(str(path)) as file:
        return file.read_buffer()


def _short(text: str) -> str:
    """What a library says of a failed request, without its headers and addresses of requests."""
    lines = text.strip().splitlines()
    first = lines[0] if lines else "no reason given"
    _, found, tail = first.partition(": AWS Error ")
    return (tail if found else first)[:200]
