"""A session's record: every event goes to the ledger first, then to whoever looks on."""

from __future__ import annotations

import time
from typing import Any

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.execution.disk import full_disk, full_disk_text
from orchestrator.execution.display import Display
from orchestrator.execution.stop import Stop
from orchestrator.execution.study_run import StudyRun
from orchestrator.tracking.store import artifact_root
from orchestrator.tracking.tracker import Tracker, make_writer


class Recording:
    """The study's ledger, open for this session, with the record, the view and MLflow behind it.

    Args:
        uri: MLflow's store.
        stop: told where the disk is full.
    """

    def __init__(self, run: StudyRun, uri: str, stop: Stop) -> None:
        self._stop = stop
        self.ledger = Ledger(run.study_dir / "ledger.jsonl")
        history = list(read_events(self.ledger.path))
        self.resumed = bool(history)
        """Whether the study has run before."""
        self.record = StudyRecord.fold(history)
        self.display = Display(run.spec, self.record, plain=run.plain)
        self._mirror = run.mirror
        open_writer = make_writer(
            run.spec, run.study_dir, uri, artifact_root(uri, run.out), self._mirror.fetch_trial
        )
        self.tracker = Tracker(run.spec, open_writer, self.display.say)
        self._history = history
        self._opened: float | None = None
        """When this session's ``opened`` was written, by the monotonic clock."""

    def begin(self) -> None:
        """Tell MLflow's thread what has happened so far."""
        self.tracker.start(self._history)
        self._history = []
        self._mirror.begin(self.ledger.path, self.display.say, self._stop.halt)

    def emit(self, event: dict[str, Any]) -> None:
        """Ledger first; then whoever looks on. The record is the caller's to bring up to date."""
        if event["event"] == "opened":
            self._opened = time.monotonic()
        elif self._opened is not None:
            # Unlike the time of day, nobody can set it.
            event.setdefault("up", round(time.monotonic() - self._opened, 3))
        # Reports are many, and the next durable line carries them to the disk with it.
        try:
            self.ledger.append(event, durable=event["event"] != "reported")
        except OSError as error:
            # Said here, because Tune makes an error of its own of whatever ends a callback.
            self.halt_where_full(error)
            raise
        if event["event"] != "reported":
            self._mirror.wrote()
        self.tracker.put(event)
        self.display.event(event)

    def note(self, event: dict[str, Any]) -> None:
        """Emit an event, and bring the record up to date."""
        self.emit(event)
        self.record.apply(event)

    def halt_where_full(self, error: OSError) -> None:
        """Stop the study where the disk is full; whatever else is wrong is the caller's."""
        full = full_disk(error)
        if full is not None:
            self._stop.halt(full_disk_text(full, self.ledger.path))

    def close(self) -> None:
        self.display.close()
        self.ledger.close()
