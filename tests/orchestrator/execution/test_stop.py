"""Signals while a study starts, works and stops; sent to this process itself."""

from __future__ import annotations

import faulthandler
import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.execution import stop as stop_module
from orchestrator.execution.stop import Stop

LONG = 20.0
"""Seconds; what ends in time ends long before."""


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Whatever a test does, the handlers are as before afterwards."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    earlier = {number: signal.getsignal(number) for number in numbers}
    put = signal.signal
    yield
    assert signal.signal is put, "others' handlers must work again"
    for number, handler in earlier.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def interrupted(body: Callable[[], None]) -> bool:
    """Whether the body was ended by KeyboardInterrupt, and soon."""
    began = time.monotonic()
    try:
        body()
    except KeyboardInterrupt:
        return time.monotonic() - began < LONG / 2
    return False


def send_and_sleep(number: int) -> None:
    send(number)
    time.sleep(LONG)


def deaf() -> None:
    """Code that lets other threads run, and looks at no signal; it takes most of a second."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000)


def wait(stop: Stop) -> None:
    deadline = time.monotonic() + LONG
    while not stop() and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_is_kept_in_mind_and_the_work_goes_on(number: int, name: str) -> None:
    before = signal.getsignal(number)
    stop = Stop()
    with stop.caught():
        assert not stop()
        send(number)
        wait(stop)
    assert (stop(), stop.name) == (True, name)
    assert signal.getsignal(number) is before


def test_a_second_sigterm_changes_nothing() -> None:
    stop = Stop()
    with stop.caught():
        for _ in range(3):
            send(signal.SIGTERM)
            wait(stop)
    assert stop.name == "SIGTERM"


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_of_the_user_does_not_wait(first: int) -> None:
    stop = Stop()
    with stop.caught():
        send(first)
        wait(stop)
        assert interrupted(lambda: send_and_sleep(signal.SIGINT))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_at_once_what_it_cannot_harm(number: int) -> None:
    stop = Stop()

    def body() -> None:
        with stop.at_once():
            send_and_sleep(number)

    with stop.caught():
        assert interrupted(body)
        # From here on it is as it was: nothing more is raised.
        send(signal.SIGTERM)
        time.sleep(0.01)
    assert stop()


def test_what_came_earlier_ends_it_before_it_begins() -> None:
    stop = Stop()
    with stop.caught():
        send(signal.SIGTERM)
        wait(stop)
        with pytest.raises(KeyboardInterrupt), stop.at_once():
            pytest.fail("it must not begin")


def test_a_signal_that_was_swallowed_is_said_again() -> None:
    stop = Stop()

    def body() -> None:
        with stop.at_once():
            # As Python does with whatever is raised in a destructor.
            assert interrupted(lambda: send_and_sleep(signal.SIGTERM))
            time.sleep(LONG)

    with stop.caught():
        assert interrupted(body)


def test_others_cannot_put_handlers_on_the_signals_meanwhile() -> None:
    stop = Stop()
    others: list[int] = []

    def body() -> None:
        with stop.at_once():
            signal.signal(signal.SIGTERM, lambda number, _: others.append(number))
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            send_and_sleep(signal.SIGTERM)

    with stop.caught():
        assert interrupted(body)
        assert signal.getsignal(signal.SIGALRM) is signal.SIG_IGN
    assert (stop.name, others) == ("SIGTERM", [])


def test_an_alarm_that_comes_with_a_signal_does_not_ring() -> None:
    """The handler of Ray's core sets one that kills the process."""
    stop = Stop()
    rung: list[int] = []
    signal.signal(signal.SIGALRM, lambda number, _: rung.append(number))

    def body() -> None:
        with stop.at_once():
            # It would ring before the body ends, which does not let itself be ended for a while.
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            end = time.monotonic() + 0.6
            interrupted(lambda: send(signal.SIGTERM))
            while time.monotonic() < end:
                interrupted(lambda: time.sleep(0.01))
            time.sleep(LONG)

    with stop.caught():
        assert interrupted(body)
        assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0
    assert rung == []


def test_a_handler_that_came_in_below_python_is_taken_off(tmp_path: Path) -> None:
    stop = Stop()
    with (tmp_path / "printed").open("w+") as printed, stop.caught():
        with stop.at_once():
            faulthandler.register(signal.SIGTERM, printed, chain=True)
        try:
            send(signal.SIGTERM)
            wait(stop)
        finally:
            faulthandler.unregister(signal.SIGTERM)
        assert (printed.seek(0), printed.read()) == (0, "")
    assert stop.name == "SIGTERM"


def test_a_signal_is_known_while_the_main_thread_does_not_run_python(monkeypatch: pytest.MonkeyPatch) -> None:
    stop = Stop()
    handled: list[int] = []
    knew: list[bool] = []
    ready = threading.Event()

    def look() -> None:
        ready.wait()
        time.sleep(0.05)
        send(signal.SIGTERM)
        knew.append(stop.wait(LONG) and not handled)

    monkeypatch.setattr(stop, "handle", lambda number, _: handled.append(number))
    with stop.caught():
        thread = threading.Thread(target=look)
        thread.start()
        ready.set()
        deaf()
        thread.join()
    assert knew == [True]
    assert handled == [signal.SIGTERM]


def test_what_does_not_end_at_once_is_given_up_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_module, "_PATIENCE_SECONDS", 0.0)
    given_up = threading.Event()
    stop = Stop()

    def body() -> None:
        with stop.at_once(given_up.set):
            threading.Timer(0.05, send, (signal.SIGTERM,)).start()
            deaf()
            assert given_up.is_set()
            time.sleep(LONG)

    with stop.caught():
        assert interrupted(body)
    assert given_up.is_set()


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen: list[object] = []
    stop = Stop()
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with stop.caught(), stop.at_once():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


def test_trouble_stops_without_a_signal_and_the_first_counts() -> None:
    stop = Stop()
    stop.halt("the disk is full")
    stop.halt("and another")
    assert (stop(), stop.trouble, stop.name) == (True, "the disk is full", "")
