"""Commands that change nothing of a study: ``validate``, ``plan``, ``status``, ``report``, ``ui``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands.results import reported
from orchestrator.commands.stored import file_of, locate, mirror_of, record_in, settle
from orchestrator.errors import Unavailable

if TYPE_CHECKING:
    from orchestrator.execution.storage.mirror import Mirror
    from orchestrator.study.spec import StudySpec

_LOOK_SECONDS = 1.0


def validate(arguments: argparse.Namespace) -> int:
    from orchestrator.study.loader import load_study
    from orchestrator.study.warnings import warnings

    spec = load_study(file_of(arguments.study))
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

    spec = load_study(file_of(arguments.study))
    mirror_of(arguments.out / spec.name, arguments.store).bring()
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
    from orchestrator.report.status_text import status_text

    settle(arguments)
    submission = submission_named(arguments.study, arguments.store or arguments.out)
    if submission is not None:
        print("\n".join(status_lines(submission, arguments.store or arguments.out)), end="\n\n")
        arguments.study = submission.job.study
        from orchestrator.campaign.ledger import is_there

        mirror_of(arguments.out / arguments.study, arguments.store).bring()
        if not is_there(arguments.out / arguments.study / "ledger.jsonl"):
            print(f"Study {arguments.study}: has not begun")
            return 0
    spec, study_dir = locate(arguments.study, arguments.out, arguments.store)
    record = record_in(study_dir)
    written = last_written(study_dir / "ledger.jsonl")
    mirror = mirror_of(study_dir, arguments.store)
    running = mirror.is_held()
    print(
        mirror.named(status_text(spec, record, study_dir, running=running, written=written, now=time.time()))
    )
    return 0


def report(arguments: argparse.Namespace) -> int:
    settle(arguments)
    spec, study_dir = locate(arguments.study, arguments.out, arguments.store)
    mirror = mirror_of(study_dir, arguments.store)
    while True:
        # Asked first: what is written in between stands in the next report.
        follow = arguments.follow if arguments.follow and mirror.is_held() else None
        record = record_in(study_dir)
        mirror.fetch_reported(record)
        made = reported(spec, record, study_dir, follow)
        mirror.send_report()
        if follow is None:
            break
        shown = f"{time.strftime('%H:%M:%S')}  {made.folder / 'index.html'}"
        print(f"{shown}  (again in {follow} s at most, until the study ends; Ctrl-C stops)", flush=True)
        _wait(mirror, follow)
        mirror.bring()
    print(made.text)
    print(f"Report   {made.folder / 'index.html'}")
    if arguments.store:
        print(f"         and {mirror.place}/report")
    return 0


def _wait(mirror: Mirror, seconds: float) -> None:
    """So long, or until no driver works on the study any more."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and mirror.is_held():
        time.sleep(min(_LOOK_SECONDS, seconds))


def ui(arguments: argparse.Namespace) -> int:
    from orchestrator.tracking.store import resolve_uri, serve_ui
    from orchestrator.tracking.whereabouts import FILE, recall

    uri = None
    settle(arguments)
    out = arguments.out
    if arguments.study is not None:
        spec, study_dir = locate(arguments.study, arguments.out, arguments.store)
        uri, out = spec.tracking.uri, study_dir.parent
    found = resolve_uri(uri, out)
    if (
        arguments.store
        and found.startswith("sqlite:")
        and not Path(found.removeprefix("sqlite:///")).exists()
    ):
        raise Unavailable(
            f"{arguments.store}: without a tracking server its MLflow records are on the machine that ran "
            "the study. Name a server with MLFLOW_TRACKING_URI or tracking.uri, or run orchestrate study "
            "again here: it makes the records anew from the ledger"
        )
    noted = {file.parent.name: recall(file.parent) for file in sorted(out.glob(f"*/{FILE}"))}
    here = {name: where for name, where in noted.items() if where is not None and where.uri == found}
    return serve_ui(found, arguments.port, arguments.host, here)
