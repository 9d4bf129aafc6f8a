"""Runs ``orchestrate`` and says how much of its time the records took: ledger, queue and MLflow.

    python -m benchmarks.logged FILE WORD ...

WORDs are the command's; FILE gets the seconds. The control loop waits for the ledger and the queue, and at
the very end for MLflow: that is wall time. MLflow's own thread works beside the training: that is processor
time. Importing MLflow and making its store is counted apart: it happens once.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import cli
from orchestrator.campaign.ledger import Ledger
from orchestrator.tracking import tracker


def main() -> None:
    began = time.perf_counter()
    file, words = Path(sys.argv[1]), sys.argv[2:]
    spent: Counter[str] = Counter()
    _wrap(Ledger, "append", spent, "ledger", time.perf_counter)
    _wrap(tracker.Tracker, "put", spent, "queue", time.perf_counter)
    _wrap(tracker.Tracker, "drain", spent, "end", time.perf_counter)
    _wrap(tracker.Tracker, "_work", spent, "mlflow", time.thread_time)
    _open_apart(spent)
    status = cli.main(words)
    # What the thread did includes the opening.
    spent["mlflow"] -= spent["opening"]
    spent["wall"] = time.perf_counter() - began  # type: ignore[assignment]
    file.write_text(json.dumps(spent))
    raise SystemExit(status)


def _wrap(owner: type, name: str, spent: Counter[str], what: str, clock: Callable[[], float]) -> None:
    method = getattr(owner, name)

    def timed(*arguments: Any, **keywords: Any) -> Any:
        began = clock()
        try:
            return method(*arguments, **keywords)
        finally:
            spent[what] += clock() - began  # type: ignore[assignment]

    setattr(owner, name, timed)


def _open_apart(spent: Counter[str]) -> None:
    begin = tracker.Tracker.__init__

    def init(self: tracker.Tracker, *arguments: Any, **keywords: Any) -> None:
        begin(self, *arguments, **keywords)
        open_writer = self._open_writer

        def opened() -> Any:
            began = time.thread_time()
            writer = open_writer()
            spent["opening"] += time.thread_time() - began  # type: ignore[assignment]
            return writer

        self._open_writer = opened

    setattr(tracker.Tracker, "__init__", init)  # noqa: B010


if __name__ == "__main__":
    main()
