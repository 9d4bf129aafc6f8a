"""Decoded once: what is kept, shared and made again."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from tests.workloads.data.making import encoded, pictures, write_images, write_parquet, write_set
from workloads.data import decoding, parquet
from workloads.data.decoding import Uneven, Wanted, decoded
from workloads.data.images import Part
from workloads.data.location import find

WANTED = Wanted("set", "test")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_set(tmp_path / "set")
    return tmp_path / "set"


def _decoded(raw: Path, wanted: Wanted = WANTED) -> Part:
    return decoded(find(str(raw), "test", None), wanted, raw.parent / "root")


def _folders(raw: Path) -> list[Path]:
    shelf = raw.parent / "root" / "decoded"
    return sorted(path for path in shelf.iterdir() if path.is_dir()) if shelf.exists() else []


def test_a_second_call_decodes_nothing_and_gives_mapped_files(
    raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _decoded(raw)

    def again(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(decoding, "_fill", again)
    second = _decoded(raw)
    assert isinstance(second.images, np.memmap)
    assert second.images.mode == "r"
    np.testing.assert_array_equal(first.images, second.images)
    assert first.origin == second.origin


def test_other_raw_files_and_other_wishes_have_another_folder(raw: Path) -> None:
    first = _decoded(raw)
    _decoded(raw, Wanted("set", "test", size=(16, 16)))
    write_set(raw, seed=1)
    assert (_decoded(raw).images != first.images).any()
    assert len(_folders(raw)) == 3


@pytest.mark.parametrize("name", ["test.npy", "test_labels.npy", "facts.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_folder_is_made_again(raw: Path, name: str, damage: str) -> None:
    expected = np.array(_decoded(raw).images)
    (folder,) = _folders(raw)
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if damage == "cut":
        (folder / name).write_bytes(content[:-1] if name != "facts.json" else content[: len(content) // 2])
    np.testing.assert_array_equal(_decoded(raw).images, expected)
    assert (folder / name).read_bytes() == content
    assert _folders(raw) == [folder]


def test_threads_that_decode_at_once_all_get_the_images(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, real = threading.Barrier(4, timeout=60), decoding._decode

    def at_once(*arguments: object) -> object:
        record = real(*arguments)  # type: ignore[arg-type]
        together.wait()
        return record

    monkeypatch.setattr(decoding, "_decode", at_once)
    parts: list[Part] = []
    threads = [threading.Thread(target=lambda: parts.append(_decoded(raw))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(parts) == 4
    assert all((part.images == parts[0].images).all() for part in parts)
    assert len(_folders(raw)) == 1


def _sum(raw: Path) -> int:
    return int(_decoded(raw).images.sum())


def test_two_processes_that_decode_at_once_both_succeed(raw: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sums = pool.map(_sum, [raw] * 2, chunksize=1)
    assert sums == [_sum(raw)] * 2
    assert len(_folders(raw)) == 1


def test_many_threads_put_every_image_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_SMALL_BYTES", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    images = pictures(2300, (1, 6, 6))
    write_parquet(tmp_path / "set" / "test-0.parquet", list(images), None)
    np.testing.assert_array_equal(_decoded(tmp_path / "set").images, images)


def test_of_several_damaged_images_the_first_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "BATCH", 150)
    images: list[bytes] = [encoded(image) for image in pictures(300)]
    # Both in the second batch, and there decoded by two jobs.
    for row in (221, 290):
        images[row] = b"nothing"
    write_parquet(tmp_path / "set" / "test-0.parquet", images, None)
    with pytest.raises(ValueError, match="row 221 "):
        _decoded(tmp_path / "set")


def test_images_of_several_sizes_are_brought_to_the_fallback_or_refused(tmp_path: Path) -> None:
    raw = tmp_path / "set"
    write_images(raw, {"a.png": pictures(1)[0], "b.png": pictures(1, (3, 8, 9))[0]})
    with pytest.raises(
        Uneven, match=r"b\.png: must be like the first image, colour, 8x8 pixels; got colour, 9x8"
    ):
        _decoded(raw)
    part = _decoded(raw, Wanted("set", "test", fallback=(4, 4)))
    assert part.images.shape == (2, 3, 4, 4)
    assert part.origin.conversion == "resize varied->4"


def test_grey_beside_colour_is_refused_unless_channels_are_named(tmp_path: Path) -> None:
    raw = tmp_path / "set"
    write_images(raw, {"a.png": pictures(1)[0], "b.png": pictures(1, (1, 8, 8))[0]})
    with pytest.raises(Uneven, match=r"b\.png: .* got grey, 8x8"):
        _decoded(raw)
    assert _decoded(raw, Wanted("set", "test", channels=3)).origin.conversion == "grey_to_colour 1 of 2"
