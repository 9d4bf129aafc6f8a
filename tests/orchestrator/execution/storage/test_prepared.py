"""Prepared data on a store: sent once, fetched once a machine, never taken damaged or half."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from orchestrator.execution.storage.prepared import fetch_data, send_data
from tests.orchestrator.execution.storage.objects import FolderStore
from workloads.contract import DataConfig, NoiseConfig
from workloads.data import prepared

DATA, NOISE = DataConfig("digits", (0, 1, 2), far_ood=("uniform",)), NoiseConfig(size=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    facts = prepared.prepare(DATA, NOISE, root)
    return prepared.folder(DATA, NOISE, root, facts.hash)


@pytest.fixture
def store(tmp_path: Path, folder: Path) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    assert send_data(store, folder)
    return store


def test_data_are_sent_once_and_are_the_same_elsewhere(
    store: FolderStore, folder: Path, tmp_path: Path
) -> None:
    assert store.written()[-1].endswith("/facts.json"), "it vouches for the rest"
    store.done.clear()
    assert not send_data(store, folder)
    assert store.written() == []
    fetch_data(store, folder.name, tmp_path / "node")
    fetched = tmp_path / "node" / folder.name
    here = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == here
    facts = folder.name.rpartition("-")[2]
    opened = prepared.PreparedData.open(DATA, NOISE, tmp_path / "node", stage="confirm", data_hash=facts)
    assert opened.facts.hash == facts


def test_several_workers_of_a_machine_fetch_them_once(
    store: FolderStore, folder: Path, tmp_path: Path
) -> None:
    store.done.clear()
    threads = [
        threading.Thread(target=fetch_data, args=(store, folder.name, tmp_path / "node")) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = [name for what, name in store.done if what == "read"]
    assert len(read) == len(set(read)) == len(list(folder.iterdir()))


def test_damaged_data_are_not_taken_and_damaged_copies_fetched_again(
    store: FolderStore, folder: Path, tmp_path: Path
) -> None:
    name = f"data/{folder.name}/train.npy"
    whole = store.get(name)
    store.put(name, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(OSError, match=r"train\.npy does not hold what was sent"):
        fetch_data(store, folder.name, tmp_path / "node")
    assert not (tmp_path / "node" / folder.name).exists()
    store.put(name, whole)
    fetch_data(store, folder.name, tmp_path / "node")
    (tmp_path / "node" / folder.name / "train.npy").write_bytes(whole[:-1])
    fetch_data(store, folder.name, tmp_path / "node")
    assert (tmp_path / "node" / folder.name / "train.npy").read_bytes() == whole
    assert [f.name for f in (tmp_path / "node").iterdir() if f.is_dir()] == [folder.name]


def test_sending_that_broke_off_goes_on_where_it_was(
    store: FolderStore, folder: Path, tmp_path: Path
) -> None:
    store.delete(f"data/{folder.name}/facts.json")
    store.delete(f"data/{folder.name}/train.npy")
    store.done.clear()
    assert send_data(store, folder)
    assert store.written() == [f"data/{folder.name}/train.npy", f"data/{folder.name}/facts.json"]


def test_data_that_nobody_sent_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fetch_data(FolderStore(tmp_path / "store"), "digits-0", tmp_path / "node")
