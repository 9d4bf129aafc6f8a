"""A real MLflow server that loses answers, is slow, and asks for a password: all arrives, and once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.record import Event
from orchestrator.errors import Unavailable
from orchestrator.tracking.store import check_store
from tests.orchestrator.tracking.holdings import holdings
from tests.orchestrator.tracking.material import Session
from tests.orchestrator.tracking.server import Proxy, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200), pytest.mark.usefixtures("impatient")]

PASSWORD = "s3cret/p@ss"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    between = Proxy(server.uri)
    yield between
    between.close()


def lost_once() -> Callable[[str, str, bytes], bool]:
    """Of every request, however often it is asked, the first answer is lost: so all is done twice."""
    seen: set[tuple[str, str, bytes]] = set()

    def loses(*request: Any) -> bool:
        if request in seen or request[1] == "/health":
            return False
        seen.add(request)
        return True

    return loses


def test_where_every_first_answer_is_lost_all_arrives_and_nothing_is_there_twice(
    proxy: Proxy, folder: Path, finished: list[Event], undisturbed: Any
) -> None:
    proxy.loses = lost_once()
    session = Session(proxy.uri, "lost", folder, finished)
    session.events()
    assert session.end(), session.tracker.trouble
    proxy.loses = lambda *request: False
    assert holdings(proxy.uri, "lost") == undisturbed
    made = [path for _, path in proxy.requests if path.endswith(("/runs/create", "/experiments/create"))]
    assert len(made) == 1 + len(undisturbed[0]), "what was made unheard of is not made again"


def test_a_server_that_answers_late_holds_up_neither_the_study_nor_its_end(
    proxy: Proxy, folder: Path, finished: list[Event], undisturbed: Any
) -> None:
    half = len(finished) // 2
    session = Session(proxy.uri, "late", folder, finished)
    session.events(0, half)
    deadline = time.monotonic() + 60.0
    while not any(path.endswith("runs/log-batch") for _, path in proxy.requests):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    proxy.waits.clear()
    busy = time.process_time()
    session.events(half)
    assert time.process_time() - busy < 0.5, "events must only be put on a queue"
    began = time.monotonic()
    assert not session.end(1.0)
    assert time.monotonic() - began < 5.0
    assert "did not answer" in session.tracker.trouble
    proxy.waits.set()
    session.tracker._thread.join(30.0)
    again = Session(proxy.uri, "late", folder, finished)
    again.events()
    assert again.end(), again.tracker.trouble
    assert holdings(proxy.uri, "late") == undisturbed


def test_the_user_hears_once_that_records_wait_and_once_that_they_went_on(
    proxy: Proxy, folder: Path, finished: list[Event], undisturbed: Any
) -> None:
    session = Session(proxy.uri, "away", folder, finished)
    session.tracker.require_welcome(60.0)
    proxy.down = True
    session.events(0, len(finished) // 2)
    deadline = time.monotonic() + 60.0
    while not session.said:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.1)  # several more tries, of which nobody wants to hear
    assert len(session.said) == 1
    assert "training goes on, and the records wait" in session.said[0]
    proxy.down = False
    while len(session.said) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "takes records again" in session.said[1]
    session.events(len(finished) // 2)
    assert session.end(), session.tracker.trouble
    assert len(session.said) == 2
    assert holdings(proxy.uri, "away") == undisturbed


def test_records_that_a_server_will_not_have_do_not_hold_up_the_others(
    server: Server, folder: Path, finished: list[Event], undisturbed: Any
) -> None:
    started = next(e for e in finished if e["event"] == "started" and e["stage"] == "search")
    worse = [
        {**e, "metrics": {"what?!": 1.0}} if e["event"] == "reported" and e["key"] == started["key"] else e
        for e in finished
    ]
    session = Session(server.uri, "refused", folder, worse)
    session.events()
    assert not session.end()
    assert "what?!" in session.tracker.trouble
    role = f"trial:{started['key']}"
    runs, models = holdings(server.uri, "refused")
    assert models == undisturbed[1]
    assert {r: run for r, run in runs.items() if r != role} == {
        r: run for r, run in undisturbed[0].items() if r != role
    }


def test_a_server_that_lost_its_records_gets_them_all_again(
    server: Server, folder: Path, finished: list[Event], undisturbed: Any
) -> None:
    session = Session(server.uri, "restored", folder, finished)
    session.events(0, len(finished) - 20)
    deadline = time.monotonic() + 60.0
    calm = 0
    while calm < 5:
        tracker = session.tracker
        busy = not tracker._opened or not tracker._queue.empty() or tracker._dirty
        calm = 0 if busy else calm + 1
        assert time.monotonic() < deadline
        time.sleep(0.02)
    writer = session.tracker.writer
    assert writer is not None
    # As after a restore from an older backup: the trials' names that are known mean nothing any more.
    for model in writer._client.search_logged_models([writer.experiment_id]):
        writer._client.delete_logged_model(model.model_id)
    for role in [role for role in writer._runs.ids if role.startswith("trial:")]:
        writer._client.delete_run(writer._runs.ids[role])
        writer._runs.ids[role] = "0" * 32
    session.events(len(finished) - 20)
    assert session.end(), session.tracker.trouble
    assert holdings(server.uri, "restored") == undisturbed


@pytest.mark.parametrize("by", ["the address", "the environment"])
def test_a_server_that_wants_a_password_gets_it(
    by: str, proxy: Proxy, folder: Path, finished: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.login = ("ann", PASSWORD)
    uri = proxy.uri
    if by == "the address":
        uri = f"http://ann:s3cret%2Fp%40ss@{proxy.place}"
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    assert check_store(uri) == f"{proxy.uri} answers"
    session = Session(uri, f"by {by}", folder, finished)
    session.tracker.require_welcome(60.0)
    session.events()
    assert session.end(), session.tracker.trouble
    writer = session.tracker.writer
    assert writer is not None
    assert PASSWORD not in writer.run_url() + writer.uri
    held = holdings(proxy.uri, f"by {by}")
    assert len(held[1]) == 6
    assert {tuple(model.files) for model in held[1].values()} == {("result.json",)}


def test_a_server_that_wants_another_password_is_said_before_anything_runs(
    proxy: Proxy, folder: Path, finished: list[Event]
) -> None:
    proxy.login = ("ann", PASSWORD)
    session = Session(f"http://ann:wr0ngone@{proxy.place}", "locked", folder, finished)
    with pytest.raises(Unavailable, match=r"does not let this user in .*nothing was run") as found:
        session.tracker.require_welcome(60.0)
    assert "wr0ngone" not in str(found.value)
    session.tracker.drain(0.0)
