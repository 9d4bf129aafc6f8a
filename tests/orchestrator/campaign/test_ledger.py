"""The ledger keeps what it was given, through every kind of damage that can happen."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.mending import copy_of

EVENTS: list[dict[str, Any]] = [
    {"event": "opened", "t": 1.25, "study": 'with "quotes" and ,"crc":" in it'},
    {"event": "reported", "t": 2.0, "metrics": {"noise/fpr95": 0.1 + 0.2}},
    {"event": "finished", "t": 3.0, "state": "complete"},
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for event in EVENTS:
        ledger.append(event)
    ledger.close()
    return ledger.path


def test_events_come_back_to_the_last_digit(path: Path) -> None:
    assert list(read_events(path)) == EVENTS


@pytest.mark.parametrize("twin", ["_file", "_copy"])
def test_a_full_disk_leaves_no_half_line(path: Path, monkeypatch: pytest.MonkeyPatch, twin: str) -> None:
    ledger = Ledger(path)

    class FullDisk:
        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: memoryview) -> int:
            self._file.write(bytes(data)[:10])
            raise OSError(errno.ENOSPC, "No space left on device")

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    whole = getattr(ledger, twin)
    monkeypatch.setattr(ledger, twin, FullDisk(whole))
    with pytest.raises(OSError, match="No space left"):
        ledger.append({"event": "closed", "t": 4.0})
    assert copy_of(path).read_bytes() == path.read_bytes()
    monkeypatch.setattr(ledger, twin, whole)
    ledger.append({"event": "closed", "t": 5.0})
    ledger.close()
    assert [e["t"] for e in read_events(path)] == [1.25, 2.0, 3.0, 5.0]
    assert copy_of(path).read_bytes() == path.read_bytes()


def test_a_value_that_is_not_a_number_is_refused_before_anything_is_written(path: Path) -> None:
    ledger = Ledger(path)
    with pytest.raises(ValueError, match="JSON"):
        ledger.append({"event": "reported", "t": 1.0, "metrics": {"train/loss": float("nan")}})
    ledger.close()
    assert list(read_events(path)) == EVENTS


def test_a_durable_line_waits_for_one_file_and_the_copy_follows_every_few_seconds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    ledger = Ledger(path, lambda: now[0])
    names = {ledger._file.fileno(): "ledger", ledger._copy.fileno(): "copy"}
    synced: list[str] = []
    monkeypatch.setattr("os.fsync", lambda number: synced.append(names[number]))
    ledger.append({"event": "opened"})
    ledger.append({"event": "started"})
    ledger.append({"event": "reported"}, durable=False)
    assert synced == ["ledger", "copy", "ledger"]
    now[0] += 5.0
    ledger.append({"event": "reported"}, durable=False)
    assert synced[3:] == []
    ledger.append({"event": "finished"})
    assert synced[3:] == ["ledger", "copy"]
    now[0] += 1.0
    ledger.close()
    assert synced[5:] == ["ledger", "copy"]
