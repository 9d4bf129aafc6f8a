"""Hashes over raw files, and what is remembered of them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from workloads.data import fingerprints
from workloads.data.fingerprints import fingerprint


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files, old enough to be remembered."""
    made = [tmp_path / "raw" / name for name in ("a.bin", "b.bin")]
    made[0].parent.mkdir()
    for i, path in enumerate(made):
        path.write_bytes(bytes([i]) * 100)
    return made


def _hash(files: list[Path], note: str = "") -> str:
    return fingerprint(files, files[0].parent, note, files[0].parent.parent / "memory")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, with the clock a minute ahead."""
    names: list[str] = []
    real, now = fingerprints._content, time.time_ns

    def counted(path: Path) -> str:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(fingerprints, "_content", counted)
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)
    return names


def test_unchanged_files_are_read_once(files: list[Path], reads: list[str]) -> None:
    first = _hash(files)
    assert _hash(files) == first
    assert reads == ["a.bin", "b.bin"]


def test_a_file_changed_in_place_with_its_time_set_back_is_noticed(
    files: list[Path], reads: list[str]
) -> None:
    before, state = _hash(files), files[0].stat()
    files[0].write_bytes(b"x" * 100)
    os.utime(files[0], ns=(state.st_atime_ns, state.st_mtime_ns))
    assert _hash(files) != before


def test_files_that_changed_just_now_are_not_remembered(files: list[Path]) -> None:
    _hash(files)
    assert not (files[0].parent.parent / "memory").exists()


def test_the_hash_depends_on_content_name_and_note_and_on_no_place_or_time(
    files: list[Path], tmp_path: Path
) -> None:
    before = _hash(files)
    assert _hash(files, "other") != before
    assert _hash(files[:1]) != before
    moved = files[0].parent.rename(tmp_path / "moved")
    os.utime(moved / "a.bin", (1, 1))
    there = [moved / path.name for path in files]
    assert _hash(there) == before
    (moved / "a.bin").rename(moved / "c.bin")
    assert _hash([moved / "c.bin", moved / "b.bin"]) != before


def test_a_damaged_memory_is_started_anew(files: list[Path], reads: list[str]) -> None:
    before = _hash(files)
    (files[0].parent.parent / "memory" / fingerprints.MEMORY).write_text("{")
    assert _hash(files) == before
    assert len(reads) == 4
