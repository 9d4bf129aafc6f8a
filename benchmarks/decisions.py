"""What a decision costs as a study grows: simulated trials through the real campaign, ledger and sampler.

    python -m benchmarks.decisions [--arms 50] [--configurations 195] [--seeds 1] [--parallel 2] [--slots 8]
        [--sampler tpe] [--pruner median] [--marks 100,1000,10000] [--onlookers] [--holders] [--json FILE]

No Ray, no torch: the trials are made up, everything that decides about them is real, the ledger's file and
its way to the disk included. A line for each mark, when so many trials have ended, over the tenth of all
trials (at least 50) before it:

* ``ask``: next_trial() where the sampler is asked for a new configuration; ``next``: where it is not;
  ``report``: one epoch; ``finish``: the end of a trial. Median, 99th percentile and longest call,
  milliseconds of this thread's processor; ``disk``: how long a call waited beyond that at most;
* ``a trial``: all of these together over the trials of the window, processor and wall;
* resident memory, the ledger's size, and the seconds of processor to rebuild the campaign from the ledger.

``--onlookers`` replays the ledger through what else sees every event: the display, the tracker (with a store
that only counts), and what ``status`` prints. ``--holders`` names the lines that hold most memory at the end.

The last lines give the longest pauses of Python's garbage collector, which fall on any call, and a hash of
everything decided: equal between two versions that decide alike.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import onlookers
from benchmarks.rehearsal import FACTS, KINDS, Rehearsal, Shape
from orchestrator.campaign.campaign import Campaign
from orchestrator.campaign.journal import BufferedJournal
from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord


def rebuild_seconds(shape: Shape, ledger: Path) -> tuple[float, float]:
    """Seconds of processor to read and fold a ledger, and to build the campaign from the record."""
    began = time.thread_time()
    record = StudyRecord.fold(read_events(ledger))
    folded = time.thread_time()
    journal = BufferedJournal(ledger.with_suffix(".journal"))
    Campaign(shape.spec(), FACTS, record, lambda event: None, journal)
    return folded - began, time.thread_time() - folded


def decided(record: StudyRecord) -> str:
    """A hash of all that was decided, without times."""
    said = [
        (name, arm.selected, [(dict(c.params), c.state, c.value, c.reason) for c in arm.configurations])
        for name, arm in sorted(record.arms.items())
    ]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:16]


def figures(rehearsal: Rehearsal, mark: int) -> dict[str, Any]:
    """What the calls of the window before a mark took."""
    window = max(50, mark // 10)
    calls = [c for c in rehearsal.calls if mark - window <= c.ended < mark]
    ledger = rehearsal.folder / f"{mark}.jsonl"
    found: dict[str, Any] = {"ended": mark}
    for kind in KINDS:
        milliseconds = sorted(1e3 * c.cpu for c in calls if c.kind == kind) or [math.nan]
        found[kind] = {
            "median": statistics.median(milliseconds),
            "p99": milliseconds[math.ceil(0.99 * len(milliseconds)) - 1],
            "max": milliseconds[-1],
        }
    trials = min(window, mark)
    found["trial_ms"] = 1e3 * sum(c.cpu for c in calls) / trials
    found["trial_wall_ms"] = 1e3 * sum(c.wall for c in calls) / trials
    found["disk_ms"] = 1e3 * max(c.wall - c.cpu for c in calls)
    found["resident_mb"] = rehearsal.resident[mark] / 2**20
    found["ledger_mb"] = ledger.stat().st_size / 2**20
    found["fold_s"], found["rebuild_s"] = rebuild_seconds(rehearsal.shape, ledger)
    return found


def line(found: Mapping[str, Any]) -> str:
    parts = [f"{found['ended']:6d}"]
    parts += ["{median:7.2f} {p99:7.2f} {max:7.2f}".format(**found[k]) for k in KINDS]
    parts.append(f"{found['trial_ms']:8.1f} {found['trial_wall_ms']:6.1f} {found['disk_ms']:6.1f}")
    parts.append(f"{found['resident_mb']:6.0f} {found['ledger_mb']:7.2f}")
    parts.append(f"{found['fold_s']:6.2f} {found['rebuild_s']:8.2f}")
    return " |".join(parts)


def head() -> str:
    names = [f"{kind}: median p99 max" for kind in KINDS]
    return " |".join(
        [
            " ended",
            *(f"{n:>23}" for n in names),
            " a trial: cpu wall disk",
            "    MB  ledger",
            "  fold  rebuild",
        ]
    )


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    shape = Shape()
    for name in ("arms", "configurations", "seeds", "parallel", "slots", "epochs", "confirms"):
        parser.add_argument(f"--{name}", type=int, default=getattr(shape, name))
    parser.add_argument("--sampler", default=shape.sampler)
    parser.add_argument("--pruner", default=shape.pruner)
    parser.add_argument("--marks", default="100,1000,10000", help="trials ended; ascending, comma-separated")
    parser.add_argument("--onlookers", action="store_true")
    parser.add_argument("--holders", action="store_true")
    parser.add_argument("--json", type=Path)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    arguments = parse(words)
    names = Shape.__dataclass_fields__
    shape = Shape(**{name: getattr(arguments, name) for name in names})
    if arguments.holders:
        tracemalloc.start()
    print(shape)
    with tempfile.TemporaryDirectory() as name:
        rehearsal = Rehearsal(shape, Path(name), [int(mark) for mark in arguments.marks.split(",")])
        record = rehearsal.run()
        if arguments.holders:
            for held in tracemalloc.take_snapshot().statistics("lineno")[:15]:
                print(held)
        print(head())
        results = []
        for mark in rehearsal.resident:
            results.append(figures(rehearsal, mark))
            print(line(results[-1]), flush=True)
        if arguments.onlookers:
            for mark in rehearsal.resident:
                results.append(onlookers.figures(shape.spec(), rehearsal.folder / f"{mark}.jsonl"))
                print(results[-1], flush=True)
    pauses = " ".join(f"{1e3 * pause:.0f}" for pause in sorted(rehearsal.pauses)[-5:])
    print(f"{len(rehearsal.pauses)} full garbage collections, the longest {pauses} ms")
    slowest = max(rehearsal.calls, key=lambda c: c.cpu)
    print(
        f"{rehearsal.ended} trials, {len(rehearsal.calls)} calls; slowest {1e3 * slowest.cpu:.1f} ms "
        f"({slowest.kind} after {slowest.ended}); decided {decided(record)}"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
