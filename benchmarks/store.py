"""What MLflow's own store costs a trial, and whether that grows with the runs that it holds.

    python -m benchmarks.store [--trials 1000] [--uri sqlite:///...] [--json FILE]

The made-up trials of benchmarks.decisions (ten epochs, three metrics each) go through the writer of a study,
one after the other, as its tracker sends them at their ends. A line for each tenth of them: calls of MLflow's
client a trial, and milliseconds a trial (processor of this thread, and wall). The last line is the next
session: seconds until it knows which runs there are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.rehearsal import Rehearsal, Shape
from orchestrator.tracking.tracker import make_writer


class Counted:
    """An MLflow client whose calls are counted by name."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._client, name)


def measure(trials: int, uri: str | None) -> dict[str, Any]:
    arms = max(1, trials // 200)
    shape = Shape(arms=arms, configurations=-(-trials // arms), confirms=1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # The ledger's way to the disk is not measured here.
        with patch("os.fsync"):
            record = Rehearsal(shape, folder, []).run()
        root = None if uri else (folder / "artifacts").as_uri()
        open_writer = make_writer(shape.spec(), folder, uri or f"sqlite:///{folder / 'mlflow.db'}", root)
        writer = open_writer()
        writer.open_study(record)
        client = writer._client = Counted(writer._client)
        writer._runs._client = client
        searched = [t for t in record.trials.values() if t.stage == "search"][:trials]
        tenths = []
        size = max(1, len(searched) // 10)
        for start in range(0, len(searched), size):
            part = searched[start : start + size]
            client.calls.clear()
            wall, cpu = time.perf_counter(), time.thread_time()
            for trial in part:
                writer.write_trial(record, trial)
            tenths.append(
                {
                    "trials": start + len(part),
                    "calls": sum(client.calls.values()) / len(part),
                    "cpu_ms": 1e3 * (time.thread_time() - cpu) / len(part),
                    "wall_ms": 1e3 * (time.perf_counter() - wall) / len(part),
                }
            )
        again = open_writer()
        began = time.thread_time()
        again.open_study(record)
        return {"tenths": tenths, "names": dict(client.calls), "reopen_cpu_s": time.thread_time() - began}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--uri", help="another store than SQLite in a temporary folder; it keeps the runs")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(words)
    found = measure(arguments.trials, arguments.uri)
    print("trials  calls a trial  processor ms  wall ms")
    for tenth in found["tenths"]:
        print("{trials:6d} {calls:14.1f} {cpu_ms:13.1f} {wall_ms:8.1f}".format(**tenth))
    print(f"calls of the last: {found['names']}")
    print(f"the next session knows the runs after {found['reopen_cpu_s']:.2f} s of processor")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
