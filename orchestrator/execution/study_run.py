"""What one run of ``orchestrate study`` is asked to do, and what its report gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from orchestrator.campaign.record import StudyRecord
from orchestrator.execution.storage.mirror import Mirror
from orchestrator.study.spec import StudySpec


@dataclass(frozen=True)
class Reported:
    """What the report made of a record, for the end of a session."""

    text: str
    """The tables and sentences for the terminal."""
    folder: Path
    """Where the report's files are."""
    summaries: Mapping[str, Mapping[str, float]]
    """By arm: metric name to value, for the arm's MLflow run."""
    audits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By arm: metric name to value, for the MLflow run of the arm's audits."""
    answer: str = ""
    """The report's first sentences."""


@dataclass(frozen=True)
class StudyRun:
    """What a session needs to know."""

    spec: StudySpec
    out: Path
    sources: Path
    """Where the data sets are."""
    address: str | None
    fresh: bool
    plain: bool
    command: Sequence[str]
    """The command line, to be printed where the user should run it again."""
    report: Callable[[StudySpec, StudyRecord, Path], Reported]
    restart: Callable[[], object] | None = None
    """Begins the command anew in this process, whatever it does just now; None: it cannot be."""
    stored: Mirror | None = None
    """The study's place, where it is more than a folder; ``out`` is a copy of it then."""

    @property
    def study_dir(self) -> Path:
        return self.out / self.spec.name

    @cached_property
    def mirror(self) -> Mirror:
        return self.stored or Mirror(self.study_dir)

    @property
    def kept(self) -> str:
        """That nothing is lost, and how the study goes on."""
        return f"everything finished is kept in {self.mirror.place}.\nGo on with: {' '.join(self.command)}"

    def halted(self, trouble: str) -> str:
        """Why the study cannot go on for now, and how it goes on."""
        return (
            f"{trouble}.\nEverything finished is kept in {self.mirror.place}; no trial counts as failed for "
            f"this. When that is mended, run the same command again: {' '.join(self.command)}"
        )
