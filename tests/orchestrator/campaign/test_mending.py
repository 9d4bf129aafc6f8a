"""A damaged ledger: what of it is read, what becomes of the files, and what the user is told."""

from __future__ import annotations

import json
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.ledger import Ledger, is_there, last_written, read_events
from orchestrator.campaign.mending import Damage, copy_of
from tests.orchestrator.simulation import Simulator, decisions, study

EVENTS: list[dict[str, Any]] = [
    {"event": "opened", "t": float(n), "study": 'with "quotes" and ,"crc":" in it', "value": 0.1 + n}
    for n in range(8)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for event in EVENTS:
        ledger.append(event)
    ledger.close()
    return ledger.path


@pytest.fixture
def copy(path: Path) -> Path:
    return copy_of(path)


def events(path: Path) -> list[dict[str, Any]]:
    return list(read_events(path))


def flip(path: Path, line: int, column: int = 20) -> None:
    """Change a bit in a line (numbered from 1)."""
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = bytearray(lines[line - 1])
    damaged[column] ^= 1
    lines[line - 1] = bytes(damaged)
    path.write_bytes(b"".join(lines))


def opened(path: Path) -> str:
    """What the user is told when the ledger is opened for writing."""
    ledger = Ledger(path)
    ledger.close()
    return ledger.word


def kept(path: Path) -> list[str]:
    """The beginnings of the names of what was kept."""
    return sorted(each.name.split("-")[0] for each in path.parent.glob("*damaged*"))


def assert_whole(path: Path, expected: list[dict[str, Any]]) -> None:
    """Both files hold these events and nothing else, and are opened without a word."""
    assert events(path) == expected
    assert path.read_bytes() == copy_of(path).read_bytes()
    assert path.read_bytes().count(b"\n") == len(expected)
    assert opened(path) == ""


def test_every_line_is_in_the_copy_as_soon_as_it_is_in_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for event in EVENTS:
        ledger.append(event, durable=False)
        assert copy_of(ledger.path).read_bytes() == ledger.path.read_bytes()
    ledger.close()


@pytest.mark.parametrize("line", [1, 4, 8])
def test_a_damaged_line_is_read_from_the_copy_and_the_files_are_mended_on_opening(
    path: Path, copy: Path, line: int
) -> None:
    whole = path.read_bytes()
    flip(path, line)
    damaged = path.read_bytes()
    assert events(path) == EVENTS
    assert path.read_bytes() == damaged, "a reader changes nothing"
    word = opened(path)
    assert f"line {line} was damaged" in word
    assert "was restored from ledger.copy.jsonl; nothing is lost" in word
    assert path.read_bytes() == whole
    (aside,) = path.parent.glob("ledger.damaged-*.jsonl")
    assert aside.name in word
    assert aside.read_bytes() == damaged
    assert_whole(path, EVENTS)


def test_a_reader_says_what_it_read_from_the_copy(path: Path) -> None:
    flip(path, 3)
    damage = Damage(path)
    list(read_events(path, damage))
    assert "line 3 was damaged" in damage.said(mended=False)
    assert "was read from ledger.copy.jsonl" in damage.said(mended=False)


def test_many_damaged_lines_are_counted(path: Path) -> None:
    for line in range(1, 8):
        flip(path, line)
    assert "lines 1, 2, 3, 4, 5 and 2 more were damaged" in opened(path)
    assert_whole(path, EVENTS)


def test_lines_damaged_here_and_others_damaged_there_are_all_read(path: Path, copy: Path) -> None:
    for line in (2, 5, 8):
        flip(path, line)
    for line in (1, 4, 7):
        flip(copy, line)
    assert events(path) == EVENTS
    word = opened(path)
    assert "lines 2, 5, 8 were damaged" in word
    assert "ledger.copy.jsonl was damaged and was written anew" in word
    assert_whole(path, EVENTS)


def test_a_lost_end_of_line_does_not_hide_the_next_line(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"\n")] ^= 1
    path.write_bytes(content)
    assert events(path) == EVENTS
    assert "line 1 was damaged" in opened(path)
    assert_whole(path, EVENTS)


def test_bytes_that_are_missing_in_the_middle_do_not_shift_what_follows(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:150] + content[170:])
    assert events(path) == EVENTS
    opened(path)
    assert_whole(path, EVENTS)


@pytest.mark.parametrize("line", [1, 4, 8])
def test_what_is_damaged_in_both_ends_the_record_there(path: Path, copy: Path, line: int) -> None:
    flip(path, line)
    flip(copy, line, 25)
    assert events(path) == EVENTS[: line - 1]
    word = opened(path)
    lost = 9 - line
    assert f"line {line} is damaged here and in ledger.copy.jsonl" in word
    assert ("from there on line was lost" if lost == 1 else f"from there on {lost} lines were lost") in word
    assert "rescore" not in word
    assert "written anew" not in word
    assert kept(path) == ["ledger.copy.damaged", "ledger.damaged"]
    assert_whole(path, EVENTS[: line - 1])


def test_scores_that_are_lost_with_the_rest_are_named(path: Path, copy: Path) -> None:
    ledger = Ledger(path)
    ledger.append({"event": "rescored", "t": 9.0})
    ledger.close()
    flip(path, 4)
    flip(copy, 4)
    assert "Scores that `orchestrate rescore` had added must be added again" in opened(path)


@pytest.mark.parametrize("cut", [1, 2, 15, 40])
def test_a_line_that_a_crash_cut_off_is_dropped_without_a_word(path: Path, copy: Path, cut: int) -> None:
    last = len(path.read_bytes().splitlines(keepends=True)[-1])
    path.write_bytes(path.read_bytes()[:-cut])
    copy.write_bytes(copy.read_bytes()[:-last])
    assert events(path) == EVENTS[:-1]
    ledger = Ledger(path)
    assert ledger.word == ""
    ledger.append(EVENTS[-1])
    ledger.close()
    assert kept(path) == []
    assert_whole(path, EVENTS)


@pytest.mark.parametrize("cut", [1, 15])
def test_a_copy_that_a_crash_cut_off_is_brought_up_without_a_word(path: Path, copy: Path, cut: int) -> None:
    copy.write_bytes(copy.read_bytes()[:-cut])
    assert opened(path) == ""
    assert_whole(path, EVENTS)


@pytest.mark.parametrize("rest", [b"\0" * 700, b'{"event":"clo'])
def test_a_copy_with_an_unfinished_line_is_brought_up_without_a_word(
    path: Path, copy: Path, rest: bytes
) -> None:
    for whole in (copy.read_bytes(), copy.read_bytes()[:-200]):
        copy.write_bytes(whole + rest)
        assert opened(path) == ""
        assert_whole(path, EVENTS)


@pytest.mark.parametrize("block", [1, 64, 101])
def test_files_of_many_blocks_are_compared_to_their_ends(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr("orchestrator.campaign.mending._BLOCK", block)
    content = path.read_bytes()
    for size in (0, 64, 500, len(content) - 1):
        copy.write_bytes(content[:size])
        assert opened(path) == ""
        assert_whole(path, EVENTS)
    flip(copy, 7)
    assert "ledger.copy.jsonl was damaged and was written anew" in opened(path)
    assert_whole(path, EVENTS)


def test_a_last_line_that_only_the_copy_has_whole_comes_back(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])
    assert events(path) == EVENTS
    assert "missing and restored from ledger.copy.jsonl" in opened(path)
    assert_whole(path, EVENTS)


def test_a_study_from_before_there_were_copies_gets_one_without_a_word(path: Path, copy: Path) -> None:
    copy.unlink()
    assert opened(path) == ""
    assert_whole(path, EVENTS)


def test_a_ledger_that_is_gone_comes_back_from_its_copy(path: Path) -> None:
    path.unlink()
    assert is_there(path)
    assert last_written(path) > 0
    damage = Damage(path)
    assert list(read_events(path, damage)) == EVENTS
    assert "its last 8 lines were missing and read from ledger.copy.jsonl" in damage.said(mended=False)
    assert "its last 8 lines were missing and restored from ledger.copy.jsonl" in opened(path)
    assert_whole(path, EVENTS)


def test_without_ledger_and_copy_there_is_nothing_to_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    assert not is_there(path)
    assert events(path) == []
    assert opened(path) == ""
    assert not is_there(path), "empty files say nothing"


def test_a_reader_beside_a_writer_sees_no_damage(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    read: list[dict[str, Any]] = []
    damage = Damage(ledger.path)
    reader = read_events(ledger.path, damage)
    for event in EVENTS:
        ledger.append(event, durable=False)
        read.append(next(reader))
    with ledger.path.open("ab") as half:
        half.write(b'{"event":"clo')
    read += reader
    assert read == EVENTS
    assert damage.said(mended=False) == ""
    ledger.close()


def test_a_failure_while_mending_leaves_the_old_files(
    path: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(path, 4)
    before = path.read_bytes(), copy.read_bytes()

    def full(_: int) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="disk full"):
            Ledger(path)
    assert (path.read_bytes(), copy.read_bytes()) == before
    opened(path)
    assert_whole(path, EVENTS)


def test_a_sound_line_in_another_place_is_not_believed(path: Path, copy: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for moved in (lines[:2] + lines[3:], lines[:3] + lines[2:], [*lines[:2], lines[3], lines[2], *lines[4:]]):
        path.write_bytes(b"".join(moved))
        assert events(path) == EVENTS
    copy.unlink()
    assert events(path) == EVENTS[:2]


def test_a_ledger_from_before_the_sums_were_chained_is_read_and_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    texts = [json.dumps(event, separators=(",", ":")) for event in EVENTS[:3]]
    path.write_text("".join(f'{text[:-1]},"crc":"{zlib.crc32(text.encode()):08x}"}}\n' for text in texts))
    assert events(path) == EVENTS[:3]
    ledger = Ledger(path)
    for event in EVENTS[3:]:
        ledger.append(event)
    ledger.close()
    assert ledger.word == ""
    assert_whole(path, EVENTS)
    flip(path, 2)
    assert events(path) == EVENTS
    lines = copy_of(path).read_bytes().splitlines(keepends=True)
    for file in (path, copy_of(path)):
        file.write_bytes(b"".join(lines[:4] + lines[1:]))
    assert events(path) == EVENTS[:4], "an old line does not follow a chained one"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small study that ran without torch."""
    folder = tmp_path_factory.mktemp("simulated")
    Simulator(study(), folder).run()
    return folder


def damages(dice: random.Random) -> Callable[[bytes], bytes]:
    """One thing that may happen to a file."""
    kind = dice.choice(["bit", "bit", "bit", "cut", "hole", "zeros"])
    where, size = dice.random(), dice.randrange(1, 600)

    def damaged(content: bytes) -> bytes:
        at = int(where * len(content))
        if kind == "bit":
            changed = bytearray(content)
            changed[at] ^= 1 << dice.randrange(8)
            return bytes(changed)
        if kind == "cut":
            return content[:at]
        return content[:at] + (b"\0" * size if kind == "zeros" else b"") + content[at + size :]

    return damaged


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_damaged_every_event_that_is_read_is_one_of_the_originals_in_their_order(
    simulated: Path, tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    path = tmp_path / "ledger.jsonl"
    whole = (simulated / path.name).read_bytes()
    originals = events(simulated / path.name)
    assert len(originals) > 200
    single = short = 0
    for _ in range(50):
        for file in tmp_path.iterdir():
            file.unlink()
        for file in (path, copy_of(path)):
            file.write_bytes(whole)
        struck = dice.choices([path, copy_of(path)], k=dice.choice([1, 1, 2, 3]))
        for file in struck:
            file.write_bytes(damages(dice)(file.read_bytes()))
        read = events(path)
        assert read == originals[: len(read)]
        if len(set(struck)) == 1:
            assert read == originals, "one of the two is whole"
            single += 1
        copies = path.read_bytes(), copy_of(path).read_bytes()
        word = opened(path)
        assert events(path) == read
        assert path.read_bytes() == copy_of(path).read_bytes()
        # What was cut off at the end of both leaves no trace.
        whole_lines = whole.splitlines(keepends=True)[: len(read)]
        assert path.read_bytes() == b"".join(whole_lines)
        if word == "":
            assert max(content.count(b"\n") for content in copies) == len(read)
        short += read != originals
    assert single > 20
    assert short > 2


def test_a_study_whose_ledger_lost_its_second_half_decides_the_same_again(
    simulated: Path, tmp_path: Path
) -> None:
    undisturbed = Simulator(study(), simulated).run()
    for name in ("ledger.jsonl", "ledger.copy.jsonl"):
        shutil.copyfile(simulated / name, tmp_path / name)
        flip(tmp_path / name, 120)
    again = Simulator(study(), tmp_path).run()
    assert decisions(again) == decisions(undisturbed)
