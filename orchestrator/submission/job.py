"""What is submitted, the same for every kind of cluster, and what a kind of cluster must be able to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from orchestrator.errors import UserError
from orchestrator.submission.profile import Profile

State = Literal["waiting", "running", "done", "failed", "stopped", "unknown"]


@dataclass(frozen=True)
class Job:
    """One submission of a study."""

    id: str
    """``<study>-<yyyymmdd-hhmmss>-<4 hexadecimal digits>``, in local time."""
    study: str
    folder: Path | None
    """Where the job's scripts and log lie, as the cluster sees it: ``<storage>/submissions/<id>``.

    Where the storage is an object store, ``runs/submissions/<id>`` for a job of this machine, and else None:
    the cluster is given the scripts.
    """
    command: tuple[str, ...]
    """The words of the idempotent ``orchestrate study``; to be quoted wherever a shell reads them."""
    profile: Profile
    facts: Mapping[str, Any]
    """Commit, changes, versions, data, when and by whom."""

    @property
    def home(self) -> Path:
        """The folder, for kinds that have no job without one."""
        if self.folder is None:
            raise UserError(f"storage: must be a folder for kind {self.profile.kind}")
        return self.folder


@dataclass(frozen=True)
class Status:
    """Where a job stands."""

    state: State
    detail: str
    """One line for a person; may be empty."""

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed", "stopped")


class Target(Protocol):
    """What each kind's module has. All but ``render`` raise Unavailable where the cluster does not answer."""

    def render(self, job: Job) -> Mapping[str, str]:
        """By name, the files that the cluster is given; ``--dry-run`` prints them."""

    def submit(self, job: Job, files: Mapping[str, Path]) -> str:
        """Hand the job over; ``files`` are the rendered ones, as this machine sees them.

        Returns: the cluster's own id for it.
        """

    def status(self, native: str, profile: Profile) -> Status: ...

    def logs(self, native: str, profile: Profile, *, follow: bool) -> Iterator[str]:
        """What the job printed, in pieces of any size; ``follow``: until it is over."""

    def cancel(self, native: str, profile: Profile) -> None:
        """Ask the study to stop as Ctrl-C does: everything finished is kept."""
