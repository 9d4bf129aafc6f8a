"""The trials of a study on a store: looked through, fetched, changed; and what users are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.campaign.ledger import Ledger
from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.execution.storage.mirror import Mirror
from orchestrator.execution.storage.store_mirror import StoreMirror
from tests.orchestrator.execution.storage.objects import FolderStore, Weather
from workloads.contract import TrialResult
from workloads.protocols.folder import changing, write_result
from workloads.sealed import with_trailer

OUTPUTS = ("scores.npz", "reliability.json", "id_test.npz", "id_train.npz", "near.npz")


def trial(store: FolderStore, key: str, folder: Path) -> None:
    (folder / key / "outputs").mkdir(parents=True)
    for name in OUTPUTS:
        (folder / key / "outputs" / name).write_bytes(f"{name} of {key}".encode())
    (folder / key / "checkpoint.pt").write_bytes(with_trailer(b"model"))
    write_result(folder / key, key, TrialResult({"test/accuracy": 0.5}, 1.0, 1.0, 10), [])
    for file in (folder / key).rglob("*"):
        if file.is_file():
            store.put(f"s/trials/{key}/{file.relative_to(folder / key).as_posix()}", file)


def record(*keys: str) -> StudyRecord:
    found = {}
    for number, key in enumerate(keys):
        found[key] = TrialRecord(key, "hem", "confirm", "standard", 0, 100 + number, {})
        found[key].state = "complete"
    arm = ArmRecord("hem")
    arm.confirms["standard"] = {each.seed: each for each in found.values()}
    return StudyRecord(trials=found, arms={"hem": arm})


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "store", Weather())


@pytest.fixture
def mirror(store: FolderStore, tmp_path: Path) -> StoreMirror:
    for key in ("a", "b"):
        trial(store, key, tmp_path / "made")
    (tmp_path / "machine" / "s").mkdir(parents=True)
    return StoreMirror(store, tmp_path / "machine" / "s")


def test_finished_trials_are_looked_through_on_the_store_without_fetching_what_is_large(
    mirror: StoreMirror, store: FolderStore
) -> None:
    store.delete("s/trials/b/outputs/scores.npz")
    store.put("s/trials/c/result.json", b"{}")
    store.put("s/trials/d/checkpoint.pt", b"1")
    store.put("s/trials/e/result.json", store.get("s/trials/a/result.json"))
    store.delete("s/trials/a/checkpoint.pt")
    store.received = 0
    with mirror.held():
        gone = "checkpoint.pt is missing from the store"
        assert (mirror.look("a").damage, mirror.look("a").checkpoint) == ((), gone)
        assert mirror.look("b").damage == ("outputs/scores.npz is missing from the store",)
        assert mirror.look("b").checkpoint == ""
        assert mirror.look("c").damage[0].startswith("result.json cannot be used")
        assert mirror.look("d").damage == ("result.json is missing from the store",)
        assert mirror.look("e").damage == ("result.json is another trial's",)
        assert mirror.look("f").damage == ("its folder is missing",)
    results = [each.size for name, each in store.listed("s/trials").items() if name.endswith("result.json")]
    assert store.received <= 3 * sum(results) + 1000


def test_a_report_gets_the_files_that_it_reads_and_no_others(mirror: StoreMirror, store: FolderStore) -> None:
    found = record("a", "b")
    store.done.clear()
    mirror.fetch_reported(found)
    read = {name.removeprefix("s/trials/") for what, name in store.done if what == "read"}
    few = ("result.json", "outputs/scores.npz", "outputs/reliability.json")
    more = ("outputs/id_test.npz", "outputs/near.npz")
    assert read == {*(f"a/{n}" for n in (*few, *more)), *(f"b/{n}" for n in few)}
    store.done.clear()
    mirror.fetch_reported(found)
    assert {n.rpartition("/")[2] for what, n in store.done if what == "read"} == {"result.json"}
    (mirror.study_dir / "trials" / "b" / "outputs" / "scores.npz").write_bytes(b"old")
    mirror.fetch_reported(found)
    assert (mirror.study_dir / "trials" / "b" / "outputs" / "scores.npz").read_bytes() == b"scores.npz of b"


def test_a_trial_is_fetched_whole_once_and_what_is_damaged_here_again(
    mirror: StoreMirror, store: FolderStore, tmp_path: Path
) -> None:
    folder = mirror.study_dir / "trials" / "a"
    for _ in range(2):
        mirror.fetch_trial("a")
        whole = {f.name: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
        made = tmp_path / "made" / "a"
        assert whole == {f.name: f.read_bytes() for f in made.rglob("*") if f.is_file()}
        # As long as before.
        (folder / "outputs" / "scores.npz").write_bytes(b"scores.npz of x")
    mirror.fetch_trial("a")
    store.done.clear()
    mirror.fetch_trial("a")
    assert [n for what, n in store.done if what == "read"] == ["s/trials/a/result.json"]


def test_changed_trials_and_the_ledger_are_sent_when_the_change_is_over(
    mirror: StoreMirror, store: FolderStore
) -> None:
    with mirror.held(), mirror.changing_trials(["a", "b"]):
        folder = mirror.study_dir / "trials" / "a"
        with changing(folder, {"scores.npz"}):
            (folder / "outputs" / "scores.npz").write_bytes(b"more scores")
        ledger = Ledger(mirror.study_dir / "ledger.jsonl")
        ledger.append({"event": "rescored"})
        ledger.close()
        store.done.clear()
    sent = [name for name in store.written() if name.startswith("s/trials")]
    assert sent == ["s/trials/a/outputs/scores.npz", "s/trials/a/result.json"]
    assert store.get("s/trials/a/outputs/scores.npz") == b"more scores"
    assert any("rescored" in store.get(f"s/ledger/{n}").decode() for n in store.listed("s/ledger"))


def test_users_are_told_of_the_store_and_not_of_the_copy(mirror: StoreMirror, store: FolderStore) -> None:
    text = f"kept in {mirror.study_dir}; try --out {mirror.study_dir.parent}"
    assert mirror.named(text) == f"kept in {store.place}/s; try --out {store.place}"
    assert mirror.place == f"{store.place}/s"


def test_a_study_in_a_folder_has_nothing_done_for_it(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "s")
    with mirror.held(), mirror.changing_trials([]):
        mirror.bring()
        mirror.send_data(tmp_path)
        mirror.begin(tmp_path, print, print)
        mirror.wrote()
        mirror.fetch_trial("a")
        mirror.fetch_reported(StudyRecord())
        mirror.send_report()
    assert (mirror.request(tmp_path), mirror.put_aside(), mirror.finish(1), mirror.named("x")) == (
        {},
        None,
        "",
        "x",
    )
    assert not mirror.has_trials()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "s" / "trials" / "a").mkdir(parents=True)
    assert mirror.has_trials()
