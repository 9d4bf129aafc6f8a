"""Commands that change nothing of a study: ``validate``, ``plan``, ``status``, ``report``, ``ui``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands.results import reported
from orchestrator.commands.stored import locate, record_in

if TYPE_CHECKING:
    from orchestrator.study.spec import StudySpec


def validate(arguments: argparse.Namespace) -> int:
    from orchestrator.study.loader import load_study
    from orchestrator.study.warnings import warnings

    spec = load_study(Path(arguments.study))
    for warning in warnings(spec):
        print(f"warning: {warning}")
    print(f"{arguments.study}: valid; study {spec.name}, {len(spec.arms)} arms: {', '.join(spec.arms)}")
    return 0


def plan(arguments: argparse.Namespace) -> int:
    from orchestrator.execution.provenance import processors
    from orchestrator.report.plan_text import plan_text
    from orchestrator.study.loader import load_study
    from orchestrator.study.plan import make_plan
    from orchestrator.study.warnings import warnings

    spec = load_study(Path(arguments.study))
    made = make_plan(spec, processors(), _measured(spec, arguments.out / spec.name))
    print(plan_text(spec, made, warnings(spec)))
    return 0


def _measured(spec: StudySpec, study_dir: Path) -> dict[str, float]:
    """Seconds that a full trial of each arm took, where this study has run some."""
    from orchestrator.campaign.ledger import is_there

    if not is_there(study_dir / "ledger.jsonl"):
        return {}
    record = record_in(study_dir)
    taken: dict[str, list[float]] = {name: [] for name in spec.arms}
    for trial in record.trials.values():
        # A trial of another regime is not a full one: the plan reckons with its share of the steps.
        if trial.state == "complete" and trial.regime == "standard" and trial.arm in taken:
            taken[trial.arm].append(trial.seconds)
    return {name: sum(seconds) / len(seconds) for name, seconds in taken.items() if seconds}


def status(arguments: argparse.Namespace) -> int:
    from orchestrator.campaign.ledger import last_written
    from orchestrator.commands.jobs import status_lines, submission_named
    from orchestrator.execution.lock import is_locked
    from orchestrator.report.status_text import status_text

    submission = submission_named(arguments.study, arguments.out)
    if submission is not None:
        print("\n".join(status_lines(submission, arguments.out)), end="\n\n")
        arguments.study = submission.job.study
        from orchestrator.campaign.ledger import is_there

        if not is_there(arguments.out / arguments.study / "ledger.jsonl"):
            print(f"Study {arguments.study}: has not begun")
            return 0
    spec, study_dir = locate(arguments.study, arguments.out)
    record = record_in(study_dir)
    written = last_written(study_dir / "ledger.jsonl")
    running = is_locked(study_dir)
    print(status_text(spec, record, study_dir, running=running, written=written, now=time.time()))
    return 0


def report(arguments: argparse.Namespace) -> int:
    spec, study_dir = locate(arguments.study, arguments.out)
    made = reported(spec, record_in(study_dir), study_dir)
    print(made.text)
    print(f"Report   {made.folder / 'index.html'}")
    return 0


def ui(arguments: argparse.Namespace) -> int:
    from orchestrator.tracking.store import resolve_uri, serve_ui

    uri, out = None, arguments.out
    if arguments.study is not None:
        spec, study_dir = locate(arguments.study, arguments.out)
        uri, out = spec.tracking.uri, study_dir.parent
    return serve_ui(resolve_uri(uri, out), arguments.port, arguments.host)
