"""Published files, fetched from their publishers' addresses and held against the published checksums.

Addresses and MD5 sums are those that torchvision's data sets hold.
"""

from __future__ import annotations

import hashlib
import http.client
import importlib
import shutil
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads.data.published import torchvision_class

_BLOCK = 1 << 16
_TIMEOUT_SECONDS = 30.0
_AGENT = {"User-Agent": "orchestrate-losses"}


@dataclass(frozen=True)
class Progress:
    """How far a file is."""

    file: str
    done_bytes: int
    total_bytes: int | None
    """None where the server does not say."""


Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Published:
    """One file to fetch."""

    urls: tuple[str, ...]
    """The same file at several addresses, tried in turn."""
    file: str
    """Its path below the source's folder."""
    md5: str
    unpack: str | None = None
    """The folder, below the source's, that an archive is unpacked in; None: no archive."""


def published(name: str) -> tuple[Published, ...]:
    """The files of a source that torchvision knows, its training and test part."""
    known: Any = torchvision_class(name)
    if name in ("cifar10", "cifar100", "stl10"):
        return (Published((known.url,), known.filename, known.tgz_md5, unpack="."),)
    if name in ("mnist", "fashionmnist", "kmnist"):
        return tuple(
            Published(tuple(mirror + file for mirror in known.mirrors), f"{known.__name__}/raw/{file}", md5)
            for file, md5 in known.resources
        )
    if name == "emnist":
        return (Published((known.url,), "gzip.zip", known.md5, unpack="EMNIST/raw"),)
    if name == "svhn":
        parts = (known.split_list[part] for part in ("train", "test"))
        return tuple(Published((url,), file, md5) for url, file, md5 in parts)
    if name == "textures":
        return (Published((known._URL,), "dtd.tar.gz", known._MD5, unpack="dtd"),)
    files = (known._DEVKIT_META["standard"], known._IMAGES_META["val", True])
    return tuple(Published((known._BASE_URL + file,), file, md5, unpack=".") for file, md5 in files)


def download(files: Sequence[Published], folder: Path, watch: Watch) -> None:
    """Fetch files into ``folder`` and unpack archives there; what is there and right is not fetched again.

    A download that was cut off goes on where it stopped, also in a later call.

    Raises: ConnectionError where an address cannot be reached, or the connection is cut again and again;
        ValueError for content with another checksum, which is kept as ``<file>.bad``.
    """
    for each in files:
        target = folder / each.file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.is_file() and _md5(target) == each.md5):
            _get(each, target, watch)
        if each.unpack is not None:
            _unpack(target, folder / each.unpack)
            target.unlink()


def _get(wanted: Published, target: Path, watch: Watch) -> None:
    part = target.with_name(f"{target.name}.part")
    began_before = part.exists()
    url = _from_any(wanted, part, watch)
    found = _md5(part)
    if found != wanted.md5 and began_before:
        # What lay there may have been of another file: once more, from the start.
        part.unlink()
        url = _from_any(wanted, part, watch)
        found = _md5(part)
    if found != wanted.md5:
        bad = target.with_name(f"{target.name}.bad")
        part.replace(bad)
        raise ValueError(f"{url}: the MD5 must be {wanted.md5}; got {found}. What came is kept as {bad}")
    part.replace(target)


def _from_any(wanted: Published, part: Path, watch: Watch) -> str:
    """Fill ``part`` from the first address that gives the whole file; returns that address."""
    failures = []
    for url in wanted.urls:
        try:
            _whole(url, part, wanted.file, watch)
        except (OSError, http.client.HTTPException) as error:
            failures.append(f"{url} ({error})")
        else:
            return url
    raise ConnectionError(
        f"{wanted.file} could not be fetched from {' or '.join(failures)}. The same command goes on where it "
        f"stopped"
    )


def _whole(url: str, part: Path, file: str, watch: Watch) -> None:
    """Fetch until the file is whole, as long as each new connection brings something."""
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _some(url, part, before, file, watch):
                return
            reason = "the connection was cut"
        except (ConnectionResetError, http.client.HTTPException, TimeoutError) as error:
            reason = str(error) or type(error).__name__
        if (part.stat().st_size if part.exists() else 0) <= before:
            raise ConnectionError(reason)


def _some(url: str, part: Path, have: int, file: str, watch: Watch) -> bool:
    """One connection, from byte ``have`` on where the server can do that; whether the file is whole now."""
    ask = urllib.request.Request(url, headers={**_AGENT, **({"Range": f"bytes={have}-"} if have else {})})
    try:
        answer = urllib.request.urlopen(ask, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
                return True  # Nothing is left to fetch; the checksum tells whether it is the right file.
            raise
    with answer:
        goes_on = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        goes_on = goes_on and str(answer.headers.get("Content-Range", "")).startswith(f"bytes {have}-")
        done = have if goes_on else 0
        length = answer.headers.get("Content-Length")
        total = done + int(length) if length is not None else None
        with part.open("ab" if goes_on else "wb") as out:
            while block := answer.read(_BLOCK):
                out.write(block)
                done += len(block)
                watch(Progress(file, done, total))
    return total is None or done >= total


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _unpack(archive: Path, into: Path) -> None:
    """Unpack beside the place, and move there what is whole."""
    into.mkdir(parents=True, exist_ok=True)
    beside = into / f".{uuid.uuid4().hex}"
    try:
        beside.mkdir()
        importlib.import_module("torchvision.datasets.utils").extract_archive(str(archive), str(beside))
        for each in sorted(beside.iterdir()):
            place = into / each.name
            if place.is_dir():
                shutil.rmtree(place)
            each.replace(place)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
