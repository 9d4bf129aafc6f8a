"""What a submission fixes before anything is sent: the study, the code, the packages, what the data are."""

from __future__ import annotations

import contextlib
import getpass
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.redaction import redacted
from orchestrator.study.dump import to_yaml
from orchestrator.study.spec import StudySpec
from orchestrator.submission.choice import home_of
from orchestrator.submission.code import code_state, installed
from orchestrator.submission.data_facts import data_facts
from orchestrator.submission.job import Job
from orchestrator.submission.profile import Profile
from orchestrator.submission.record import Submission, digest, new_id, write_record
from orchestrator.submission.storage import SUBMISSIONS, Storage
from orchestrator.submission.targets import target

_STUDY, _GIVEN, _VERSIONS, _PATCH = "study.yaml", "study.given.yaml", "versions.txt", "changes.patch"


@dataclass(frozen=True)
class Frozen:
    """A submission before it is written."""

    job: Job
    kept: Mapping[str, str]
    """By name, the files that say what was submitted."""
    rendered: Mapping[str, str]
    """By name, the files that the cluster is given."""
    at: float
    """When, in seconds since the epoch."""


def frozen(
    spec: StudySpec, given: str, profile: Profile, storage: Storage, now: float, options: Sequence[str] = ()
) -> Frozen:
    """A submission of a study; nothing is written yet.

    Args:
        given: the text of the study's file.
        profile: with its storage settled.
        storage: the same storage, as this machine sees it.
        now: seconds since the epoch.
        options: those of ``orchestrate submit``, for the command that goes on.
    """
    submission = new_id(spec.name, now)
    place = _path(profile.storage or "")
    words = ["orchestrate", "study", f"{place}/{SUBMISSIONS}/{submission}/{_STUDY}", "--out", place]
    words += ["--data", profile.data] if profile.data else []
    code = code_state()
    # What runs is complete: no later default, and no other working directory, changes what it means.
    # The study alone keeps what opens a door, as it could not run without; validate warns of it.
    kept = {_STUDY: to_yaml(spec), _GIVEN: redacted(given), _VERSIONS: installed()}
    kept |= {_PATCH: redacted(code.patch)} if code.patch else {}
    facts: dict[str, Any] = {
        "commit": code.commit,
        "dirty": bool(code.patch),
        "patch": _PATCH if code.patch else "",
        "versions": _VERSIONS,
        "python": platform.python_version(),
        "data": dict(_data(spec, profile, storage)),
        "submitted_at": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now)),
        "by": _user(),
        "options": [redacted(word) for word in options],
    }
    home = home_of(profile)
    folder = None if home is None else home / SUBMISSIONS / submission
    job = Job(submission, spec.name, folder, (*words, "--plain"), profile, facts)
    return Frozen(job, kept, target(profile.kind).render(job), now)


def write(frozen: Frozen, storage: Storage) -> Submission:
    """Write every file of a submission; its record, which makes it one, comes last. Raises: Unavailable."""
    files = {**frozen.kept, **frozen.rendered}
    for name, text in files.items():
        storage.write(frozen.job.id, name, text)
    submission = Submission(frozen.job, {n: digest(text) for n, text in files.items()}, frozen.at)
    write_record(storage, submission)
    return submission


@contextlib.contextmanager
def handed_over(frozen: Frozen, storage: Storage) -> Iterator[Mapping[str, Path]]:
    """The rendered files as this machine sees them while the body runs: on the storage, else copies."""
    home, submission = storage.folder, frozen.job.id
    with contextlib.ExitStack() as stack:
        if home is None and frozen.job.folder is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        elif home is None:
            home = frozen.job.home.parent.parent
        if storage.folder is None:
            for name, text in frozen.rendered.items():
                Storage(str(home)).write(submission, name, text)
        yield {name: home / SUBMISSIONS / submission / name for name in frozen.rendered}


def _path(place: str) -> str:
    """A ``file:`` URI as the path that it means."""
    folder = Storage(place).folder
    return place if folder is None else str(folder)


def _data(spec: StudySpec, profile: Profile, storage: Storage) -> Mapping[str, Any]:
    sources = Path(profile.data) if profile.data and "://" not in profile.data else None
    return data_facts(spec, storage.folder / spec.name if storage.folder else None, sources)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
