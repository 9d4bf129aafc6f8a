"""One run of ``orchestrate study``: from the spec to a finished study, or to where it was stopped.

Running the same command again is the resume. There is no other path: a new study is one whose ledger is
empty.
"""

from __future__ import annotations

import importlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.errors import Interrupted, StudyChanged, StudyFailed, Unavailable
from orchestrator.execution.display import Display
from orchestrator.execution.folder import claimed
from orchestrator.execution.provenance import session_facts
from orchestrator.execution.stop import Stop
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.store import artifact_root, check_store, resolve_uri
from orchestrator.tracking.tracker import Tracker, make_writer
from workloads.contract import DataFacts, DataMissing

_DRAIN_SECONDS = 60.0
_JOURNAL_SECONDS = 5.0


@dataclass(frozen=True)
class Reported:
    """What the report made of a record, for the end of a session."""

    text: str
    """The tables and sentences for the terminal."""
    folder: Path
    """Where the report's files are."""
    summaries: Mapping[str, Mapping[str, float]]
    """By arm: metric name to value, for the arm's MLflow run."""


@dataclass(frozen=True)
class StudyRun:
    """What a session needs to know."""

    spec: StudySpec
    out: Path
    sources: Path
    """Where the data sets are."""
    address: str | None
    fresh: bool
    plain: bool
    command: Sequence[str]
    """The command line, to be printed where the user should run it again."""
    report: Callable[[StudySpec, StudyRecord, Path], Reported]

    @property
    def study_dir(self) -> Path:
        return self.out / self.spec.name


def run_study(run: StudyRun) -> None:
    """Run a study, or go on with it.

    Raises: UserError where nothing was changed; Interrupted after a stop; StudyFailed where an arm has no
        result at the end.
    """
    uri = resolve_uri(run.spec.tracking.uri, run.out)
    check_store(uri)
    run.out.mkdir(parents=True, exist_ok=True)
    with claimed(run.spec, run.study_dir, fresh=run.fresh):
        _Session(run, uri).go()


class _Session:
    def __init__(self, run: StudyRun, uri: str) -> None:
        self.run = run
        self.spec = run.spec
        self.study_dir = study_dir = run.study_dir
        self.uri = uri
        self.stop = Stop()
        path = study_dir / "ledger.jsonl"
        self.history = list(read_events(path)) if path.exists() else []
        self.record = StudyRecord.fold(self.history)
        self.ledger = Ledger(path)
        self.tracker = Tracker(self.spec, make_writer(self.spec, study_dir, uri, artifact_root(uri, run.out)))
        self.display = Display(self.spec, self.record, plain=run.plain)
        self.trouble = ""
        self.skipped: list[tuple[str, str, str]] = []
        """Arm, regime and the reason, of what does not fit."""

    def go(self) -> None:
        with self.stop.caught():
            try:
                self.tracker.start(self.history)
                self._run()
            finally:
                self.display.close()
                self.ledger.close()

    # -- stages of a session --------------------------------------------------------------------------

    def _run(self) -> None:
        self.display.starting(resumed=bool(self.history), study_dir=self.study_dir)
        # Data, imports and Ray take seconds each, and Ray mostly waits: they start side by side.
        with ThreadPoolExecutor(1) as pool:
            preparing = pool.submit(self._prepare)
            if self._is_finished():
                self._open(preparing.result(), "none: everything was done already")
                self._deliver("done", self._conclude("done"))
                return self._require_results()
            from orchestrator.execution import cluster

            with cluster.connect(self.run.address) as found:
                self.stop.arm()
                self._open(preparing.result(), found.address)
                slots = self._slots(found.cpus, found.gpus)
                self.display.running(slots)
                finished = False if self.stop() else self._tune(slots)
                reason = "done" if finished else "interrupted" if self.stop() else "failed"
                # The report is written while Ray shuts down.
                concluding = pool.submit(self._conclude, reason)
            self._deliver(reason, concluding.result())
        kept = f"everything finished is kept in {self.study_dir}.\nGo on with: {' '.join(self.run.command)}"
        if reason == "interrupted":
            raise Interrupted(f"stopped by {self.stop.name}; {kept}")
        if reason == "failed":
            raise StudyFailed(f"the Ray run ended before the study did; {kept}")
        self._require_results()

    def _is_finished(self) -> bool:
        """Whether an earlier run of the command has ended the study already."""
        planned, seeds = regimes(self.spec), len(self.spec.confirm.seeds)
        return bool(self.record.arms) and all(
            arm.failure
            or sum(t.ended is not None for t in arm.confirm_trials) == arm.confirm_planned(planned, seeds)
            for arm in self.record.arms.values()
        )

    def _prepare(self) -> DataFacts:
        from orchestrator.execution import trial

        try:
            facts = trial.prepare(self.spec.data, self.spec.noise, self._data_root, self.run.sources)
        except (DataMissing, ValueError) as error:
            raise Unavailable(f"the data of the study: {error}\nNothing was run.") from error
        if not self.record.trials:
            from orchestrator.execution.fitting import require_fitting

            self.skipped = require_fitting(self.spec, facts)
        importlib.import_module("orchestrator.execution.tune")
        return facts

    @property
    def _data_root(self) -> Path:
        return (self.run.out / "data").resolve()

    def _open(self, facts: DataFacts, cluster: str) -> None:
        """Write the ``opened`` event: from here on the study has a record."""
        for session in self.record.sessions:
            if session["data"]["hash"] != facts.hash:
                raise StudyChanged(
                    f"{self.study_dir}: its data have changed since it began (hash {session['data']['hash']} "
                    f"then, {facts.hash} now); nothing was run. Bring the data back, or start anew with "
                    f"--fresh: that keeps the old folder under another name."
                )
        self.facts = facts
        instance = self.record.sessions[0]["instance"] if self.record.sessions else uuid.uuid4().hex
        self.emit(
            {
                "event": "opened",
                "t": time.time(),
                "study": self.spec.name,
                "instance": instance,
                "arms": list(self.spec.arms),
                "data": asdict(facts),
                "cluster": cluster,
                "session": len(self.record.sessions) + 1,
                **session_facts(self.run.command),
            }
        )
        self.record.apply(self.last_event)
        for arm, regime, reason in self.skipped:
            if regime not in self.record.arms[arm].skipped:
                self.emit(
                    {"event": "skipped", "t": time.time(), "arm": arm, "regime": regime, "reason": reason}
                )
                self.record.apply(self.last_event)

    def emit(self, event: dict[str, Any]) -> None:
        """Ledger first; then whoever looks on."""
        # Reports are many, and the next durable line carries them to the disk with it.
        self.ledger.append(event, durable=event["event"] != "reported")
        self.last_event = event
        self.tracker.put(event)
        self.display.event(event)

    def _slots(self, cpus: float, gpus: float) -> int:
        """Trials that fit on the cluster side by side."""
        wanted = self.spec.resources
        slots = int(cpus / wanted.cpu)
        if wanted.on_gpu:
            slots = min(slots, int(gpus / wanted.most_gpu))
        if slots < 1:
            raise Unavailable(
                f"no trial fits on the cluster: a trial wants {wanted.cpu:g} CPUs and "
                f"{wanted.most_gpu:g} GPUs, the cluster has {cpus:g} and {gpus:g}; nothing was run. "
                f"Change resources.cpu or resources.gpu."
            )
        return min(slots, self.spec.execution.max_concurrent or slots)

    def _tune(self, slots: int) -> bool:
        """Run the campaign on Ray; whether it came to its end."""
        from orchestrator.campaign.campaign import Campaign
        from orchestrator.campaign.journal import BufferedJournal
        from orchestrator.execution.tune import fit

        journal = BufferedJournal(self.study_dir / "optuna.journal")
        flushed = time.monotonic()

        def emit(event: dict[str, Any]) -> None:
            nonlocal flushed
            self.emit(event)
            if event["event"] == "finished" and time.monotonic() - flushed > _JOURNAL_SECONDS:
                journal.flush()
                flushed = time.monotonic()

        commit = self.record.sessions[-1]["commit"]
        campaign = Campaign(self.spec, self.facts, self.record, emit, journal, commit)
        try:
            if not campaign.done:
                fit(campaign, self.study_dir, self._data_root, slots, self.stop)
        finally:
            journal.flush()
        return campaign.done

    def _conclude(self, reason: str) -> Reported | None:
        """Close the record and write the report; None where there is none to write, or it failed."""
        closed = {"event": "closed", "t": time.time(), "reason": reason}
        self.emit(closed)
        self.record.apply(closed)
        self.display.close()
        if reason == "interrupted":
            return None
        try:
            return self.run.report(self.spec, self.record, self.study_dir)
        except Exception as error:  # whatever is wrong with a report, the study itself has run
            self.trouble = (
                f"the study has run, but its report failed ({type(error).__name__}: {error}). See why with: "
                f"orchestrate --debug report {self.spec.name} --out {self.run.out}"
            )
            return None

    def _deliver(self, reason: str, reported: Reported | None) -> None:
        """Print the answer, and bring MLflow up to date."""
        if reported:
            print(reported.text, flush=True)
        delivered = self.tracker.drain(_DRAIN_SECONDS)
        writer = self.tracker.writer
        if delivered and writer is not None:
            status = {"done": "FINISHED", "failed": "FAILED"}.get(reason, "KILLED")
            try:
                writer.close(self.record, status, reported.summaries if reported else {})
                if reported:
                    writer.log_report(reported.folder)
            except Exception as error:  # the store may fail at any call, in its own ways
                delivered, self.tracker.trouble = False, str(error)
        if reported and delivered and writer is not None:
            print(f"MLflow   {writer.run_url()}")
            if self.uri.startswith("sqlite:"):
                print(f"         see it with: orchestrate ui --out {self.run.out}", flush=True)
        if not delivered:
            print(
                f"MLflow   NOT all was delivered to {self.uri} ({self.tracker.trouble}); nothing is lost: "
                f"run the same command again to deliver it.",
                flush=True,
            )

    def _require_results(self) -> None:
        """Raise StudyFailed where the command should not look as if all were well."""
        if self.trouble:
            raise StudyFailed(self.trouble)
        lost = {a.name: a.failure for a in self.record.arms.values() if a.failure}
        for arm in self.record.arms.values():
            for regime, trials in arm.confirms.items():
                if all(t.state == "failed" for t in trials.values()):
                    where = "" if len(arm.confirms) == 1 else f" of {regime}"
                    lost[f"{arm.name}{where}"] = "every confirm trial failed"
        if lost:
            lines = [f"  {name}: {why}" for name, why in lost.items()]
            raise StudyFailed("arms without a result:\n" + "\n".join(lines))
