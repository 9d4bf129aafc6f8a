"""Whether a study has to stop: the user or a scheduler wants it, or it cannot go on."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_CAUGHT = (signal.SIGINT, signal.SIGTERM)
_REMINDER_SECONDS = 0.2
_PATIENCE_SECONDS = 5.0
"""For a body that a stop should end where it stands."""


class Stop:
    """Whether the user (Ctrl-C) or a scheduler (SIGTERM) wants the study to stop, or it cannot go on.

    A second Ctrl-C raises KeyboardInterrupt: the user does not want to wait. A second SIGTERM changes
    nothing: schedulers say it to every process of a job, some of them twice, and a stop is under way.
    """

    def __init__(self) -> None:
        self.name = ""
        self.trouble = ""
        """Why the study cannot go on for now, in words."""
        self._wanted = threading.Event()
        self._handled = False
        """Whether Python has dealt with a signal."""
        self._at_once = False
        self._give_up: Callable[[], None] = lambda: None

    def __call__(self) -> bool:
        return bool(self.name or self.trouble)

    def halt(self, trouble: str) -> None:
        """Stop as if the user wanted it, for trouble that the user can mend; the first one counts."""
        self.trouble = self.trouble or trouble
        self._wanted.set()

    def wait(self, seconds: float) -> bool:
        """Whether the study has to stop, now or within so many seconds."""
        return self._wanted.wait(seconds)

    def handle(self, number: int, _: FrameType | None) -> None:
        again, self._handled = self._handled, True
        self._note(number)
        if self._at_once or (again and number == signal.SIGINT):
            raise KeyboardInterrupt

    def _note(self, number: int) -> None:
        self.name = self.name or ("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        self._wanted.set()

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Signals are caught while the body runs; outside the main thread they stay with others.

        A handler waits for the main thread, which may be deep in Ray; a thread of its own hears them at once.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard, said = os.pipe()
        os.set_blocking(said, False)
        others = signal.set_wakeup_fd(said, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(heard,), name="stop", daemon=True).start()
        earlier = {number: signal.signal(number, self.handle) for number in _CAUGHT}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(others)
            os.close(said)

    @contextlib.contextmanager
    def at_once(self, give_up: Callable[[], None] = lambda: None) -> Iterator[None]:
        """A stop ends the body where it stands, by KeyboardInterrupt: nothing is at work that it could harm.

        Ray puts handlers of its own on SIGTERM while it starts, which end the process with a status that
        means nothing, at some moments after 30 s; until the body ends the signals stay as they are.

        Args:
            give_up: called in another thread where the body has not ended some seconds after the signal; need
                not return.
        """
        if self.name:
            raise KeyboardInterrupt
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        put = signal.signal
        self._give_up = give_up
        self._at_once = True
        setattr(signal, "signal", _but_for(_CAUGHT, put))  # noqa: B010
        try:
            yield
        finally:
            self._at_once = False
            setattr(signal, "signal", put)  # noqa: B010
            if self.name:
                signal.alarm(0)
            # Ray's core puts a handler around ours, which prints its stack.
            for number in _CAUGHT:
                signal.signal(number, self.handle)

    def _listen(self, heard: int) -> None:
        """Hear every signal that comes while the body of ``caught`` runs.

        Args:
            heard: gives a byte a signal, as soon as it has come.
        """
        with os.fdopen(heard, "rb", buffering=0) as signals:
            while number := signals.read(1):
                if number[0] in _CAUGHT:
                    self._note(number[0])
                    self._insist(number[0])

    def _insist(self, number: int) -> None:
        """Say a signal again until the body of ``at_once`` has ended.

        An exception that is raised in a destructor or a callback is printed and forgotten. And the handler of
        Ray's core sets an alarm that kills the process after 3 s.
        """
        began = time.monotonic()
        while self._at_once:
            signal.alarm(0)
            time.sleep(_REMINDER_SECONDS)
            if self._at_once and time.monotonic() - began > _PATIENCE_SECONDS:
                self._give_up()
            if self._at_once:
                os.kill(os.getpid(), number)


def _but_for(kept: tuple[signal.Signals, ...], put: Callable[..., Any]) -> Callable[..., Any]:
    """``signal.signal``, which leaves some signals alone."""

    def signal_(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number in kept else put(number, handler)

    return signal_
