"""An attempt at a trial on a store: what it fetches, what it sends and when, and what it leaves."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.execution.storage import home as homes
from orchestrator.execution.storage.cache import working_copy
from orchestrator.execution.storage.home import SIGN, OutOfReach, Stored, StoredHome, home_of
from orchestrator.execution.storage.prepared import send_data
from orchestrator.objects import Objects, Refused
from tests.orchestrator.execution.storage.objects import FolderStore, Weather
from workloads.contract import DataConfig, NoiseConfig, TrialResult
from workloads.data import prepared
from workloads.protocols.folder import examine, write_result
from workloads.sealed import with_trailer

TRIAL = "s/trials/key"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Place:
    """A store with prepared data, a driver's disk, and homes on other machines."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.weather = Weather()
        self.store = FolderStore(folder / "store", self.weather)
        send_data(self.store, data)
        self.driver = folder / "driver" / "s"
        self.driver.mkdir(parents=True)
        (self.driver / SIGN).write_text("right")
        self.stored = Stored(self.store.uri, "s", data.name, "right")
        self.machine = folder / "machine"
        self.clock = Clock()
        self._count = 0

    def home(self, *, sees_driver: bool = False, patience: float = 0.0) -> StoredHome:
        self._count += 1
        scratch = self.machine / "scratch" / str(self._count)
        scratch.mkdir(parents=True)
        stored = self.stored if sees_driver else replace(self.stored, sign="wrong")
        return StoredHome(
            *(self.store, stored, scratch, self.driver / "trials" / "key", self.driver.parent / "data"),
            patience=patience,
            clock=self.clock,
        )

    def on_store(self) -> dict[str, bytes]:
        return {name: self.store.get(f"{TRIAL}/{name}") for name in self.store.listed(TRIAL)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, config, noise = tmp_path_factory.mktemp("data"), DataConfig("digits", (0, 1)), NoiseConfig(size=10)
    return prepared.folder(config, noise, root, prepared.prepare(config, noise, root).hash)


@pytest.fixture
def place(tmp_path: Path, data: Path) -> Place:
    return Place(tmp_path, data)


def confirmed(home: StoredHome, scores: bytes = b"scores") -> None:
    """What a confirm trial leaves."""
    (home.folder / "outputs").mkdir(parents=True, exist_ok=True)
    (home.folder / "outputs" / "scores.npz").write_bytes(scores)
    (home.folder / "checkpoint.pt").write_bytes(with_trailer(b"model"))
    write_result(home.folder, "key", TrialResult({"test/accuracy": 0.5}, 1.0, 1.0, 10), [])


def test_a_finished_trial_is_on_the_store_whole_with_its_result_last(place: Place, tmp_path: Path) -> None:
    home = place.home()
    home.furnish()
    confirmed(home)
    place.store.done.clear()
    home.hand_over()
    assert set(place.store.written()) == {
        f"{TRIAL}/{name}" for name in ("outputs/scores.npz", "checkpoint.pt", "result.json")
    }
    assert place.store.written()[-1] == f"{TRIAL}/result.json"
    for name, content in place.on_store().items():
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / name).write_bytes(content)
    assert examine(tmp_path / "copy", "key", confirmed=True).damage == ()
    assert not (place.driver / "trials" / "key").exists()


def test_the_data_are_fetched_to_the_machine_and_not_where_the_driver_has_them(place: Place) -> None:
    home = place.home()
    home.furnish()
    assert home.data_root == place.machine / "data"
    assert (home.data_root / place.stored.data / "facts.json").exists()


def test_the_next_attempt_on_any_machine_has_the_checkpoint_and_no_half_measured_outputs(
    place: Place,
) -> None:
    first = place.home()
    first.furnish()
    confirmed(first)
    (first.folder / "result.json").unlink()
    first.hand_over()
    second = place.home()
    second.furnish()
    assert [f.name for f in second.folder.iterdir()] == ["checkpoint.pt"]
    assert (second.folder / "checkpoint.pt").read_bytes() == with_trailer(b"model")


def test_a_finished_trial_is_fetched_whole_and_nothing_of_it_is_sent_again(place: Place) -> None:
    first = place.home()
    first.furnish()
    confirmed(first)
    first.hand_over()
    second = place.home()
    second.furnish()
    assert examine(second.folder, "key", confirmed=True).damage == ()
    place.store.done.clear()
    second.hand_over()
    assert place.store.written() == []


def test_a_result_does_not_vouch_for_outputs_that_change_under_it(place: Place) -> None:
    first = place.home()
    first.furnish()
    confirmed(first)
    first.hand_over()
    second = place.home()
    second.furnish()
    confirmed(second, b"other scores")
    place.weather.refuses = f"{TRIAL}/outputs"
    with pytest.raises(Refused):
        second.hand_over()
    assert "result.json" not in place.on_store()


def test_what_a_search_trial_removed_is_removed_there(place: Place) -> None:
    home = place.home()
    home.furnish()
    home.folder.mkdir()
    (home.folder / "checkpoint.pt").write_bytes(b"half way")
    home.reported()
    wait_for_push(home)
    assert set(place.on_store()) == {"checkpoint.pt"}
    (home.folder / "checkpoint.pt").unlink()
    write_result(home.folder, "key", TrialResult({}, 1.0, 1.0, 10), [])
    home.hand_over()
    assert set(place.on_store()) == {"result.json"}


def wait_for_push(home: StoredHome) -> None:
    if home._pushing is not None:
        home._pushing.join()


def test_checkpoints_are_sent_while_it_trains_at_most_every_few_seconds_and_only_new_ones(
    place: Place,
) -> None:
    home = place.home()
    home.furnish()
    home.folder.mkdir()
    place.store.done.clear()
    home.reported()
    assert place.store.written() == [], "there is none yet"
    sent = []
    for second in range(20):
        place.clock.now = float(second)
        if second != 12:
            (home.folder / "checkpoint.pt").write_bytes(b"x" * (second + 1))
        home.reported()
        wait_for_push(home)
        if place.store.written():
            sent.append(second)
            place.store.done.clear()
    assert sent == [0, 5, 10, 15]
    place.clock.now = 30.0
    home.reported()
    wait_for_push(home)
    place.store.done.clear()
    place.clock.now = 40.0
    home.reported()
    wait_for_push(home)
    assert place.store.written() == [], "it is there already"


def test_a_slow_store_gets_fewer_checkpoints_and_does_not_hold_up_the_trial(place: Place) -> None:
    home = place.home()
    home.furnish()
    home.folder.mkdir()
    (home.folder / "checkpoint.pt").write_bytes(b"1")
    sending, go = threading.Event(), threading.Event()

    def slowly(what: str, name: str) -> None:
        if what == "written":
            sending.set()
            go.wait(10)
            place.clock.now += 3.0

    place.store.fails = slowly
    home.reported()
    assert sending.wait(10)
    (home.folder / "checkpoint.pt").write_bytes(b"22")
    home.reported()
    go.set()
    wait_for_push(home)
    for now, sent in ((32.0, False), (33.5, True)):
        place.store.done.clear()
        place.clock.now = now
        home.reported()
        wait_for_push(home)
        assert bool(place.store.written()) == sent


def test_a_store_that_is_away_for_a_while_costs_no_trial(place: Place) -> None:
    place.weather.down = 1
    home = place.home(patience=30)
    home.furnish()
    confirmed(home)
    place.weather.down = 1
    home.hand_over()
    assert set(place.on_store()) == {"checkpoint.pt", "outputs/scores.npz", "result.json"}


def test_a_store_that_stays_away_ends_the_attempt_with_a_word(place: Place) -> None:
    place.weather.down = 1000
    with pytest.raises(OutOfReach, match=r"now \(no route\); it was tried for 0 s"):
        place.home().furnish()


def test_a_checkpoint_that_cannot_be_sent_does_not_end_the_trial(place: Place) -> None:
    home = place.home()
    home.furnish()
    home.folder.mkdir()
    (home.folder / "checkpoint.pt").write_bytes(b"1")
    place.weather.refuses = TRIAL
    home.reported()
    wait_for_push(home)
    assert place.on_store() == {}
    with pytest.raises(Refused, match="access is denied"):
        home.hand_over()


def test_data_that_the_store_has_lost_stop_the_study(place: Place) -> None:
    place.store.delete(f"data/{place.stored.data}/facts.json")
    with pytest.raises(Refused, match="what a trial needs is not there"):
        place.home(patience=30).furnish()


def test_who_sees_the_drivers_disk_leaves_the_trial_there_and_uses_its_data(place: Place, data: Path) -> None:
    (place.driver.parent / "data").symlink_to(data.parent)
    stale = place.driver / "trials" / "key"
    stale.mkdir(parents=True)
    (stale / "old").touch()
    home = place.home(sees_driver=True)
    assert home.notes == stale, "the driver looks there for what a dead worker wrote"
    home.furnish()
    assert not (place.machine / "data").exists()
    confirmed(home)
    home.hand_over()
    assert examine(stale, "key", confirmed=True).damage == ()
    assert not (stale / "old").exists()
    assert "result.json" in place.on_store()


# -- on a machine -------------------------------------------------------------------------------------------


@pytest.fixture
def request_of(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(homes, "Objects", Objects)
    return {
        "folder": str(place.driver / "trials" / "key"),
        "data_root": str(place.driver.parent / "data"),
        "store": {**asdict(place.stored), "sign": "wrong"},
    }


def test_nothing_is_left_on_the_machine_but_the_data(place: Place, request_of: dict[str, Any]) -> None:
    with home_of(request_of) as home:
        assert isinstance(home, StoredHome)
        home.furnish()
        confirmed(home)
        home.hand_over()
    copy = working_copy(place.stored.uri)
    assert list((copy / "scratch").iterdir()) == []
    assert [f.name for f in (copy / "data").iterdir() if f.is_dir()] == [place.stored.data]
    assert "result.json" in place.on_store()


def test_what_a_killed_worker_left_is_removed_and_what_a_living_one_has_is_not(
    place: Place, request_of: dict[str, Any]
) -> None:
    scratches = working_copy(place.stored.uri) / "scratch"
    with home_of(request_of) as living:
        killed = scratches / "killed"
        killed.mkdir()
        (killed / ".lock").touch()
        with home_of(request_of):
            assert not killed.exists()
            assert living.folder.parent.exists()
            assert len(list(scratches.iterdir())) == 2


def test_a_folder_that_all_see_is_worked_in_as_it_is(tmp_path: Path) -> None:
    with home_of({"folder": str(tmp_path / "a" / "key"), "data_root": str(tmp_path / "data")}) as home:
        assert (home.folder, home.data_root) == (tmp_path / "a" / "key", tmp_path / "data")
        home.furnish()
        home.reported()
        home.hand_over()
    assert list(tmp_path.iterdir()) == []
