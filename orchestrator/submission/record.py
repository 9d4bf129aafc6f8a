"""The record of a submission, ``submission.json``: what was sent where, under a checksum; and finding it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import StudyMissing, UserError
from orchestrator.study.suggestion import did_you_mean
from orchestrator.submission.job import Job
from orchestrator.submission.profile import Profile
from orchestrator.submission.storage import Storage

_NAME = "submission.json"
_ID = re.compile(r"(?P<study>.+)-(?P<moment>\d{8}-\d{6})-[0-9a-f]{4}")


@dataclass(frozen=True)
class Submission:
    """One submission as it is on record."""

    job: Job
    files: Mapping[str, str]
    """SHA-256 of every other file of the folder, by name."""
    submitted_at: float
    """Seconds since the epoch."""
    native: str | None = None
    """The cluster's own id; None where the cluster has not taken the job."""
    trouble: str = ""
    """Why it has not."""


def new_id(study: str, now: float) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    return f"{study}-{stamp}-{secrets.token_hex(2)}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_record(storage: Storage, submission: Submission) -> None:
    """Raises: Unavailable."""
    job = dataclasses.asdict(submission.job)
    folder = None if submission.job.folder is None else str(submission.job.folder)
    body = {**dataclasses.asdict(submission), "job": {**job, "folder": folder}}
    body = {**body, "checksum": digest(_canonical(body))}
    storage.write(submission.job.id, _NAME, json.dumps(body, indent=2, ensure_ascii=False) + "\n")


def read_record(storage: Storage, submission: str) -> Submission:
    """Raises: UserError where the record is damaged or from another version; Unavailable."""
    where = f"{storage.place}/submissions/{submission}/{_NAME}"
    try:
        body = json.loads(storage.read(submission, _NAME))
        checksum = body.pop("checksum")
        if digest(_canonical(body)) != checksum:
            raise UserError(f"{where}: is damaged: its checksum differs")
        job = body.pop("job")
        typed = {
            "folder": None if job["folder"] is None else Path(job["folder"]),
            "command": tuple(job["command"]),
            "profile": _profile(job["profile"]),
        }
        return Submission(job=Job(**{**job, **typed}), **body)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where}: is damaged ({type(error).__name__}: {error})") from error


def _profile(fields: Mapping[str, Any]) -> Profile:
    values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}
    return Profile(**values)


def _canonical(body: Mapping[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def find(storage: Storage, named: str) -> str | None:
    """The id of the submission that is named by its id, a beginning of it, or ``last``; None where none is.

    Raises: UserError where a beginning fits several; Unavailable.
    """
    known = sorted(storage.submissions(), key=_moment)
    if named in known:
        return named
    if named == "last":
        # Two of one second are told apart by their records.
        newest = [each for each in known if _moment(each) == _moment(known[-1])] if known else []
        return max(newest, key=lambda each: read_record(storage, each).submitted_at, default=None)
    fitting = [each for each in known if each.startswith(named)]
    if len(fitting) > 1:
        raise UserError(f"{named!r} fits several submissions: {', '.join(fitting)}. Write more of the id")
    return fitting[0] if fitting else None


def require(storage: Storage, named: str) -> Submission:
    """The submission that is named. Raises: StudyMissing where there is none; as :func:`find`."""
    found = find(storage, named)
    if found is None:
        known = storage.submissions()
        hint = did_you_mean(named, known) if known else "Nothing was submitted there"
        raise StudyMissing(f"{storage.place}: no submission {named!r}. {hint}. Other folders: --out".strip())
    return read_record(storage, found)


def of_study(storage: Storage, study: str) -> list[str]:
    """The ids of a study's submissions, oldest first. Raises: Unavailable."""
    matched = ((each, _ID.fullmatch(each)) for each in storage.submissions())
    return sorted((each for each, found in matched if found and found["study"] == study), key=_moment)


def _moment(submission: str) -> str:
    matched = _ID.fullmatch(submission)
    return matched["moment"] if matched else ""
