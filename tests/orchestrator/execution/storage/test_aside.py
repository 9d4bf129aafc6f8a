"""An older study is put aside on a store, whole, whatever interrupts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.execution.storage.aside import finish_moving, move_aside
from tests.orchestrator.execution.storage.objects import FolderStore

OLD = {
    "study.yaml": b"y",
    "ledger/000.jsonl": b"l",
    "trials/a/result.json": b"a",
    "trials/b/checkpoint.pt": b"b",
}


def filled(folder: Path) -> FolderStore:
    store = FolderStore(folder)
    for name, content in OLD.items():
        store.put(f"s/{name}", content)
    store.put("s/drivers/x.json", b"{}")
    store.put("other/study.yaml", b"o")
    return store


def test_all_but_the_drivers_is_moved_and_others_stay(tmp_path: Path) -> None:
    store = filled(tmp_path)
    aside = move_aside(store, "s", skip="drivers")
    assert aside.startswith("s.20")
    assert {name: store.get(f"{aside}/{name}") for name in store.listed(aside)} == OLD
    assert set(store.listed("s")) == {"drivers/x.json"}
    assert set(store.listed("other")) == {"study.yaml"}


def test_two_within_a_second_get_two_names(tmp_path: Path) -> None:
    store = filled(tmp_path)
    first = move_aside(store, "s", skip="drivers")
    store.put("s/study.yaml", b"2")
    second = move_aside(store, "s", skip="drivers")
    assert first != second
    assert store.get(f"{second}/study.yaml") == b"2"
    assert len(store.listed(first)) == len(OLD)


@pytest.mark.parametrize("broken", [1, 2, 4, 6, 8])
def test_a_move_that_broke_off_is_finished_to_the_same_place(tmp_path: Path, broken: int) -> None:
    store = filled(tmp_path)
    left = broken

    def fails(what: str, name: str) -> None:
        nonlocal left
        left -= what in ("copied", "deleted")
        if left < 0:
            raise OSError("away")

    store.fails = fails
    with pytest.raises(OSError, match="away"):
        move_aside(store, "s", skip="drivers")
    store.fails = lambda what, name: None
    finish_moving(store, "s", skip="drivers")
    (aside,) = [name for name in store.folders() if name.startswith("s.")]
    assert {name: store.get(f"{aside}/{name}") for name in store.listed(aside)} == OLD
    assert set(store.listed("s")) == {"drivers/x.json"}


def test_where_nothing_was_begun_nothing_is_moved(tmp_path: Path) -> None:
    store = filled(tmp_path)
    finish_moving(store, "s", skip="drivers")
    assert set(store.listed("s")) == {*OLD, "drivers/x.json"}
