"""Every exception that this package raises on purpose.

OrchestrateError                 what the user should read; never shown with a traceback (but for --debug)
├── UserError          exit 2    something the user wrote or asked is wrong; nothing was changed
│   ├── StudyInvalid             the study file: all its problems at once
│   ├── ProfileInvalid           a cluster's profile: all its problems at once
│   ├── StudyChanged             the output folder belongs to a changed study
│   ├── StudyLocked              another driver works on this study
│   ├── StudyMissing             no such study in the output folder
│   └── Unavailable              data, a store or a cluster that must be there is not
├── StudyFailed        exit 1    the study ran, and something that it needed to finish failed
└── Interrupted        exit 130  Ctrl-C or a preemption; everything finished is kept
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class OrchestrateError(Exception):
    """What the user should read, in one screen."""

    exit_code = 1


class UserError(OrchestrateError):
    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a study file: where, which rule, which value, what to do."""

    file: str
    line: int
    path: str
    """Dotted key path, e.g. ``arms.logitnorm.tau``; empty for the file itself."""
    rule: str
    """The rule, and ``; got {value!r}`` where there is a value."""
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " + (f"{self.path}: " if self.path else "")
        return where + self.rule + (f". {self.hint}" if self.hint else "")


class StudyInvalid(UserError):
    """A study file with problems, all of them collected."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(_summed(self.problems, "the study; nothing was run"))


class ProfileInvalid(UserError):
    """A cluster's profile with problems, all of them collected."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(_summed(self.problems, "the profile; nothing was submitted"))


def _summed(problems: Sequence[Problem], where: str) -> str:
    head = f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in {where}"
    return "\n".join([*(str(p) for p in problems), head])


class StudyChanged(UserError):
    pass


class StudyLocked(UserError):
    pass


class StudyMissing(UserError):
    pass


class Unavailable(UserError):
    pass


class StudyFailed(OrchestrateError):
    pass


class Interrupted(OrchestrateError):
    exit_code = 130
