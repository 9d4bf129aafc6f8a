"""Downloads from a server on this machine: resumed, verified, unpacked."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workloads.data.serving import Server, serving
from workloads.data.catalogue import SOURCES
from workloads.data.download import Progress, Published, download, published

CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as state:
        state.files["a.bin"] = CONTENT
        yield state


def _quiet(_: Progress) -> None:
    """Nobody watches."""


def _file(server: Server, md5: str = MD5) -> Published:
    return Published((server.url + "a.bin",), "below/a.bin", md5)


def test_a_file_arrives_whole_and_its_progress_is_told(server: Server, tmp_path: Path) -> None:
    seen: list[Progress] = []
    download([_file(server)], tmp_path, seen.append)
    assert (tmp_path / "below" / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["a.bin"]
    assert seen[-1] == Progress("below/a.bin", len(CONTENT), len(CONTENT))
    assert [each.done_bytes for each in seen] == sorted({each.done_bytes for each in seen})


def test_a_file_that_is_there_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        download([_file(server)], tmp_path, _quiet)
    assert len(server.asked) == 1


def test_a_cut_connection_is_taken_up_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 50_000]
    seen: list[Progress] = []
    download([_file(server)], tmp_path, seen.append)
    assert (tmp_path / "below" / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["", "bytes=100000-", "bytes=150000-"]
    assert {each.total_bytes for each in seen} == {len(CONTENT)}


def test_a_later_call_goes_on_with_the_part_that_is_there(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0]
    with pytest.raises(ConnectionError, match=r"below/a\.bin could not be fetched.*goes on where it stopped"):
        download([_file(server)], tmp_path, _quiet)
    assert (tmp_path / "below" / "a.bin.part").read_bytes() == CONTENT[:100_000]
    download([_file(server)], tmp_path, _quiet)
    assert (tmp_path / "below" / "a.bin").read_bytes() == CONTENT
    assert server.asked[-1][1] == "bytes=100000-"


def test_a_server_that_cannot_go_on_in_the_middle_starts_again(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [100_000]
    download([_file(server)], tmp_path, _quiet)
    assert (tmp_path / "below" / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [b"of another file", CONTENT + b"too long", CONTENT])
def test_what_an_earlier_call_left_never_spoils_the_file(server: Server, tmp_path: Path, left: bytes) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.bin.part").write_bytes(left)
    download([_file(server)], tmp_path, _quiet)
    assert (tmp_path / "below" / "a.bin").read_bytes() == CONTENT
    assert not (tmp_path / "below" / "a.bin.part").exists()


def test_a_wrong_checksum_says_both_and_keeps_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"MD5 must be {'0' * 32}; got {MD5}. What came is kept as"):
        download([_file(server, "0" * 32)], tmp_path, _quiet)
    assert [path.name for path in (tmp_path / "below").iterdir()] == ["a.bin.bad"]
    assert (tmp_path / "below" / "a.bin.bad").read_bytes() == CONTENT


def test_a_damaged_file_in_place_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.bin").write_bytes(CONTENT[:-1])
    download([_file(server)], tmp_path, _quiet)
    assert (tmp_path / "below" / "a.bin").read_bytes() == CONTENT


def test_the_next_address_is_tried_and_all_are_named_where_none_answers(
    server: Server, tmp_path: Path
) -> None:
    there, gone = server.url + "a.bin", server.url + "gone.bin"
    download([Published((gone, there), "a.bin", MD5)], tmp_path / "one", _quiet)
    assert (tmp_path / "one" / "a.bin").read_bytes() == CONTENT
    with pytest.raises(ConnectionError, match=r"gone\.bin \(HTTP Error 404.* or http://127\.0\.0\.1:9/"):
        download([Published((gone, "http://127.0.0.1:9/x"), "b.bin", MD5)], tmp_path / "two", _quiet)


def test_an_archive_is_unpacked_whole_over_what_was_left_of_it(server: Server, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in (("set/a.txt", b"A"), ("set/b/c.txt", b"C")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    server.files["set.tar.gz"] = packed.getvalue()
    md5 = hashlib.md5(packed.getvalue()).hexdigest()
    (tmp_path / "into" / "set").mkdir(parents=True)
    (tmp_path / "into" / "set" / "half.txt").write_bytes(b"")
    wanted = Published((server.url + "set.tar.gz",), "set.tar.gz", md5, unpack="into")
    download([wanted], tmp_path, _quiet)
    files = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["into/set/a.txt", "into/set/b/c.txt"]
    assert (tmp_path / "into" / "set" / "b" / "c.txt").read_bytes() == b"C"


@pytest.mark.parametrize("name", sorted(name for name in SOURCES if "fetch" in SOURCES[name].facts))
def test_every_source_that_can_be_fetched_has_addresses_and_checksums(name: str) -> None:
    files = published(name)
    assert files
    for each in files:
        assert all(url.startswith(("http://", "https://")) for url in each.urls)
        assert len(each.md5) == 32
        assert each.file == each.file.lstrip("/")
    assert len({each.file for each in files}) == len(files)
