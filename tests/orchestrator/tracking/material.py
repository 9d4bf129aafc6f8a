"""A finished study, simulated, and sessions that bring it to a store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import Event, StudyRecord
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.tracker import Tracker, make_writer
from tests.orchestrator.simulation import Simulator, study

SPEC = study(arms=dict(list(study().arms.items())[:2]))
SPEC = dataclasses.replace(SPEC, search=dataclasses.replace(SPEC.search, trials=2, seeds=(0,)))
SUMMARIES = {name: {"test/accuracy": 0.9, "std/test/accuracy": 0.01} for name in SPEC.arms}


def simulate(folder: Path) -> list[Event]:
    """Run the study in a folder, with a file for every confirmed model; its events."""
    record = Simulator(SPEC, folder).run()
    for arm in record.arms.values():
        for trial in arm.confirm_trials:
            (folder / "trials" / trial.key).mkdir(parents=True)
            (folder / "trials" / trial.key / "result.json").write_text("{}")
    events: list[dict[str, Any]] = [dict(e) for e in read_events(folder / "ledger.jsonl")]
    for event in events:
        if event["event"] == "opened":
            event["instance"] = "one"
        elif event["event"] == "finished":
            # As in a real trial, which measures after its last epoch.
            event["t"] += 0.25
    return [*events, {"event": "closed", "t": 9.0, "reason": "done"}]


def spec_named(experiment: str) -> StudySpec:
    """The study, recorded in an experiment of its own."""
    return dataclasses.replace(SPEC, tracking=dataclasses.replace(SPEC.tracking, experiment=experiment))


class Session:
    """One run of the command, as the tracker sees it."""

    def __init__(self, uri: str, name: str, folder: Path, history: list[Event]) -> None:
        self.said: list[str] = []
        self.history = history
        spec = spec_named(name)
        root = folder.as_uri() if uri.startswith("sqlite") else None
        self.tracker = Tracker(spec, make_writer(spec, folder, uri, root), self.said.append)
        self.tracker.start([])

    def events(self, begin: int = 0, end: int | None = None) -> None:
        for event in self.history[begin:end]:
            self.tracker.put(event)

    def end(self, seconds: float = 60.0) -> bool:
        record = StudyRecord.fold(self.history)
        return self.tracker.drain(seconds, lambda writer: writer.close(record, "FINISHED", SUMMARIES))
