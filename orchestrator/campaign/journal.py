"""An Optuna journal that costs the control loop no disk access.

The ledger is the truth, and the only writer of the journal is this driver. So Optuna reads and writes its
operations in memory, and they reach the journal file in batches; ``optuna-dashboard`` can open it any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from optuna.storages.journal import BaseJournalBackend, JournalFileBackend


class BufferedJournal(BaseJournalBackend):
    """Journal operations in memory, written behind to ``path`` by :meth:`flush`.

    A file that is there already is replaced by the first flush: after a crash the journal is rebuilt from
    the ledger.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + ".new")
        self._temporary.unlink(missing_ok=True)
        self._logs: list[dict[str, Any]] = []
        self._written = 0
        self._file: JournalFileBackend | None = None

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs.extend(logs)

    def flush(self) -> None:
        """Write what is not yet in the file."""
        if self._written == len(self._logs):
            return
        if self._file is None:
            JournalFileBackend(str(self._temporary)).append_logs(self._logs)
            self._temporary.replace(self._path)
            self._file = JournalFileBackend(str(self._path))
        else:
            self._file.append_logs(self._logs[self._written :])
        self._written = len(self._logs)
