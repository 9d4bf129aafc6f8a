"""What a session does for a study's place beyond its folder: nothing, where the folder is all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from orchestrator.campaign.record import StudyRecord
from orchestrator.execution.lock import is_locked
from workloads.protocols.folder import Findings, examine


class Mirror:
    """Of a study in a folder that every machine sees.

    Args:
        study_dir: the study's folder on this machine.
    """

    def __init__(self, study_dir: Path) -> None:
        self.study_dir = study_dir

    @property
    def place(self) -> str:
        """Where the study lies, for the user."""
        return str(self.study_dir)

    def named(self, text: str) -> str:
        """A text that names places as the user does."""
        return text

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The place is this driver's while the body runs, and the folder holds what the place does.

        Raises: StudyLocked; Unavailable.
        """
        yield

    def bring(self) -> None:
        """Bring the folder up to the place, for a command that reads. Raises: Unavailable."""

    def is_held(self) -> bool:
        """Whether a driver works on the study right now."""
        return is_locked(self.study_dir)

    def studies(self) -> list[str]:
        """What studies lie beside this one, or it alone."""
        return sorted(f.parent.name for f in self.study_dir.parent.glob("*/study.yaml"))

    @contextlib.contextmanager
    def changing_trials(self, keys: Sequence[str]) -> Iterator[None]:
        """The folders of finished trials, and the ledger, may be changed while the body runs."""
        yield

    def put_aside(self) -> str | None:
        """Put an older study aside; its new place, None where that is the folder's own affair."""
        return None

    def has_trials(self) -> bool:
        """Whether trials have left anything."""
        return any((self.study_dir / "trials").glob("*"))

    def look(self, key: str) -> Findings:
        """What is wrong with a finished trial that keeps its model."""
        return examine(self.study_dir / "trials" / key, key, confirmed=True)

    def send_data(self, folder: Path) -> None:
        """Let every machine have the prepared data. Raises: Unavailable."""

    def request(self, data: Path) -> dict[str, Any]:
        """What a worker is told of the place.

        Args:
            data: the folder of the prepared data.
        """
        return {}

    def begin(self, ledger: Path, say: Callable[[str], None], halt: Callable[[str], None]) -> None:
        """From here on the ledger is being written."""

    def wrote(self) -> None:
        """A durable line was written to the ledger; returns at once."""

    def fetch_trial(self, key: str) -> None:
        """Have all of a finished trial in the folder. Raises: OSError."""

    def fetch_reported(self, record: StudyRecord) -> None:
        """Have what a report reads of saved outputs in the folder, as far as it is there."""

    def send_report(self) -> None:
        """The report was written."""

    def finish(self, seconds: float) -> str:
        """The session ends: send what was not sent, for so long at most; what is wrong, in a sentence."""
        return ""
