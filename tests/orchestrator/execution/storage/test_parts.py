"""A ledger in parts: whole again wherever it is pulled, and no part but the last is sent twice."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.mending import copy_of
from orchestrator.execution.storage.parts import Parts
from tests.orchestrator.execution.storage.objects import FolderStore, Weather

MOST = 500


def events(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"event": "finished", "number": n, "text": "x" * (n % 50)} for n in range(start, start + count)]


def append(path: Path, found: list[dict[str, Any]]) -> None:
    ledger = Ledger(path)
    for event in found:
        ledger.append(event)
    ledger.close()


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store")


def parts(store: FolderStore) -> Parts:
    return Parts(store, "s/ledger", MOST)


def pulled(store: FolderStore, path: Path) -> bytes:
    """On another machine."""
    parts(store).pull(path)
    return path.read_bytes() if path.exists() else b""


def test_a_ledger_pushed_again_and_again_is_whole_elsewhere(store: FolderStore, tmp_path: Path) -> None:
    path, sender = tmp_path / "ledger.jsonl", parts(store)
    draw = random.Random(0)
    done = 0
    for step in range(12):
        count = draw.choice([0, 1, 2, 30])
        append(path, events(count, done))
        done += count
        sender.push(path)
        assert pulled(store, tmp_path / f"{step}" / "ledger.jsonl") == path.read_bytes()
    assert list(read_events(tmp_path / "11" / "ledger.jsonl")) == events(done)
    assert len(store.listed("s/ledger")) > 5


def test_what_is_sent_grows_with_the_ledger_and_not_with_its_square(
    store: FolderStore, tmp_path: Path
) -> None:
    path, sender = tmp_path / "ledger.jsonl", parts(store)
    pushes = 60
    for n in range(pushes):
        before, held = store.sent, path.stat().st_size if path.exists() else 0
        append(path, events(3, 3 * n))
        sender.push(path)
        # The last part, of at most its size and a line, and what is new.
        assert store.sent - before <= path.stat().st_size - held + MOST + 150
    size = path.stat().st_size
    assert size > 10 * MOST
    # Every byte once when its part is closed, and with each push at most one growing part before.
    assert store.sent <= size + pushes * MOST
    assert store.sent < pushes * size / 4
    before = store.sent
    sender.push(path)
    assert store.sent == before, "nothing is new"


def test_a_driver_that_goes_on_sends_only_what_is_new(store: FolderStore, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, events(40))
    parts(store).push(path)
    other, second = tmp_path / "other" / "ledger.jsonl", parts(store)
    second.pull(other)
    store.done.clear()
    second.push(other)
    assert store.written() == []
    append(other, events(1, 40))
    second.push(other)
    assert len(store.written()) == 1
    assert pulled(store, tmp_path / "third.jsonl") == other.read_bytes()


def test_a_copy_that_is_ahead_stays_and_one_that_went_another_way_gives_in(
    store: FolderStore, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, events(10))
    parts(store).push(path)
    ahead = tmp_path / "ahead" / "ledger.jsonl"
    append(ahead, events(12))
    assert len(list(read_events(ahead))) == 12
    before = ahead.read_bytes()
    assert pulled(store, ahead) == before
    apart = tmp_path / "apart" / "ledger.jsonl"
    append(apart, [*events(9), {"event": "closed"}, *events(5)])
    assert pulled(store, apart) == path.read_bytes()
    assert not copy_of(apart).exists(), "it would be taken for the sound one of the two"
    assert list(read_events(apart)) == events(10)


def test_parts_of_an_end_that_was_lost_and_has_gone_on_differently_are_taken_away(
    store: FolderStore, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, events(60))
    parts(store).push(path)
    kept = path.read_bytes().splitlines(keepends=True)[:25]
    other = tmp_path / "other" / "ledger.jsonl"
    second = parts(store)
    second.pull(other)
    for file in (other, copy_of(other)):
        file.write_bytes(b"".join(kept))
    append(other, [{"event": "otherwise"}])
    second.push(other)
    assert pulled(store, tmp_path / "third.jsonl") == other.read_bytes()
    assert [e["event"] for e in read_events(tmp_path / "third.jsonl")][-1] == "otherwise"
    names = store.listed("s/ledger")
    assert sum(each.size for each in names.values()) == other.stat().st_size, "nothing stale is left"


def test_a_part_that_was_left_over_hides_nothing_and_goes_with_the_next_push(
    store: FolderStore, tmp_path: Path
) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, events(60))
    parts(store).push(path)
    for start in (17, 503, path.stat().st_size + 900):
        store.put(f"s/ledger/{start:015d}.jsonl", b"of another time\n")
    other, second = tmp_path / "other.jsonl", parts(store)
    second.pull(other)
    assert other.read_bytes() == path.read_bytes()
    append(other, events(1, 60))
    second.push(other)
    assert sum(each.size for each in store.listed("s/ledger").values()) == other.stat().st_size
    assert pulled(store, tmp_path / "third.jsonl") == other.read_bytes()


def test_a_line_that_is_being_written_is_not_sent(store: FolderStore, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, events(3))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"event":"ha')
    parts(store).push(path)
    assert pulled(store, tmp_path / "other.jsonl") == whole


def test_a_push_that_breaks_off_anywhere_is_made_good_by_the_next(tmp_path: Path) -> None:
    for broken in range(6):
        weather = Weather()
        store = FolderStore(tmp_path / str(broken), weather)
        path, sender = tmp_path / f"{broken}.jsonl", parts(store)
        append(path, events(10))
        sender.push(path)
        append(path, events(60, 10))
        left = broken

        def fails(what: str, name: str) -> None:
            nonlocal left
            if what == "written":
                left -= 1
                if left < 0:
                    raise OSError("away")

        store.fails = fails
        with pytest.raises(OSError, match="away"):
            sender.push(path)
        store.fails = weather
        # Even now it is a whole beginning.
        assert path.read_bytes().startswith(pulled(store, tmp_path / f"{broken}" / "half.jsonl"))
        sender.push(path)
        assert pulled(store, tmp_path / f"{broken}" / "whole.jsonl") == path.read_bytes()


def test_a_store_without_a_ledger_changes_nothing(store: FolderStore, tmp_path: Path) -> None:
    assert pulled(store, tmp_path / "ledger.jsonl") == b""
    assert not (tmp_path / "ledger.jsonl").exists()
