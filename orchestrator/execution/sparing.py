"""A view of a study that costs more the larger the study is, worked out anew only as often as is cheap."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

_SHARE = 50
"""The view is let grow so many times older than it took: a fiftieth of a processor at most."""
_FREE_SECONDS = 0.002
"""What takes no longer is worked out whenever it is asked for."""
_T = TypeVar("_T")


class Sparing(Generic[_T]):
    """The answer of ``view``, at times one that was given a moment ago.

    Args:
        clock: seconds from any origin.
        effort: seconds of this thread's processor.
    """

    def __init__(
        self,
        view: Callable[[], _T],
        clock: Callable[[], float] = time.monotonic,
        effort: Callable[[], float] = time.thread_time,
    ) -> None:
        self._view = view
        self._clock = clock
        self._effort = effort
        self._last: tuple[_T, float] | None = None
        """The last answer, and until when it will do."""

    def __call__(self) -> _T:
        now = self._clock()
        if self._last is not None and now < self._last[1]:
            return self._last[0]
        began = self._effort()
        answer = self._view()
        took = self._effort() - began
        self._last = answer, now if took <= _FREE_SECONDS else now + _SHARE * took
        return answer
