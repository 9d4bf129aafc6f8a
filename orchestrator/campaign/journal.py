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
    the ledger. What is in the file and has been read is forgotten here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + ".new")
        self._temporary.unlink(missing_ok=True)
        self._logs: list[dict[str, Any]] = []
        """The last operations; ``_forgotten`` came before them."""
        self._forgotten = 0
        self._written = 0
        self._read = 0
        """So many operations have been handed out."""
        self._file: JournalFileBackend | None = None

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        self._read = self._forgotten + len(self._logs)
        if log_number_from >= self._forgotten or self._file is None:
            return self._logs[log_number_from - self._forgotten :]
        earlier = list(self._file.read_logs(log_number_from))[: self._forgotten - log_number_from]
        return [*earlier, *self._logs]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs.extend(logs)

    def flush(self) -> None:
        """Write what is not yet in the file."""
        new = self._logs[self._written - self._forgotten :]
        if not new:
            return
        if self._file is None:
            JournalFileBackend(str(self._temporary)).append_logs(new)
            self._temporary.replace(self._path)
            self._file = JournalFileBackend(str(self._path))
        else:
            self._file.append_logs(new)
        self._written += len(new)
        known = min(self._written, self._read)
        del self._logs[: known - self._forgotten]
        self._forgotten = known
