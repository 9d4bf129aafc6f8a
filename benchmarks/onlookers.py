"""What else sees every event of a study, timed: the display, the tracker and ``status`` (see decisions)."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path
from typing import Any

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.execution.display import Display
from orchestrator.report.status_text import status_text
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.tracker import Tracker


class CountingWriter:
    """A store that takes everything at once and counts it."""

    def __init__(self) -> None:
        self.written = 0

    def open_study(self, record: StudyRecord) -> str:
        return ""

    def write_trial(self, record: StudyRecord, trial: TrialRecord) -> None:
        self.written += 1


def figures(spec: StudySpec, ledger: Path) -> dict[str, Any]:
    """Microseconds an event over the last tenth of a ledger; milliseconds of a table and of ``status``."""
    events = list(read_events(ledger))
    late = len(events) * 9 // 10
    record = StudyRecord.fold(events[:late])
    with contextlib.redirect_stdout(io.StringIO()):
        display = Display(spec, record, plain=True)
        display.running(8)
        began = time.thread_time()
        for event in events[late:]:
            display.event(event)
            record.apply(event)
        shown = time.thread_time() - began
        began = time.thread_time()
        display._table()
        table = time.thread_time() - began
    began = time.thread_time()
    status_text(spec, record, ledger.parent, running=False, written=0.0, now=0.0)
    status = time.thread_time() - began
    return {
        "ended": sum(t.ended is not None for t in record.trials.values()),
        "events": len(events),
        "display_us": 1e6 * shown / (len(events) - late),
        "table_ms": 1e3 * table,
        "status_ms": 1e3 * status,
        **_tracked(spec, events, late),
    }


def _tracked(spec: StudySpec, events: list[dict[str, Any]], late: int) -> dict[str, float]:
    """Processor of the tracker for the last tenth: of the caller, and of its thread."""
    writer = CountingWriter()
    tracker = Tracker(spec, lambda: writer)  # type: ignore[arg-type, return-value]
    before = time.process_time(), time.thread_time()
    tracker.start(events[:late])
    started = time.thread_time() - before[1]
    before = time.process_time(), time.thread_time()
    # Nothing is written before a session opens.
    for event in [events[0], *events[late:]]:
        tracker.put(event)
    put = time.thread_time() - before[1]
    tracker.drain(60.0)
    thread = time.process_time() - before[0] - (time.thread_time() - before[1])
    count = len(events) - late
    return {
        "tracker_start_s": started,
        "tracker_put_us": 1e6 * put / count,
        "tracker_thread_us": 1e6 * thread / count,
    }
