"""Checkpoints: what is written comes back; what is damaged or another trial's is not believed."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from workloads.contract import EpochReport
from workloads.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from workloads.training.storage import write_bytes

CPU = torch.device("cpu")
STATE = Checkpoint(
    engine={
        "epoch": 2,
        "model": {"weight": torch.arange(6.0).reshape(2, 3)},
        "optimizer": {"state": {0: None}},
    },
    reports=(EpochReport(1, {"train/loss": 0.1 + 0.2}), EpochReport(2, {"train/loss": 1e-17})),
    train_seconds=1.5,
    evaluation_seconds=0.25,
)


class Code:
    """Unpickling it would run a command."""

    def __reduce__(self) -> Any:
        return (os.system, ("touch ran",))


def written(folder: Path, key: str = "k") -> Path:
    path = folder / "checkpoint.pt"
    write_checkpoint(path, key, STATE)
    return path


def with_digest(payload: bytes) -> bytes:
    return payload + b"\nsha256 " + hashlib.sha256(payload).hexdigest().encode()


def test_a_checkpoint_comes_back_as_it_was_written(tmp_path: Path) -> None:
    got = read_checkpoint(written(tmp_path), "k", CPU)
    assert got is not None
    assert torch.equal(got.engine["model"]["weight"], STATE.engine["model"]["weight"])
    assert (got.engine["epoch"], got.engine["optimizer"]) == (2, {"state": {0: None}})
    assert (got.reports, got.train_seconds, got.evaluation_seconds) == (STATE.reports, 1.5, 0.25)


def test_torch_itself_reads_the_file(tmp_path: Path) -> None:
    record = torch.load(written(tmp_path), weights_only=True)
    assert record["key"] == "k"


def test_a_missing_checkpoint_is_none(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "checkpoint.pt", "k", CPU) is None


def test_another_trials_checkpoint_is_not_believed(tmp_path: Path) -> None:
    assert read_checkpoint(written(tmp_path, "other"), "k", CPU) is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_is_not_believed(tmp_path: Path, share: float) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert read_checkpoint(path, "k", CPU) is None


def test_a_single_flipped_bit_is_noticed_wherever_it_is(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    for position in [*range(0, len(content), 97), len(content) - 1]:
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert read_checkpoint(path, "k", CPU) is None, position


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    buffer = io.BytesIO()
    torch.save({"format": 1, "key": "k", "engine": Code()}, buffer)
    path = tmp_path / "checkpoint.pt"
    for payload in (buffer.getvalue(), pickle.dumps(Code(), protocol=2), b"no checkpoint at all"):
        path.write_bytes(with_digest(payload))
        assert read_checkpoint(path, "k", CPU) is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("record", [["k"], {"key": "k"}, {"key": "k", "format": 999}])
def test_another_format_is_not_believed(tmp_path: Path, record: Any) -> None:
    buffer = io.BytesIO()
    torch.save(record, buffer)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(with_digest(buffer.getvalue()))
    assert read_checkpoint(path, "k", CPU) is None


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
