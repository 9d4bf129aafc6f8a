"""Reading a log while a job writes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TextIO

from orchestrator.redaction import redacted


def pieces(file: TextIO, *, follow: bool, over: Callable[[], bool], poll_seconds: float) -> Iterator[str]:
    """The log's lines, in pieces; with ``follow`` until the job is over and all was read.

    Args:
        over: whether the job writes no more.
    """
    ended, kept = False, ""
    while True:
        if piece := file.read(2**16):
            # Line by line: half a secret would not be known as one.
            whole, end, kept = (kept + piece).rpartition("\n")
            if end:
                yield redacted(whole) + end
        elif ended or not follow:
            if kept:
                yield redacted(kept)
            return
        else:
            # Asked before the last look, or what was written in between would be lost.
            ended = over()
            time.sleep(0 if ended else poll_seconds)
