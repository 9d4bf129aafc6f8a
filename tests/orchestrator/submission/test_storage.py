"""Submissions in a folder and behind a URI: one behaviour."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import Unavailable
from orchestrator.submission.storage import Storage


class ThroughPyarrow(Storage):
    """A local folder, written as an object store is."""

    @property
    def folder(self) -> Path | None:
        return None


@pytest.fixture(params=["folder", "pyarrow"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage(str(tmp_path / "runs"))
    # An object store has no folders that must be made; this one has.
    (tmp_path / "runs" / "submissions" / "x-1").mkdir(parents=True)
    (tmp_path / "runs" / "submissions" / "x-2").mkdir()
    return ThroughPyarrow(f"file://{tmp_path}/runs/")


def test_what_is_written_is_read_and_listed(storage: Storage, tmp_path: Path) -> None:
    storage.write("x-1", "submission.json", "größe\n")
    storage.write("x-2", "submission.json", "2")
    storage.write("x-2", "submission.json", "two")
    assert (
        tmp_path / "runs" / "submissions" / "x-1" / "submission.json"
    ).read_bytes() == b"gr\xc3\xb6\xc3\x9fe\n"
    assert storage.read("x-1", "submission.json") == "größe\n"
    assert storage.read("x-2", "submission.json") == "two"
    assert sorted(storage.submissions()) == ["x-1", "x-2"]
    with pytest.raises(FileNotFoundError):
        storage.read("x-3", "submission.json")


def test_nothing_is_left_beside_a_file(tmp_path: Path) -> None:
    Storage(str(tmp_path)).write("x", "a.txt", "1")
    assert [f.name for f in (tmp_path / "submissions" / "x").iterdir()] == ["a.txt"]


def test_a_storage_without_submissions_is_empty(tmp_path: Path) -> None:
    assert Storage(str(tmp_path)).submissions() == []
    assert ThroughPyarrow(f"file://{tmp_path}").submissions() == []


def test_a_file_uri_is_its_folder_and_another_uri_is_none() -> None:
    assert Storage("file:///a%20b/c/").folder == Path("/a b/c")
    assert Storage("/a/b/").folder == Path("/a/b")
    assert Storage("s3://bucket/runs").folder is None


def test_a_storage_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match=r"file: cannot be written .*nothing was submitted"):
        Storage(str(tmp_path / "file")).write("x", "a", "")
    with pytest.raises(Unavailable, match="nosuch://x: is no storage that can be reached"):
        Storage("nosuch://x").submissions()
