"""Places by URI, objects under them, and which troubles a wait can mend."""

from __future__ import annotations

import errno
import importlib
from pathlib import Path
from typing import Any

import pytest

from orchestrator.objects import BadPlace, Listed, Objects, Refused, folder_of, patiently, require_place


def test_a_folder_and_a_file_uri_are_folders_and_another_uri_is_none() -> None:
    assert folder_of("runs/x") == Path("runs/x")
    assert folder_of("file:///a%20b/c") == Path("/a b/c")
    assert folder_of("s3://bucket/runs") is None


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("s3://key:secret@bucket/runs", "must not hold a login"),
        ("s3://key@bucket/runs", "must not hold a login"),
        ("s3:///runs", "names no bucket"),
        ("s3://bucket/a#b", "must not hold a #"),
    ],
)
def test_a_uri_that_cannot_be_a_place_is_refused_by_its_rule(uri: str, why: str) -> None:
    with pytest.raises(BadPlace, match=why):
        require_place(uri)


def test_a_slash_at_the_end_makes_no_other_place_and_a_query_stays() -> None:
    assert require_place("s3://bucket/runs/") == "s3://bucket/runs"
    assert require_place("s3://bucket/runs/?region=eu-west-1") == "s3://bucket/runs?region=eu-west-1"
    assert Objects("s3://bucket/runs?region=eu-west-1").place == "s3://bucket/runs"


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects((tmp_path / "store").as_uri())


def test_what_is_put_is_got_listed_copied_and_deleted(objects: Objects, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    (tmp_path / "empty").touch()
    objects.put("a/b/one", b"one")
    objects.put("a/two", file)
    objects.put("a/two", file)
    objects.put("a/none", tmp_path / "empty")
    assert (objects.get("a/b/one"), objects.get("a/two"), objects.get("a/none")) == (b"one", b"12345", b"")
    assert {name: each.size for name, each in objects.listed("a").items()} == {
        "b/one": 3,
        "two": 5,
        "none": 0,
    }
    assert (objects.folders(), objects.folders("a"), objects.folders("c")) == (["a"], ["b"], [])
    assert objects.listed("nothing") == {}
    assert objects.sent == 3 + 5 + 5
    objects.copy("a/two", "c/d/two")
    objects.delete("a/two")
    objects.delete("a/two")
    assert set(objects.listed()) == {"a/b/one", "a/none", "c/d/two"}
    objects.fetch("c/d/two", tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == b"12345"
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["copy"]


def test_an_object_that_is_not_there_is_not_found_and_leaves_no_file(
    objects: Objects, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        objects.get("a")
    with pytest.raises(FileNotFoundError):
        objects.fetch("a", tmp_path / "into" / "a")
    with pytest.raises(FileNotFoundError):
        objects.put("a", tmp_path / "no file")
    assert not list(tmp_path.glob("into/*"))
    assert objects.listed() == {}


def test_a_scheme_that_nobody_knows_is_refused() -> None:
    with pytest.raises(Refused, match="nosuch://x: is no storage that can be reached"):
        Objects("nosuch://x").listed()


class Failing:
    """A file system whose every request fails."""

    type_name = "s3"

    def __init__(self, error: Exception) -> None:
        self._error = error

    def open_output_stream(self, path: str) -> Any:
        raise self._error

    open_input_stream = delete_file = open_output_stream


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            OSError("When x: AWS Error NO_SUCH_BUCKET during PutObject operation: y"),
            "there is no such bucket",
        ),
        (OSError("AWS Error ACCESS_DENIED during PutObject operation"), "access is denied"),
        (OSError("AWS Error UNKNOWN (HTTP status 403) during PutObject"), "access is denied"),
        (OSError("AWS Error UNKNOWN (HTTP status 507) during x: no room"), "the storage is full"),
        (OSError(errno.ENOSPC, "No space left on device"), "the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied"), "access is denied"),
    ],
)
def test_what_a_wait_cannot_mend_is_refused_in_words(
    error: Exception, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = Objects("s3://bucket/runs")
    monkeypatch.setattr(objects, "_opened", (Failing(error), "bucket/runs"))
    with pytest.raises(Refused, match=f"s3://bucket/runs/a: cannot be written: {why}"):
        objects.put("a", b"")


def test_what_may_pass_is_a_plain_error_that_says_what_the_store_said_and_no_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-hush")
    objects = Objects("s3://bucket/runs")
    error = OSError("When getting x: AWS Error NETWORK_CONNECTION during y: hush-hush refused\nheaders")
    monkeypatch.setattr(objects, "_opened", (Failing(error), "bucket/runs"))
    with pytest.raises(OSError, match="a: cannot be read now") as raised:
        objects.get("a")
    assert not isinstance(raised.value, Refused)
    assert str(raised.value).endswith("(NETWORK_CONNECTION during y: *** refused)")


def test_patience_tries_until_it_works_or_the_time_is_over() -> None:
    now, tries = 0.0, 0

    def pause(seconds: float) -> None:
        nonlocal now
        now += seconds

    def works_at(moment: float) -> str:
        nonlocal tries
        tries += 1
        if now < moment:
            raise OSError("away")
        return "done"

    assert patiently(lambda: works_at(20), 60, lambda: now, pause) == "done"
    assert 20 <= now <= 35
    assert 5 <= tries <= 10, "the pauses grow"
    now, tries = 0.0, 0
    with pytest.raises(OSError, match="away"):
        patiently(lambda: works_at(100), 60, lambda: now, pause)
    assert 50 <= now <= 60
    for kind in (Refused, FileNotFoundError):
        tries = 0

        def refuse(kind: type[OSError] = kind) -> None:
            nonlocal tries
            tries += 1
            raise kind("no")

        with pytest.raises(kind):
            patiently(refuse, 60, lambda: now, pause)
        assert tries == 1


def test_a_small_object_is_one_request_and_gcs_is_not_tried_for_a_quarter_of_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    class FileSystem:
        @staticmethod
        def from_uri(uri: str) -> tuple[Any, str]:
            asked.append(uri)
            return Failing(OSError("x")), "root"

    real = importlib.import_module
    module = type("fs", (), {"FileSystem": FileSystem})
    monkeypatch.setattr(importlib, "import_module", lambda n: module if n == "pyarrow.fs" else real(n))
    for uri in ("s3://b/r", "s3://b/r?region=x", "s3://b?allow_delayed_open=false", "gs://b/r"):
        with pytest.raises(OSError, match="now"):
            Objects(uri).get("a")
    assert asked == [
        "s3://b/r?allow_delayed_open=true",
        "s3://b/r?region=x&allow_delayed_open=true",
        "s3://b?allow_delayed_open=false",
        "gs://b/r?retry_limit_seconds=10",
    ]


def test_a_half_written_file_of_a_file_system_is_not_listed(objects: Objects, tmp_path: Path) -> None:
    objects.put("a", b"1")
    (tmp_path / "store" / "b.part").write_bytes(b"half")
    # To a microsecond.
    written = (tmp_path / "store" / "a").stat().st_mtime
    found = objects.listed()
    assert found == {"a": Listed(1, found["a"].at)}
    assert found["a"].at == pytest.approx(written, abs=1e-5)
