"""What the user sees while a study runs: a live table on a terminal, plain lines on a pipe."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.campaign.budget import end_reason
from orchestrator.campaign.objective import meets_guard
from orchestrator.campaign.record import ArmRecord, ConfigurationRecord, StudyRecord
from orchestrator.campaign.standing import audits_ended, audits_planned, confirms_planned
from orchestrator.execution.forecast import seconds_left
from orchestrator.execution.sparing import Sparing
from orchestrator.study import terms
from orchestrator.study.spec import AuditSpec, StudySpec


def clock_text(seconds: float) -> str:
    """Whole minutes and seconds, with hours where there are any: ``1:05``, ``2:00:09``."""
    minutes, rest = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def params_text(params: Mapping[str, Any]) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in params.items())


def value_text(value: float | None, seeds: int) -> str:
    """An objective value as a person reads it: the FPR95, or that the guard was not met."""
    if value is None:
        return ""
    # The value also holds the tie-break, a little above the rate itself.
    return (
        f"noise FPR95 {100 * min(value, 1.0):.1f} %"
        if meets_guard(value, seeds)
        else "below the accuracy guard"
    )


class Display:
    """The view of one session.

    Args:
        record: the record that the session keeps up to date.
        plain: lines even on a terminal.
    """

    def __init__(self, spec: StudySpec, record: StudyRecord, *, plain: bool) -> None:
        self._spec = spec
        self._record = record
        self._began = time.monotonic()
        self._slots = 0
        self._seeds = len(spec.search.seeds)
        self._console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._plain = plain or not self._console.is_terminal
        self._seconds_left = Sparing(lambda: seconds_left(spec, record, self._slots))

    def starting(self, *, resumed: bool, study_dir: Path | str) -> None:
        word = "going on with" if resumed else "starting"
        self._line(f"{word} study {self._spec.name} ({len(self._spec.arms)} arms) in {study_dir}")

    def running(self, slots: int) -> None:
        self._slots = slots
        self._line(f"Ray is up; {self._side_by_side(slots)}")
        if not self._plain:
            self._live = Live(
                console=self._console,
                get_renderable=Sparing(self._table),
                refresh_per_second=4,
                transient=True,
            )
            self._live.start()

    def resized(self, slots: int) -> None:
        """Nodes have left or joined."""
        if slots == self._slots:
            return
        self._slots = slots
        self._line(
            f"the cluster has changed; now {self._side_by_side(slots)}"
            if slots
            else "no node of the cluster has room for a trial; waiting for one to join (Ctrl-C stops)"
        )

    def _side_by_side(self, slots: int) -> str:
        # Automatic packing finds out how many more fit.
        least = "at least " if self._spec.resources.gpu == "auto" else ""
        return f"{least}{slots} trial{'s' if slots != 1 else ''} side by side"

    def say(self, text: str) -> None:
        """A line of its own, from whichever thread."""
        self._line(text)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def event(self, event: Mapping[str, Any]) -> None:
        """An event that is in the ledger (and, after this call, in the record)."""
        kind = event["event"]
        if kind == "attempt_failed":
            trial = self._record.trials[event["key"]]
            self._line(f"{trial.arm} {trial.place} seed {trial.seed}: attempt failed: {event['reason']}")
        elif kind == "finished" and event["state"] == "failed":
            trial = self._record.trials[event["key"]]
            self._line(f"{trial.arm} {trial.place} seed {trial.seed}: FAILED: {event['reason']}")
        elif kind == "finished" and self._plain:
            trial = self._record.trials[event["key"]]
            if trial.stage in ("confirm", "audit"):
                number = f" #{trial.number}" if trial.stage == "audit" else ""
                self._line(
                    f"{trial.arm} {trial.place}{number} seed {trial.seed} {event['state']}{self._left()}"
                )
        elif kind == "settled" and self._plain:
            arm = self._record.search_of(event)
            configuration = arm.configurations[event["number"]]
            what = (
                event["reason"] if event["state"] != "complete" else value_text(event["value"], self._seeds)
            )
            self._line(
                f"{arm.label} #{event['number']} {event['state']} ({params_text(configuration.params)})"
                f": {what}{self._left()}"
            )
        elif kind == "selected":
            what = value_text(event["value"], self._seeds)
            self._line(
                f"{self._record.search_of(event).label}: chosen {params_text(event['params'])}"
                + (f" ({what})" if what else "")
            )
        elif kind == "reopened":
            trial = self._record.trials[event["key"]]
            self._line(f"{trial.arm} {trial.place} seed {trial.seed}: {event['reason']}")
        elif kind == "skipped":
            self._line(f"{event['arm']}: not trained in {event['regime']}: {event['reason']}")
        elif kind == "unselected":
            self._line(f"{self._record.search_of(event).label}: NO result: {event['reason']}")
        elif kind == "budget_spent":
            arm = self._record.search_of(event)
            reason = end_reason(event["limit"], event["allowed"])
            self._line(f"{arm.label}: {reason}; going on with what is complete{self._left()}")

    def _left(self) -> str:
        seconds = self._seconds_left()
        return "" if seconds is None else f"  [about {clock_text(seconds)} left]"

    def _line(self, text: str) -> None:
        stamp = clock_text(time.monotonic() - self._began)
        self._console.print(Text(f"{stamp:>7}  {text}"))

    # -- the live table -------------------------------------------------------------------------------

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("arm")
        for name in ("searched", "running", "done", "pruned", "failed", "confirmed", *self._audited):
            table.add_column(name, justify="right")
        table.add_column("best so far")
        for first in list(self._record.arms.values()):
            for arm in first.searches:
                table.add_row(*self._row(arm))
        seconds = self._seconds_left()
        left = "" if seconds is None else f", about {clock_text(seconds)} left"
        foot = (
            f"{clock_text(time.monotonic() - self._began)} elapsed{left}; Ctrl-C stops and keeps everything"
        )
        return Group(table, Text(foot, style="dim"))

    @property
    def _audited(self) -> tuple[str, ...]:
        """The heading of what is audited, where anything is."""
        return ("audited",) if self._spec.audit != AuditSpec() else ()

    def _row(self, arm: ArmRecord) -> list[str]:
        configurations = list(arm.configurations)
        trials = [t for c in configurations for t in list(c.trials.values())]
        trials += arm.confirm_trials + arm.audit_trials
        states = Counter(t.state for t in trials)
        settled = sum(c.state != "running" for c in configurations)
        planned = terms.configurations(self._spec.arms[arm.name].space, self._spec.search.trials)
        confirmed = sum(t.state == "complete" for t in arm.confirm_trials)
        return [
            arm.label,
            f"{settled}/{planned}" if planned > 1 else "-",
            *(str(states[state]) for state in ("running", "complete", "pruned", "failed")),
            f"{confirmed}/{confirms_planned(self._spec, self._record, arm)}",
            *(f"{audits_ended(self._spec, arm)}/{audits_planned(self._spec, arm)}" for _ in self._audited),
            arm.failure or self._best(arm, configurations),
        ]

    def _best(self, arm: ArmRecord, configurations: list[ConfigurationRecord]) -> str:
        if arm.selected is not None:
            return f"chosen: {params_text(arm.selection['params'])}"
        complete = [c for c in configurations if c.state == "complete" and c.value is not None]
        if not complete:
            return ""
        best = min(complete, key=lambda c: c.value or 0.0)
        return f"{value_text(best.value, self._seeds)}  {params_text(best.params)}"
