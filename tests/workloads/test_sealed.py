"""Sealed files: what is written comes back, and no change of a bit is taken for what was written."""

from __future__ import annotations

import hashlib
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from workloads.arrays import read_arrays
from workloads.measurement.outputs import read_scores, write_arrays
from workloads.sealed import (
    Damaged,
    file_digest,
    has_whole_payload,
    read_sealed,
    sealed,
    with_trailer,
    without_trailer,
)
from workloads.training.storage import write_json

RECORD: dict[str, Any] = {
    "metrics": {"ood/near/msp/fpr95": 0.1 + 0.2, "tiny": 1e-17, "none": None, "count": 10, "big": 1e22},
    "notes": ['with "quotes"', "and ü"],
    "by number": {2: "two", 10: "ten"},
    "pair": (1, 2.0),
}
READ = {**RECORD, "by number": {"2": "two", "10": "ten"}, "pair": [1, 2.0]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_json(tmp_path / "result.json", RECORD)
    return tmp_path / "result.json"


def test_a_record_comes_back_to_the_last_digit(path: Path) -> None:
    assert read_sealed(path) == READ


def test_a_number_that_is_none_comes_back_too(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"accuracy": [float("nan"), float("inf"), 0.5]})
    found = read_sealed(tmp_path / "a.json")["accuracy"]
    assert math.isnan(found[0])
    assert found[1:] == [math.inf, 0.5]


def test_the_checksum_is_that_of_the_canonical_text() -> None:
    text = '{"a":[1,0.5],"b":{"c":null}}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert sealed({"b": {"c": None}, "a": [1, 0.5]})["sha256"] == expected


def test_any_bit_that_is_flipped_is_found_or_changes_nothing(path: Path) -> None:
    content = path.read_bytes()
    found = harmless = 0
    for place in range(len(content)):
        # The fifth bit of a letter makes it a capital.
        for bit in (5, place % 5):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                # An E for an e in a number, or one white space for another.
                assert read_sealed(path) == READ, (place, bit)
                harmless += 1
            except Damaged:
                found += 1
    assert found > 0.95 * 2 * len(content)
    assert harmless > 0


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_file_that_was_cut_off_is_found(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(Damaged, match=r"result\.json does not hold what was written"):
        read_sealed(path)


@pytest.mark.parametrize("content", ["[]", "3", '{"a": 1}', '{"a": 1, "sha256": null}'])
def test_json_without_a_checksum_is_not_believed(path: Path, content: str) -> None:
    path.write_text(content)
    with pytest.raises(Damaged):
        read_sealed(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match=r"gone\.json is missing or not readable \(No such file"):
        read_sealed(tmp_path / "gone.json")


def test_an_entry_that_was_taken_out_or_put_in_is_found(path: Path) -> None:
    record = json.loads(path.read_text())
    for changed in ({**record, "more": 1}, {k: v for k, v in record.items() if k != "pair"}):
        path.write_text(json.dumps(changed))
        with pytest.raises(Damaged, match="its SHA-256 differs"):
            read_sealed(path)


# More than a block that is read at a time.
@pytest.mark.parametrize("size", [0, 1, 71, 72, 2**20 - 1, 2**20, 2**20 + 1])
def test_a_trailer_is_checked_whatever_the_size(tmp_path: Path, size: int) -> None:
    payload = bytes(n % 251 for n in range(size))
    content = with_trailer(payload)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert without_trailer(content) == payload
    assert has_whole_payload(path)
    assert file_digest(path) == hashlib.sha256(content).hexdigest()
    for damaged in (content[:-1], content + b"0", content[1:], b"x" + content[:-1], content[-72:][:71]):
        path.write_bytes(damaged)
        assert without_trailer(damaged) is None
        assert not has_whole_payload(path)


def arrays() -> dict[str, npt.NDArray[np.float64]]:
    return {f"msp/{name}": np.arange(n, dtype=np.float64) / 7 for n, name in enumerate(("a", "set_b"), 40)}


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    write_arrays(tmp_path / "scores.npz", arrays())
    return tmp_path / "scores.npz"


def test_arrays_come_back_to_the_bit_and_numpy_reads_them_too(scores: Path) -> None:
    for found in (read_arrays(scores), dict(np.load(scores))):
        assert list(found) == list(arrays())
        assert all(np.array_equal(found[name], values) for name, values in arrays().items())
    with zipfile.ZipFile(scores) as archive:
        assert archive.testzip() is None
        assert archive.comment == scores.read_bytes()[-72:]


def test_a_flipped_bit_anywhere_in_arrays_is_found(scores: Path) -> None:
    content = scores.read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        scores.write_bytes(damaged)
        with pytest.raises(Damaged, match=r"scores\.npz does not hold what was written"):
            read_arrays(scores)
    assert read_scores(scores.parent) == {}


def test_arrays_that_were_cut_off_or_are_gone_are_found(scores: Path) -> None:
    content = scores.read_bytes()
    for size in range(0, len(content), 7):
        scores.write_bytes(content[:size])
        with pytest.raises(Damaged):
            read_arrays(scores)
    scores.unlink()
    with pytest.raises(Damaged, match=r"scores\.npz is missing"):
        read_arrays(scores)
    assert read_scores(scores.parent) == {}
