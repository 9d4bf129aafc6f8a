"""Whether the user or a scheduler wants a study to stop."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Stop:
    """Whether the user (Ctrl-C) or a scheduler (SIGTERM) wants the study to stop."""

    def __init__(self) -> None:
        self.name = ""

    def __call__(self) -> bool:
        return bool(self.name)

    def handle(self, number: int, _: FrameType | None) -> None:
        if self.name:
            raise KeyboardInterrupt
        self.name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name

    def arm(self) -> None:
        """Catch the signals (again: Ray puts a handler of its own on SIGTERM when it starts)."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, self.handle)

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Signals are caught while the body runs; outside the main thread they stay with others."""
        earlier = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        self.arm()
        try:
            yield
        finally:
            if threading.current_thread() is threading.main_thread():
                for number, handler in earlier.items():
                    signal.signal(number, handler)
