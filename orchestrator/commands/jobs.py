"""``orchestrate submit``, ``logs`` and ``cancel``, and what ``status`` says of a submission."""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from orchestrator.errors import StudyLocked, Unavailable, UserError
from orchestrator.submission.job import Job, Status
from orchestrator.submission.record import Submission, find, of_study, read_record, require, write_record
from orchestrator.submission.storage import SUBMISSIONS, Storage
from orchestrator.submission.targets import target

_CLUSTERS = Path("clusters")
_STOP_SECONDS = 15.0


def submit(arguments: argparse.Namespace) -> int:
    from orchestrator.commands.stored import file_of, mirror_of
    from orchestrator.execution.provenance import processors
    from orchestrator.execution.storage.cache import working_copy
    from orchestrator.study.loader import load_study
    from orchestrator.study.plan import make_plan
    from orchestrator.study.warnings import warnings
    from orchestrator.submission.choice import chosen_profile, placed, storage_here
    from orchestrator.submission.freeze import frozen, handed_over, write

    path = file_of(arguments.study)
    spec = load_study(path)
    for warning in warnings(spec):
        print(f"warning: {warning}", file=sys.stderr)
    chosen = chosen_profile(arguments.to, _CLUSTERS, os.environ)
    profile = placed(chosen, arguments.out, arguments.data)
    storage = storage_here(profile, make=not arguments.dry_run)
    store = storage.place if storage.folder is None else None
    mirror = mirror_of((storage.folder or working_copy(storage.place)) / spec.name, store)
    if mirror.is_held():
        raise StudyLocked(
            f"{mirror.place}: a driver works on this study already; nothing was submitted. "
            "Wait for it or stop it, or give this one another folder with --out"
        )
    _require_none_under_way(spec.name, storage)
    text = path.read_text(encoding="utf-8-sig")
    options = ["--to", arguments.to]
    for name in ("out", "data"):
        options += [f"--{name}", getattr(arguments, name)] if getattr(arguments, name) else []
    made = frozen(spec, text, profile, storage, time.time(), options)
    plan = make_plan(spec, processors())
    audits = f" and {plan.audit_trials} audit trials" if plan.audit_trials else ""
    print(f"Study    {spec.name}: {len(spec.arms)} arms, at most {plan.search_trials} search trials and "
          f"{plan.confirm_trials} confirm trials{audits}")  # fmt: skip
    print(*_facts(made.job), sep="\n")
    if arguments.dry_run:
        print(f"Command  {shlex.join(made.job.command)}")
        for name, content in made.rendered.items():
            print(f"\n--- {name}\n{content.rstrip()}")
        print("\nNothing was written or submitted (--dry-run)")
        return 0
    submission = write(made, storage)
    place = f"{storage.folder or storage.place}/{SUBMISSIONS}/{made.job.id}"
    try:
        with handed_over(made, storage) as files:
            native = target(profile.kind).submit(made.job, files)
    except Unavailable as error:
        write_record(storage, dataclasses.replace(submission, trouble=str(error)))
        raise Unavailable(f"{error}\nWhat would have been submitted is kept in {place}") from error
    write_record(storage, dataclasses.replace(submission, native=native))
    print(f"Folder   {place}\nSubmitted {made.job.id}")
    for command in ("status", "logs --follow", "cancel"):
        print(f"  {_follow_up(command, made.job.id, storage)}")
    return 0


def logs(arguments: argparse.Namespace) -> int:
    submission = require(_storage(arguments.store or arguments.out), arguments.job)
    profile = submission.job.profile
    for piece in target(profile.kind).logs(_native(submission), profile, follow=arguments.follow):
        print(piece, end="", flush=True)
    return 0


def cancel(arguments: argparse.Namespace) -> int:
    submission = require(_storage(arguments.store or arguments.out), arguments.job)
    profile, native = submission.job.profile, _native(submission)
    before = _status(submission)
    if before.over:
        print(f"{submission.job.id}: is over already: {_worded(before)}")
        return 0
    target(profile.kind).cancel(native, profile)
    deadline = time.monotonic() + _STOP_SECONDS
    while not (now := _status(submission)).over and time.monotonic() < deadline:
        time.sleep(0.2)
    print(f"{submission.job.id}: {_worded(now) if now.over else 'was told to stop, and has not yet'}")
    print("Everything finished is kept; submit the study again to go on")
    return 0


def submission_named(named: str, out: Path | str) -> Submission | None:
    """The submission that ``orchestrate status`` means by a word; None where it means a study."""
    storage = _storage(out)
    there = storage.folder is not None and (storage.folder / named / "study.yaml").exists()
    if Path(named).suffix in (".yaml", ".yml") or there:
        return None
    found = find(storage, named)
    return None if found is None else read_record(storage, found)


def status_lines(submission: Submission, out: Path | str) -> Iterable[str]:
    """Where a job stands, for ``orchestrate status``."""
    job, storage = submission.job, _storage(out)
    now = _status(submission)
    yield f"Job {job.id}: {_worded(now)}"
    yield from (f"  {line}" for line in _facts(job))
    yield f"  Sent     {job.facts.get('submitted_at', '')} by {job.facts.get('by') or 'unknown'}"
    if now.state == "failed":
        yield f"See why: {_follow_up('logs', job.id, storage)}"
    if now.state in ("failed", "stopped"):
        study = f"{out}/submissions/{job.id}/study.yaml"
        yield f"To go on: {shlex.join(['orchestrate', 'submit', study, *job.facts['options']])}"


def _facts(job: Job) -> Iterable[str]:
    facts = job.facts
    commit = str(facts.get("commit", ""))[:12] or "none (not a checkout)"
    if facts.get("dirty"):
        commit += f" with changes ({facts['patch']})"
    data = facts.get("data", {})
    known = data.get("hash") or ", ".join(f"{n} {h}" for n, h in data.get("raw_files", {}).items())
    yield f"Commit   {commit}"
    yield f"Data     {known or data.get('unknown', 'unknown')}"
    yield f"Cluster  {job.profile.name} (kind {job.profile.kind})"


def _require_none_under_way(study: str, storage: Storage) -> None:
    """Raise StudyLocked where the study's last submission is waiting or running.

    What cannot be found out does no harm: of two drivers on one study, the second is refused by its lock.
    """
    for each in of_study(storage, study)[-1:]:
        try:
            now = _status(read_record(storage, each))
        except UserError:
            return
        if now.state in ("waiting", "running"):
            raise StudyLocked(
                f"{each} of this study is {now.state}; nothing was submitted. "
                f"See it with: {_follow_up('status', each, storage)}"
            )


def _status(submission: Submission) -> Status:
    if submission.native is None:
        return Status("failed", submission.trouble.split("\n")[0] or "it was never handed over")
    return target(submission.job.profile.kind).status(submission.native, submission.job.profile)


def _native(submission: Submission) -> str:
    if submission.native is None:
        why = submission.trouble or "it was interrupted"
        raise UserError(f"{submission.job.id}: was never handed over to the cluster: {why}")
    return submission.native


def _worded(status: Status) -> str:
    return f"{status.state} ({status.detail})" if status.detail else status.state


def _storage(out: Path | str) -> Storage:
    return Storage(str(out))


def _follow_up(command: str, submission: str, storage: Storage) -> str:
    words, place = command.split(), storage.folder
    default = place is not None and place.absolute() == Path("runs").absolute()
    out = "" if default else f" --out {shlex.quote(str(place or storage.place))}"
    return " ".join(["orchestrate", words[0], submission, *words[1:]]) + out
