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


class Stop:
    """Whether the user (Ctrl-C) or a scheduler (SIGTERM) wants the study to stop, or it cannot go on.

    A second Ctrl-C raises KeyboardInterrupt: the user does not want to wait. A second SIGTERM changes
    nothing: schedulers say it to every process of a job, some of them twice, and a stop is under way.
    """

    def __init__(self) -> None:
        self.name = ""
        self.trouble = ""
        """Why the study cannot go on for now, in words."""
        self._at_once = False

    def __call__(self) -> bool:
        return bool(self.name or self.trouble)

    def halt(self, trouble: str) -> None:
        """Stop as if the user wanted it, for trouble that the user can mend; the first one counts."""
        self.trouble = self.trouble or trouble

    def handle(self, number: int, _: FrameType | None) -> None:
        again = bool(self.name)
        self.name = self.name or ("Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name)
        if self._at_once or (again and number == signal.SIGINT):
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Signals are caught while the body runs; outside the main thread they stay with others."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {number: signal.signal(number, self.handle) for number in _CAUGHT}
        try:
            yield
        finally:
            for number, handler in earlier.items():
                signal.signal(number, handler)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """A stop ends the body where it stands, by KeyboardInterrupt: nothing is at work that it could harm.

        Ray puts handlers of its own on SIGTERM while it starts, which end the process with a status that
        means nothing, at some moments after 30 s; until the body ends the signals stay as they are.
        """
        if self.name:
            raise KeyboardInterrupt
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        put = signal.signal
        self._at_once = True
        setattr(signal, "signal", _but_for(_CAUGHT, put))  # noqa: B010
        heard, said = os.pipe()
        os.set_blocking(said, False)
        earlier = signal.set_wakeup_fd(said, warn_on_full_buffer=False)
        threading.Thread(target=self._insist, args=(heard,), name="stop", daemon=True).start()
        try:
            yield
        finally:
            self._at_once = False
            setattr(signal, "signal", put)  # noqa: B010
            signal.set_wakeup_fd(earlier)
            os.close(said)
            if self.name:
                signal.alarm(0)
            # Ray's core puts a handler around ours, which prints its stack.
            for number in _CAUGHT:
                signal.signal(number, self.handle)

    def _insist(self, heard: int) -> None:
        """Say every signal again until the body of ``at_once`` has ended.

        An exception that is raised in a destructor or a callback is printed and forgotten. And the handler of
        Ray's core sets an alarm that kills the process after 3 s.

        Args:
            heard: gives a byte a signal, as soon as it has come.
        """
        with os.fdopen(heard, "rb", buffering=0) as signals:
            while number := signals.read(1):
                while self._at_once and number[0] in _CAUGHT:
                    signal.alarm(0)
                    time.sleep(_REMINDER_SECONDS)
                    if self._at_once:
                        os.kill(os.getpid(), number[0])


def _but_for(kept: tuple[signal.Signals, ...], put: Callable[..., Any]) -> Callable[..., Any]:
    """``signal.signal``, which leaves some signals alone."""

    def signal_(number: int, handler: Any) -> Any:
        return signal.getsignal(number) if number in kept else put(number, handler)

    return signal_
