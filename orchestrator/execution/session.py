"""One run of ``orchestrate study``: from the spec to a finished study, or to where it was stopped.

Running the same command again is the resume. There is no other path: a new study is one whose ledger is
empty.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestrator.campaign.standing import is_settled
from orchestrator.errors import Interrupted, StudyChanged, StudyFailed, Unavailable
from orchestrator.execution import cluster, packing
from orchestrator.execution.disk import full_disk, full_disk_text
from orchestrator.execution.ending import Ending
from orchestrator.execution.folder import claimed
from orchestrator.execution.identity import identify
from orchestrator.execution.provenance import processors, session_facts
from orchestrator.execution.recording import Recording
from orchestrator.execution.stop import Stop
from orchestrator.execution.study_run import StudyRun
from orchestrator.execution.verification import Verification, verify
from orchestrator.execution.way_out import WayOut
from orchestrator.tracking.store import check_store, is_new, resolve_uri
from workloads.contract import DataFacts, DataMissing

_WELCOME_SECONDS = 10.0
_JOURNAL_SECONDS = 5.0
_PUSH_SECONDS = 60.0
_STOPPED_PUSH_SECONDS = 3.0
"""For the rest of the record to an object store, where a scheduler or the user waits for the end."""


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
        with stop.caught(), claimed(run.spec, run.study_dir, fresh=run.fresh, mirror=run.mirror):
            _Session(run, uri, stop).go()
    except OSError as error:
        full = full_disk(error)
        if full is None:
            raise
        raise StudyFailed(run.halted(full_disk_text(full, run.study_dir))) from error


class _Session:
    def __init__(self, run: StudyRun, uri: str, stop: Stop) -> None:
        self.run = run
        self.spec = run.spec
        self.study_dir = run.study_dir
        self.new_store = is_new(uri)
        self.stop = stop
        self.recording = Recording(run, uri, stop)
        self.record = self.recording.record
        self.display = self.recording.display
        self.ending = Ending(run, self.recording, uri, stop)
        self.way_out = WayOut(run, stop, self.display, self.recording.ledger.path)
        self.skipped: list[tuple[str, str, str]] = []
        """Arm, regime and the reason, of what does not fit."""
        self.verified = Verification({}, ())

    def go(self) -> None:
        try:
            self.recording.begin()
            self._run()
        finally:
            self.recording.close()
            undelivered = self.run.mirror.finish(_STOPPED_PUSH_SECONDS if self.stop() else _PUSH_SECONDS)
            if undelivered:
                print(undelivered, file=sys.stderr, flush=True)
        if undelivered:
            raise StudyFailed("the study has run, and its record is not whole where it belongs")

    # -- stages of a session --------------------------------------------------------------------------

    def _run(self) -> None:
        self.display.starting(resumed=self.recording.resumed, study_dir=self.run.mirror.place)
        self._say_what_was_lost()
        # Data, imports and Ray take seconds each, and Ray mostly waits: they start side by side.
        pool = ThreadPoolExecutor(1)
        try:
            reason = self._work(pool)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped by {self.stop.name}; {self.run.kept}") from None
        finally:
            # Preparing data may take long, and a later run finds what is done of it.
            pool.shutdown(wait=not self.stop(), cancel_futures=True)
        if self.stop.trouble:
            raise StudyFailed(self.run.halted(self.stop.trouble))
        if reason == "interrupted":
            raise Interrupted(f"stopped by {self.stop.name}; {self.run.kept}")
        if reason == "failed":
            raise StudyFailed(f"the Ray run ended before the study did; {self.run.kept}")
        self.ending.require_results()

    def _work(self, pool: ThreadPoolExecutor) -> str:
        """Do what is left of the study; how that ended: done, interrupted or failed.

        Raises: KeyboardInterrupt at a stop before anything runs, or at a second Ctrl-C.
        """
        cluster.prepare(self.run.address)
        preparing = pool.submit(self._prepare)
        if self._is_finished():
            with self.stop.at_once(self.way_out.give_up):
                facts = preparing.result()
            if not self.verified.damaged:
                self._open(facts, "none: everything was done already")
                self.ending.deliver("done", self.ending.conclude("done"))
                return "done"
        with self.way_out.in_time(), contextlib.ExitStack() as stack:
            with self.stop.at_once(self.way_out.give_up):
                found = stack.enter_context(cluster.connect(self.run.address, lost=self.way_out.lost))
                facts = preparing.result()
            self._open(facts, found.address)
            self.display.running(self._slots(found.machines()))
            finished = False if self.stop() else self._tune(found.machines)
            reason = "done" if finished else "interrupted" if self.stop() else "failed"
            # The report is written while Ray shuts down.
            concluding = pool.submit(self.ending.conclude, reason)
        self.ending.deliver(reason, concluding.result())
        return reason

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
        mirror = self.run.mirror
        mirror.send_data(trial.data_folder(self.spec.data, self.spec.noise, self._data_root, facts.hash))
        self.verified = verify(self.record, self.study_dir / "trials", processors(), mirror.look)
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
                    f"{self.run.mirror.place}: its data have changed since it began (hash "
                    f"{session['data']['hash']} then, {facts.hash} now); nothing was run. Bring the data "
                    f"back, or start anew with --fresh: that keeps the old folder under another name."
                )
        if not self.new_store:
            self.recording.tracker.require_welcome(_WELCOME_SECONDS)
        self.facts = facts
        recorded = self.record.sessions[0]["instance"] if self.record.sessions else None
        self.recording.note(
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
        for arm, regime, reason in self.skipped:
            if regime not in self.record.arms[arm].skipped:
                self.recording.note(
                    {"event": "skipped", "t": time.time(), "arm": arm, "regime": regime, "reason": reason}
                )
        for key, reason in self.verified.damaged.items():
            self.recording.note({"event": "reopened", "t": time.time(), "key": key, "reason": reason})
        for word in self.verified.words:
            self.display.say(word)

    def _say_what_was_lost(self) -> None:
        if self.recording.ledger.word:
            self.display.say(self.recording.ledger.word)
        elif not self.recording.resumed and self.run.mirror.has_trials():
            self.display.say(
                "ledger.jsonl and its copy are gone, and trials/ is not: the study is worked out again, and "
                "finished trials are taken from their folders without training."
            )

    def _slots(self, machines: Sequence[packing.Machine]) -> int:
        """Trials that fit on the cluster side by side."""
        wanted = self.spec.resources
        slots = packing.slots(machines, wanted, self.spec.execution.max_concurrent)
        if slots < 1:
            nodes = Counter(f"{cpus:g} CPUs and {gpus:g} GPUs" for cpus, gpus in machines)
            found = ", ".join(f"{count} of {node}" for node, count in nodes.items())
            raise Unavailable(
                f"no trial fits on a node of the cluster: a trial wants {wanted.cpu:g} CPUs and "
                f"{wanted.most_gpu:g} GPUs, and the nodes are: {found}; nothing was run. "
                f"Change resources.cpu or resources.gpu."
            )
        return slots

    def _tune(self, machines: Callable[[], Sequence[packing.Machine]]) -> bool:
        """Run the campaign on Ray; whether it came to its end."""
        from orchestrator.campaign.campaign import Campaign
        from orchestrator.campaign.journal import BufferedJournal
        from orchestrator.execution import trial
        from orchestrator.execution.tune import fit

        journal = BufferedJournal(self.study_dir / "optuna.journal")
        flushed = time.monotonic()

        def emit(event: dict[str, Any]) -> None:
            nonlocal flushed
            self.recording.emit(event)
            if event["event"] == "finished" and time.monotonic() - flushed > _JOURNAL_SECONDS:
                flush()
                flushed = time.monotonic()

        def flush() -> None:
            try:
                journal.flush()
            except OSError as error:
                self.recording.halt_where_full(error)
                raise

        def watched() -> Sequence[packing.Machine]:
            found, most = machines(), self.spec.execution.max_concurrent
            self.display.resized(packing.slots(found, self.spec.resources, most))
            return found

        commit = self.record.sessions[-1]["commit"]
        campaign = Campaign(self.spec, self.facts, self.record, emit, journal, commit)
        try:
            if not campaign.done:
                data = trial.data_folder(self.spec.data, self.spec.noise, self._data_root, self.facts.hash)
                store = self.run.mirror.request(data)
                fit(campaign, self.study_dir, self._data_root, watched, self.stop, self.stop.halt, store)
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
