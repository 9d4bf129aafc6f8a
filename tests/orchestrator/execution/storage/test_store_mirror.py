"""A driver's copy of a study on a store: what it starts from, what it sends, what it does in trouble."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.errors import StudyLocked, Unavailable
from orchestrator.execution.identity import identify
from orchestrator.execution.lock import DriverLock
from orchestrator.execution.storage import store_mirror
from orchestrator.execution.storage.store_mirror import StoreMirror
from orchestrator.process import Process
from tests.orchestrator.execution.storage.objects import FolderStore, Weather


class Driver:
    """A driver of the study ``s``, on a machine of its own."""

    def __init__(self, store: FolderStore, machine: Path) -> None:
        self.said: list[str] = []
        self.halts: list[str] = []
        self.dir = machine / "s"
        self.dir.mkdir(parents=True, exist_ok=True)
        self.mirror = StoreMirror(store, self.dir, self.said.append)

    @property
    def ledger(self) -> Path:
        return self.dir / "ledger.jsonl"

    def begin(self) -> None:
        (self.dir / "study.yaml").write_text("study: s\n")
        identify(self.dir, None)
        self.append("opened")
        self.mirror.begin(self.ledger, self.said.append, self.halts.append)

    def append(self, *events: str) -> None:
        ledger = Ledger(self.ledger)
        for event in events:
            ledger.append({"event": event})
        ledger.close()
        self.mirror.wrote()

    def events(self) -> list[str]:
        return [e["event"] for e in read_events(self.ledger)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_mirror, "_PUSH_SECONDS", 0.02)
    monkeypatch.setattr(store_mirror, "_PUSH_SHARE", 0)
    monkeypatch.setattr(store_mirror, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(store_mirror, "_GREETING_SECONDS", 0.2)


@pytest.fixture
def weather() -> Weather:
    return Weather()


@pytest.fixture
def store(tmp_path: Path, weather: Weather) -> FolderStore:
    return FolderStore(tmp_path / "store", weather)


@pytest.fixture
def ran(store: FolderStore, tmp_path: Path) -> Driver:
    """A session that has come to its end."""
    driver = Driver(store, tmp_path / "first")
    with driver.mirror.held():
        driver.begin()
        driver.append("started", "finished")
        assert driver.mirror.finish(5) == ""
    return driver


def until(ready: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def test_a_session_leaves_its_study_on_the_store_and_another_machine_goes_on_with_it(
    ran: Driver, store: FolderStore, tmp_path: Path
) -> None:
    assert not store.listed("s/drivers"), "the next driver need not wait"
    second = Driver(store, tmp_path / "second")
    with second.mirror.held():
        assert second.events() == ["opened", "started", "finished"]
        assert (second.dir / "study.yaml").read_text() == "study: s\n"
        assert (second.dir / "identity.json").read_bytes() == (ran.dir / "identity.json").read_bytes()


def test_a_session_whose_disk_is_lost_has_sent_what_it_wrote(store: FolderStore, tmp_path: Path) -> None:
    driver = Driver(store, tmp_path / "first")
    with driver.mirror.held():
        driver.begin()
        driver.append("started")
        until(lambda: b"started" in b"".join(store.get(f"s/ledger/{n}") for n in store.listed("s/ledger")))
        assert store.listed("s/drivers")
    assert {"study.yaml", "identity.json"} <= set(store.listed("s"))


def test_what_a_killed_driver_had_not_sent_is_still_there_on_its_machine(
    ran: Driver, store: FolderStore, tmp_path: Path
) -> None:
    ran.append("more")
    again = Driver(store, tmp_path / "first")
    with again.mirror.held():
        assert again.events() == ["opened", "started", "finished", "more"]
        again.mirror.begin(again.ledger, again.said.append, again.halts.append)
        assert again.mirror.finish(5) == ""
    other = Driver(store, tmp_path / "second")
    with other.mirror.held():
        assert other.events()[-1] == "more"


@pytest.mark.parametrize("what", ["deleted there", "another study there"])
def test_a_copy_of_what_is_no_longer_there_is_not_brought_back(
    what: str, ran: Driver, store: FolderStore, tmp_path: Path
) -> None:
    shutil.rmtree(store.folder / "s")
    if what == "another study there":
        other = Driver(store, tmp_path / "other")
        with other.mirror.held():
            other.begin()
            assert other.mirror.finish(5) == ""
    (ran.dir / "trials" / "old").mkdir(parents=True)
    again = Driver(store, tmp_path / "first")
    with again.mirror.held():
        assert again.events() == (["opened"] if what == "another study there" else [])
        assert not (again.dir / "trials").exists()


def test_an_older_study_is_put_aside_and_the_copy_begins_anew(
    ran: Driver, store: FolderStore, tmp_path: Path
) -> None:
    store.put("s/trials/key/result.json", b"{}")
    again = Driver(store, tmp_path / "first")
    with again.mirror.held():
        assert again.mirror.has_trials()
        place = again.mirror.put_aside()
        assert place is not None
        assert place.startswith(f"{store.place}/s.20")
        assert again.events() == []
        assert not again.mirror.has_trials()
        again.begin()
        assert again.mirror.finish(5) == ""
        assert again.events() == ["opened"]
    aside = place.rpartition("/")[2]
    assert {"study.yaml", "identity.json", "trials/key/result.json"} < set(store.listed(aside))
    last = Driver(store, tmp_path / "last")
    with last.mirror.held():
        assert last.events() == ["opened"]


def test_a_store_that_cannot_be_used_is_said_before_anything_runs(
    store: FolderStore, weather: Weather, tmp_path: Path
) -> None:
    driver = Driver(store, tmp_path / "first")
    weather.refuses = "s/"
    with pytest.raises(Unavailable, match="access is denied; nothing was run"), driver.mirror.held():
        raise AssertionError("must not be reached")
    weather.refuses, weather.down = "", 10**6
    with pytest.raises(Unavailable, match=r"no route.*; nothing was run"), driver.mirror.held():
        raise AssertionError("must not be reached")


def test_a_store_that_is_away_is_told_once_and_gets_everything_when_it_is_back(
    store: FolderStore, weather: Weather, tmp_path: Path
) -> None:
    driver = Driver(store, tmp_path / "first")
    with driver.mirror.held():
        driver.begin()
        until(lambda: store.listed("s/ledger"))
        weather.down = 10**6
        driver.append("while it was away")
        until(lambda: driver.said)
        driver.append("still")
        until(lambda: weather.down < 10**6 - 5)
        weather.down = 0
        until(lambda: len(driver.said) > 1)
        assert len(driver.said) == 2
        assert "training goes on, and the record waits" in driver.said[0]
        assert "takes the record again" in driver.said[1]
        assert driver.halts == []
        assert driver.mirror.finish(5) == ""
    other = Driver(store, tmp_path / "second")
    with other.mirror.held():
        assert other.events() == ["opened", "while it was away", "still"]


def test_a_store_that_will_not_have_it_any_more_stops_the_study(
    store: FolderStore, weather: Weather, tmp_path: Path
) -> None:
    driver = Driver(store, tmp_path / "first")
    with driver.mirror.held():
        driver.begin()
        until(lambda: store.listed("s/ledger"))
        weather.refuses = "s/ledger"
        driver.append("finished")
        until(lambda: driver.halts)
        assert "access is denied" in driver.halts[0]


def test_a_record_that_could_not_be_delivered_at_the_end_is_told_in_time(
    store: FolderStore, weather: Weather, tmp_path: Path
) -> None:
    driver = Driver(store, tmp_path / "first")
    with driver.mirror.held():
        driver.begin()
        until(lambda: store.listed("s/ledger"))
        weather.down = 10**6
        driver.append("finished")
        began = time.monotonic()
        said = driver.mirror.finish(0.5)
        assert time.monotonic() - began < 2
        assert "NOT all of the record was delivered" in said
        assert str(driver.dir) in said
        weather.down = 0


def test_a_store_that_hangs_holds_up_no_end(store: FolderStore, tmp_path: Path) -> None:
    driver = Driver(store, tmp_path / "first")
    go = threading.Event()
    with driver.mirror.held():
        driver.begin()
        until(lambda: store.listed("s/ledger"))

        def hang(what: str, name: str) -> None:
            go.wait(20)

        store.fails = hang
        driver.append("finished")
        time.sleep(0.1)
        began = time.monotonic()
        said = driver.mirror.finish(0.5)
        assert time.monotonic() - began < 3
        assert "NOT all of the record was delivered" in said
    assert time.monotonic() - began < 4, "nor does the lease"
    go.set()


def test_another_driver_that_took_the_study_over_stops_this_one(
    store: FolderStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_mirror, "RENEW_SECONDS", 0.05)
    driver = Driver(store, tmp_path / "first")
    monkeypatch.setattr(driver.mirror._lease, "renew", lambda: "process 7 on far-away")
    with driver.mirror.held():
        driver.begin()
        until(lambda: driver.halts)
        assert driver.halts == [
            f"{store.place}/s: another driver (process 7 on far-away) works on this study now"
        ]
        before = store.written()
        driver.append("finished")
        time.sleep(0.1)
        assert store.written() == before, "nothing of the other's is written over"
        driver.mirror.finish(0.5)
        assert store.written() == before


def test_a_reader_has_what_the_driver_wrote_and_leaves_a_driver_of_its_machine_alone(
    ran: Driver, store: FolderStore, tmp_path: Path
) -> None:
    reader = StoreMirror(store, tmp_path / "reader" / "s")
    reader.bring()
    assert [e["event"] for e in read_events(reader.study_dir / "ledger.jsonl")][-1] == "finished"
    assert not reader.is_held()
    (reader.study_dir / "ledger.jsonl").write_bytes(b"the driver's own")
    with DriverLock(reader.study_dir):
        reader.bring()
        assert (reader.study_dir / "ledger.jsonl").read_bytes() == b"the driver's own"
        assert reader.is_held()
    nothing = StoreMirror(store, tmp_path / "reader" / "t")
    nothing.bring()
    assert not nothing.study_dir.exists()
    assert nothing.studies() == ["s"]


def test_a_second_driver_of_the_study_is_refused(store: FolderStore, tmp_path: Path) -> None:
    first, second = Driver(store, tmp_path / "first"), Driver(store, tmp_path / "second")
    with first.mirror.held():
        # Two of one process would be one that began anew.
        second.mirror._lease._process = Process(1, "x", "y", "far-away")

        def renewed(seconds: float) -> None:
            first.mirror._lease.renew()

        second.mirror._lease._pause = renewed
        with pytest.raises(StudyLocked, match="another driver"):
            second.mirror._lease.claim()
