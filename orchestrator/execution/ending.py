"""The end of a session: the record is closed, the report written, MLflow brought up to date."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.errors import StudyFailed
from orchestrator.execution.recording import Recording
from orchestrator.execution.stop import Stop
from orchestrator.execution.study_run import Reported, StudyRun
from orchestrator.tracking.store import without_credentials

if TYPE_CHECKING:
    from orchestrator.tracking.writer import MlflowWriter

_DRAIN_SECONDS = 60.0
_STOPPED_DRAIN_SECONDS = 3.0
"""Where a scheduler or the user waits for the end; the next run delivers the rest."""


class Ending:
    """How a session ends.

    Args:
        uri: MLflow's store.
    """

    def __init__(self, run: StudyRun, recording: Recording, uri: str, stop: Stop) -> None:
        self._run = run
        self._recording = recording
        self._place = without_credentials(uri)
        self._stop = stop
        self._trouble = ""
        """Why there is no report."""
        self._told: float | None = None

    def conclude(self, reason: str) -> Reported | None:
        """Close the record and write the report; None where there is none to write, or it failed."""
        closed = {"event": "closed", "t": time.time(), "reason": reason}
        try:
            self._recording.emit(closed)
        except OSError:
            # On a full disk a session may end without a word in the ledger, as a killed one does.
            if not self._stop.trouble:
                raise
        self._recording.record.apply(closed)
        self._recording.display.close()
        if reason == "interrupted":
            return None
        mirror = self._run.mirror
        try:
            mirror.fetch_reported(self._recording.record)
            reported = self._run.report(self._run.spec, self._recording.record, self._run.study_dir)
            mirror.send_report()
            return reported
        except Exception as error:  # whatever is wrong with a report, the study itself has run
            self._trouble = (
                f"the study has run, but its report failed ({type(error).__name__}: {error}). See why with: "
                f"orchestrate --debug report {self._run.spec.name} --out {mirror.named(str(self._run.out))}"
            )
            return None

    def deliver(self, reason: str, reported: Reported | None) -> None:
        """Print the answer, and bring MLflow up to date."""
        if reported:
            print(reported.text, flush=True)
        stopped = reason == "interrupted"
        if self._recording.tracker.trouble and not stopped:
            print(f"MLflow   the records wait; trying again for {_DRAIN_SECONDS:g} s", flush=True)

        def finish(writer: MlflowWriter) -> None:
            status = {"done": "FINISHED", "failed": "FAILED"}.get(reason, "KILLED")
            if reported is None:
                writer.close(self._recording.record, status, {})
                return
            found = reported.summaries, reported.audits, reported.answer
            writer.close(self._recording.record, status, *found)
            writer.log_report(reported.folder)

        seconds = _STOPPED_DRAIN_SECONDS if stopped else _DRAIN_SECONDS
        delivered = self._recording.tracker.drain(seconds, finish, self._told_in_vain)
        if not delivered:
            print(
                f"MLflow   NOT all was delivered to {self._place} ({self._recording.tracker.trouble}); "
                f"nothing is lost: run the same command again to deliver it.",
                flush=True,
            )
        elif reported and self._recording.tracker.writer is not None:
            print(f"MLflow   {self._recording.tracker.writer.run_url()}")
            if self._place.startswith("sqlite:"):
                place = self._run.mirror.named(str(self._run.out))
                print(f"         see it with: orchestrate ui --out {place}", flush=True)

    def _told_in_vain(self) -> bool:
        """Whether somebody has told a finished study to stop, and has waited long enough."""
        if self._told is None and self._stop.name:
            self._told = time.monotonic()
        return self._told is not None and time.monotonic() - self._told > _STOPPED_DRAIN_SECONDS

    def require_results(self) -> None:
        """Raise StudyFailed where the command should not look as if all were well."""
        if self._trouble:
            raise StudyFailed(self._trouble)
        lost = {a.name: a.failure for a in self._recording.record.arms.values() if a.failure}
        for arm in self._recording.record.arms.values():
            for regime, trials in arm.confirms.items():
                if all(t.state == "failed" for t in trials.values()):
                    where = "" if len(arm.confirms) == 1 else f" of {regime}"
                    lost[f"{arm.name}{where}"] = "every confirm trial failed"
        if lost:
            lines = [f"  {name}: {why}" for name, why in lost.items()]
            raise StudyFailed("arms without a result:\n" + "\n".join(lines))
