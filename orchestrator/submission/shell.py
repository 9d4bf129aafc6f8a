"""A job as shell text, every word of it quoted but the profile's own setup lines."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from orchestrator.submission.job import Job
from orchestrator.submission.profile import Profile


def head(job: Job) -> list[str]:
    """How a script of a job begins."""
    return [
        "#!/usr/bin/env bash",
        # An id holds what a study's name may hold: no line break, nothing that ends a comment.
        f"# {job.id}: written by orchestrate submit. It may run again at any time: the study goes on.",
    ]


def surroundings(profile: Profile) -> list[str]:
    """The lines before the command: variables, then the profile's setup as it stands."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in profile.environment.items()]
    return [*exports, *profile.setup]


def text(lines: Iterable[str]) -> str:
    return "\n".join(lines) + "\n"
