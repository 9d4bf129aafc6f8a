"""A study of many short trials, for real: Ray, MLflow on SQLite, stopped once in the middle and gone on with.

    python -m benchmarks.many_trials [--trials 500] [--epochs 30] [--workers 2] [--folder DIR] [--json FILE]

Half of the trials are those of a cross-entropy arm, half of a LogitNorm arm, on the digits; nothing is
pruned, so every trial runs to its end. When half of them have ended the command gets SIGTERM, and the same
command is given again. Said are

* overhead a trial, (wall x workers - busy seconds) / trials, in the first and the last fifth of the trials,
  without the first start of the workers and the time around the interruption;
* MLflow runs that are missing, doubled, or do not show the state that the ledger has (all must be 0);
* the driver's resident memory while each fifth of the trials ran, and that of all its Ray processes;
* from the SIGTERM to the end of the process, and from the second command to its first trial;
* what the records took of each session (see benchmarks.logged): the ledger and the queue in the control loop,
  MLflow's thread, and the wait for it at the end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.session import Session
from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import Event, StudyRecord, TrialRecord
from orchestrator.tracking.store import resolve_uri

NAME = "many"
ARMS = ("cross_entropy", "logitnorm")
CONFIRM_SEEDS = (100, 101)


def document(trials: int, epochs: int, workers: int) -> dict[str, Any]:
    """A study of exactly so many trials; JSON is YAML.

    Raises: ValueError where the number cannot be shared by the arms.
    """
    configurations, rest = divmod(trials, len(ARMS))
    configurations -= len(CONFIRM_SEEDS)
    if rest or configurations < 1:
        least = len(ARMS) * (len(CONFIRM_SEEDS) + 1)
        raise ValueError(f"trials must be even and at least {least}; got {trials}")
    lr = {"log_uniform": [0.02, 0.3]}
    return {
        "study": NAME,
        "data": {"source": "digits", "id_classes": [0, 1, 2, 3, 4, 5], "far_ood": ["uniform"]},
        "model": "small_cnn_8x8",
        "training": {"epochs": epochs, "batch_size": 64, "evaluate_every": max(1, epochs // 5)},
        "noise": {"size": 200},
        "arms": {
            "cross_entropy": {"lr": lr},
            "logitnorm": {"tau": {"log_uniform": [0.1, 1.0]}, "lr": lr},
        },
        "search": {"trials": configurations, "seeds": [0], "parallel": workers, "pruner": "none"},
        "confirm": {"seeds": list(CONFIRM_SEEDS)},
        "execution": {"max_concurrent": workers},
        "report": {"primary": ["ood/far/fpr95"]},
    }


def overhead(trials: Sequence[TrialRecord], workers: int) -> float:
    """Seconds a trial that no training explains; the trials in the order of their ends.

    The first ``workers`` of them only mark the beginning.
    """
    ends = [trial.ended or 0.0 for trial in trials]
    counted = trials[workers:]
    wall = ends[-1] - ends[workers - 1]
    return (wall * workers - sum(trial.seconds for trial in counted)) / len(counted)


def fifths(trials: Sequence[TrialRecord]) -> list[Sequence[TrialRecord]]:
    size = len(trials) // 5
    return [trials[n * size : (n + 1) * size if n < 4 else len(trials)] for n in range(5)]


@dataclass(frozen=True)
class Delivery:
    """What MLflow has of a study's trials."""

    missing: int
    doubled: int
    wrong: int
    """Runs whose state is not the ledger's."""


def delivery(runs: Iterable[tuple[str, str]], states: Mapping[str, str]) -> Delivery:
    """Compare MLflow's runs, each (key of its trial, its state), with the ledger's states by key."""
    found = list(runs)
    counts = Counter(key for key, _ in found)
    return Delivery(
        missing=sum(key not in counts for key in states),
        doubled=sum(count - 1 for count in counts.values()),
        wrong=sum(states.get(key) != state for key, state in found),
    )


def mlflow_runs(uri: str, experiment: str) -> list[tuple[str, str]]:
    """(key, state) of every run of a trial."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    found, token = [], None
    while True:
        page = client.search_runs(
            [client.get_experiment_by_name(experiment).experiment_id], max_results=1000, page_token=token
        )
        tags = [run.data.tags for run in page]
        found += [
            (t["orchestrate.key"], t.get("orchestrate.state", "")) for t in tags if "orchestrate.key" in t
        ]
        token = page.token
        if not token:
            return found


def in_each_fifth(
    marks: Sequence[tuple[float, int, int]], trials: Sequence[TrialRecord]
) -> list[list[float]]:
    """Median MiB of the driver and of its Ray processes while each fifth of the trials ended."""
    found = []
    for part in fifths(trials):
        first, last = part[0].ended or 0.0, part[-1].ended or 0.0
        during = [mark for mark in marks if first <= mark[0] <= last]
        found.append([statistics.median(m[k] for m in during) / 2**20 for k in (1, 2)] if during else [])
    return found


def first_start(events: Sequence[Event], after: float) -> float:
    """When the first trial was started after a moment, both in seconds since the epoch."""
    return min(float(e["t"]) for e in events if e["event"] == "started" and e["t"] > after)


def measure(trials: int, epochs: int, workers: int, folder: Path) -> dict[str, Any]:
    """Run it in an empty folder.

    Raises: RuntimeError where the study did not end well.
    """
    (folder / "study.yaml").write_text(json.dumps(document(trials, epochs, workers)))
    out = folder / "out"
    ledger = out / NAME / "ledger.jsonl"

    def halfway() -> bool:
        # Cheap: to parse it all twenty times a second would slow down what is measured.
        return ledger.exists() and ledger.read_bytes().count(b'{"event":"finished"') >= trials // 2

    sessions = [Session(folder, 1), Session(folder, 2)]
    sessions[0].run(halfway)
    sessions[1].run()
    if sessions[1].status != 0:
        raise RuntimeError((folder / "output2.txt").read_text()[-2000:])
    events = list(read_events(ledger))
    record = StudyRecord.fold(events)
    ordered = sorted(record.trials.values(), key=lambda trial: trial.ended or 0.0)
    parts = fifths(ordered)
    marks = [*sessions[0].marks, *sessions[1].marks]
    states = {key: trial.state for key, trial in record.trials.items()}
    resumed = sessions[1].began
    return {
        "trials": len(ordered),
        "seconds_a_trial": statistics.median(trial.seconds for trial in ordered),
        "wall": sum(session.seconds for session in sessions),
        "overhead_first_fifth": overhead(parts[0], workers),
        "overhead_last_fifth": overhead(parts[-1], workers),
        "mlflow": asdict(delivery(mlflow_runs(resolve_uri(None, out), NAME), states)),
        "memory_mib": in_each_fifth(marks, ordered),
        "stop_seconds": sessions[0].stopping,
        "stop_status": sessions[0].status,
        "resume_seconds": first_start(events, resumed) - resumed,
        "ledger_bytes_a_trial": ledger.stat().st_size / len(ordered),
        "events_a_trial": len(events) / len(ordered),
        "spent": [session.spent for session in sessions],
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="an empty one, to be kept; default: a temporary one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        found = measure(arguments.trials, arguments.epochs, arguments.workers, folder)
    print(json.dumps(found, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
