"""One run of ``orchestrate study``: from the spec to a finished study, or to where it was stopped.

Running the same command again is the resume. There is no other path: a new study is one whose ledger is
empty.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.campaign.standing import is_settled
from orchestrator.errors import Interrupted, StudyChanged, StudyFailed, Unavailable
from orchestrator.execution import cluster, packing
from orchestrator.execution.disk import full_disk, full_disk_text
from orchestrator.execution.display import Display
from orchestrator.execution.folder import claimed
from orchestrator.execution.identity import identify
from orchestrator.execution.lifeline import fruitless_sessions, leave
from orchestrator.execution.provenance import processors, session_facts
from orchestrator.execution.stop import Stop
from orchestrator.execution.verification import Verification, verify
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.store import artifact_root, check_store, is_new, resolve_uri, without_credentials
from orchestrator.tracking.tracker import Tracker, make_writer
from workloads.contract import DataFacts, DataMissing

if TYPE_CHECKING:
    from orchestrator.tracking.writer import MlflowWriter

_DRAIN_SECONDS = 60.0
_STOPPED_DRAIN_SECONDS = 3.0
"""Where a scheduler or the user waits for the end; the next run delivers the rest."""
_WELCOME_SECONDS = 10.0
_JOURNAL_SECONDS = 5.0
_RESTARTS = 3
"""Of a local cluster that dies again and again before any trial gets a step further."""


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
    restart: Callable[[], object] | None = None
    """Begins the command anew in this process, whatever it does just now; None: it cannot be."""

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
    stop = Stop()
    try:
        with stop.caught(), claimed(run.spec, run.study_dir, fresh=run.fresh):
            _Session(run, uri, stop).go()
    except OSError as error:
        full = full_disk(error)
        if full is None:
            raise
        raise StudyFailed(_halted(full_disk_text(full, run.study_dir), run)) from error


def _halted(trouble: str, run: StudyRun) -> str:
    """Why a study cannot go on for now, and how it goes on."""
    return (
        f"{trouble}.\nEverything finished is kept in {run.study_dir}; no trial counts as failed for this. "
        f"When that is mended, run the same command again: {' '.join(run.command)}"
    )


class _Session:
    def __init__(self, run: StudyRun, uri: str, stop: Stop) -> None:
        self.run = run
        self.spec = run.spec
        self.study_dir = study_dir = run.study_dir
        self.uri = uri
        self.new_store = is_new(uri)
        self.stop = stop
        self.ledger = Ledger(study_dir / "ledger.jsonl")
        self.history = list(read_events(self.ledger.path))
        self.record = StudyRecord.fold(self.history)
        self.display = Display(self.spec, self.record, plain=run.plain)
        open_writer = make_writer(self.spec, study_dir, uri, artifact_root(uri, run.out))
        self.tracker = Tracker(self.spec, open_writer, self.display.say)
        self.trouble = ""
        self._opened: float | None = None
        """When this session's ``opened`` was written, by the monotonic clock."""
        self.skipped: list[tuple[str, str, str]] = []
        """Arm, regime and the reason, of what does not fit."""
        self.verified = Verification({}, ())

    def go(self) -> None:
        try:
            self.tracker.start(self.history)
            self._run()
        finally:
            self.display.close()
            self.ledger.close()

    # -- stages of a session --------------------------------------------------------------------------

    def _run(self) -> None:
        self.display.starting(resumed=bool(self.history), study_dir=self.study_dir)
        self._say_what_was_lost()
        # Data, imports and Ray take seconds each, and Ray mostly waits: they start side by side.
        pool = ThreadPoolExecutor(1)
        try:
            reason = self._work(pool)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped by {self.stop.name}; {self._kept()}") from None
        finally:
            # Preparing data may take long, and a later run finds what is done of it.
            pool.shutdown(wait=not self.stop(), cancel_futures=True)
        if self.stop.trouble:
            raise StudyFailed(_halted(self.stop.trouble, self.run))
        if reason == "interrupted":
            raise Interrupted(f"stopped by {self.stop.name}; {self._kept()}")
        if reason == "failed":
            raise StudyFailed(f"the Ray run ended before the study did; {self._kept()}")
        self._require_results()

    def _work(self, pool: ThreadPoolExecutor) -> str:
        """Do what is left of the study; how that ended: done, interrupted or failed.

        Raises: KeyboardInterrupt at a stop before anything runs, or at a second Ctrl-C.
        """
        cluster.prepare(self.run.address)
        preparing = pool.submit(self._prepare)
        if self._is_finished():
            with self.stop.at_once():
                facts = preparing.result()
            if not self.verified.damaged:
                self._open(facts, "none: everything was done already")
                self._deliver("done", self._conclude("done"))
                return "done"
        with contextlib.ExitStack() as stack:
            with self.stop.at_once():
                found = stack.enter_context(cluster.connect(self.run.address, lost=self._lost))
                facts = preparing.result()
            self._open(facts, found.address)
            self.display.running(self._slots(*found.machines()))
            finished = False if self.stop() else self._tune(found.machines)
            reason = "done" if finished else "interrupted" if self.stop() else "failed"
            # The report is written while Ray shuts down.
            concluding = pool.submit(self._conclude, reason)
        self._deliver(reason, concluding.result())
        return reason

    def _lost(self, reason: str) -> None:
        """The cluster has died under the study; called in a thread of its own, and ends the process.

        Everything stands in the ledger, so this is like a kill of the driver and the same command again.
        The study's own thread is not waited for: it may wait for the cluster.
        """
        self.display.close()
        local = cluster.named(self.run.address) is None
        if self.stop.trouble:
            leave(StudyFailed(_halted(self.stop.trouble, self.run)))
        if self.stop():
            leave(Interrupted(f"stopped by {self.stop.name}; {self._kept()}"))
        died = f"the {'local ' if local else ''}Ray cluster has died: {reason}"
        fruitless = fruitless_sessions(read_events(self.ledger.path))
        if local and self.run.restart and fruitless <= _RESTARTS:
            self.display.say(f"{died}; starting it again, nothing that was finished is lost")
            sys.stdout.flush()
            self.run.restart()
        again = f" for the {_RESTARTS + 1}th time without any progress" if fruitless > _RESTARTS else ""
        leave(StudyFailed(f"{died}{again}; {self._kept()}"))

    def _kept(self) -> str:
        again = " ".join(self.run.command)
        return f"everything finished is kept in {self.study_dir}.\nGo on with: {again}"

    def _is_finished(self) -> bool:
        """Whether an earlier run of the command has ended the study already."""
        return is_settled(self.spec, self.record)

    def _prepare(self) -> DataFacts:
        from orchestrator.execution import trial

        try:
            facts = trial.prepare(self.spec.data, self.spec.noise, self._data_root, self.run.sources)
        except (DataMissing, ValueError) as error:
            raise Unavailable(f"the data of the study: {error}\nNothing was run.") from error
        if not self.record.trials:
            from orchestrator.execution.fitting import require_fitting

            self.skipped = require_fitting(self.spec, facts)
        self.verified = verify(self.record, self.study_dir / "trials", processors())
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
        if not self.new_store:
            self.tracker.require_welcome(_WELCOME_SECONDS)
        self.facts = facts
        recorded = self.record.sessions[0]["instance"] if self.record.sessions else None
        self.emit(
            {
                "event": "opened",
                "t": time.time(),
                "study": self.spec.name,
                "instance": identify(self.study_dir, recorded),
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
        for key, reason in self.verified.damaged.items():
            self.emit({"event": "reopened", "t": time.time(), "key": key, "reason": reason})
            self.record.apply(self.last_event)
        for word in self.verified.words:
            self.display.say(word)

    def _say_what_was_lost(self) -> None:
        if self.ledger.word:
            self.display.say(self.ledger.word)
        elif not self.history and any((self.study_dir / "trials").glob("*")):
            self.display.say(
                "ledger.jsonl and its copy are gone, and trials/ is not: the study is worked out again, and "
                "finished trials are taken from their folders without training."
            )

    def emit(self, event: dict[str, Any]) -> None:
        """Ledger first; then whoever looks on."""
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
            self._halt_where_full(error)
            raise
        self.last_event = event
        self.tracker.put(event)
        self.display.event(event)

    def _halt_where_full(self, error: OSError) -> None:
        full = full_disk(error)
        if full is not None:
            self.stop.halt(full_disk_text(full, self.ledger.path))

    def _slots(self, cpus: float, gpus: float) -> int:
        """Trials that fit on the cluster side by side."""
        wanted = self.spec.resources
        slots = packing.slots(cpus, gpus, wanted, self.spec.execution.max_concurrent)
        if slots < 1:
            raise Unavailable(
                f"no trial fits on the cluster: a trial wants {wanted.cpu:g} CPUs and "
                f"{wanted.most_gpu:g} GPUs, the cluster has {cpus:g} and {gpus:g}; nothing was run. "
                f"Change resources.cpu or resources.gpu."
            )
        return slots

    def _tune(self, machines: Callable[[], tuple[float, float]]) -> bool:
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
                flush()
                flushed = time.monotonic()

        def flush() -> None:
            try:
                journal.flush()
            except OSError as error:
                self._halt_where_full(error)
                raise

        def watched() -> tuple[float, float]:
            found, most = machines(), self.spec.execution.max_concurrent
            self.display.resized(packing.slots(*found, self.spec.resources, most))
            return found

        commit = self.record.sessions[-1]["commit"]
        campaign = Campaign(self.spec, self.facts, self.record, emit, journal, commit)
        try:
            if not campaign.done:
                fit(campaign, self.study_dir, self._data_root, watched, self.stop, self.stop.halt)
        except Exception:
            if not self.stop.trouble:
                raise
        finally:
            try:
                flush()
            except OSError:
                if not self.stop.trouble:
                    raise
        return campaign.done

    def _conclude(self, reason: str) -> Reported | None:
        """Close the record and write the report; None where there is none to write, or it failed."""
        closed = {"event": "closed", "t": time.time(), "reason": reason}
        try:
            self.emit(closed)
        except OSError:
            # On a full disk a session may end without a word in the ledger, as a killed one does.
            if not self.stop.trouble:
                raise
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
        stopped = reason == "interrupted"
        if self.tracker.trouble and not stopped:
            print(f"MLflow   the records wait; trying again for {_DRAIN_SECONDS:g} s", flush=True)

        def finish(writer: MlflowWriter) -> None:
            status = {"done": "FINISHED", "failed": "FAILED"}.get(reason, "KILLED")
            writer.close(self.record, status, reported.summaries if reported else {})
            if reported:
                writer.log_report(reported.folder)

        seconds = _STOPPED_DRAIN_SECONDS if stopped else _DRAIN_SECONDS
        delivered = self.tracker.drain(seconds, finish, (lambda: False) if stopped else self.stop)
        place = without_credentials(self.uri)
        if not delivered:
            print(
                f"MLflow   NOT all was delivered to {place} ({self.tracker.trouble}); nothing is lost: "
                f"run the same command again to deliver it.",
                flush=True,
            )
        elif reported and self.tracker.writer is not None:
            print(f"MLflow   {self.tracker.writer.run_url()}")
            if place.startswith("sqlite:"):
                print(f"         see it with: orchestrate ui --out {self.run.out}", flush=True)

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
