"""What orchestration costs: a whole study against a plain Optuna loop over the very same trials.

    python benchmarks/overhead.py [studies/quickstart.yaml] [--rounds 3]

Two figures a round, and their medians:

* overhead: wall time of ``orchestrate study``, from the command to the printed table, over the sum of its
  trials' training and evaluation time spread over the workers, minus 1;
* trials per hour of the study and of the peer. The peer is a loop with Optuna alone (no Ray, no MLflow, no
  report, no saved record but Optuna's journal) in as many processes of one thread, each with its imports
  done once. It gets the study's own trials, stopped at the same epochs: it decides nothing, never waits.

The two run one after the other in every round, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from orchestrator.execution.provenance import processors
from orchestrator.study.loader import load_study
from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import StudySpec
from workloads.contract import EpochReport, TrialConfig


@dataclass(frozen=True)
class Job:
    """One trial for the peer."""

    config: TrialConfig
    stop_after: int
    """Epoch at which the study stopped it."""


class _Stop(Exception):
    pass


_STORE: list[str] = []


def _start(journal: str, folder: str, data_root: str) -> None:
    _STORE[:] = [journal, folder, data_root]


def _train(job: Job) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from workloads import run

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal, folder, data_root = _STORE
    storage = JournalStorage(JournalFileBackend(journal))
    study = optuna.create_study(study_name=job.config.arm, storage=storage, load_if_exists=True)
    trial = study.ask()

    def report(epoch: EpochReport) -> None:
        trial.report(epoch.metrics["noise/fpr95"], epoch.epoch)
        trial.should_prune()
        if epoch.epoch >= job.stop_after < job.config.training.epochs:
            raise _Stop

    try:
        result = run.run(job.config, report, folder=Path(folder) / job.config.key, data_root=Path(data_root))
        study.tell(trial, result.metrics["noise/fpr95"])
    except _Stop:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)


def _run_study(path: Path, out: Path) -> float:
    orchestrate = Path(sys.executable).with_name("orchestrate")
    command: list[str | Path] = [orchestrate, "study", path, "--out", out, "--plain"]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def _run_peer(spec: StudySpec, jobs: Sequence[Job], workers: int, folder: Path) -> float:
    began = time.perf_counter()
    from workloads import run

    run.prepare(spec.data, spec.noise, folder / "data")
    context = multiprocessing.get_context("spawn")
    arguments = (str(folder / "optuna.journal"), str(folder / "trials"), str(folder / "data"))
    with context.Pool(workers, _start, arguments) as pool:
        for _ in pool.imap_unordered(_train, jobs, chunksize=1):
            pass
    return time.perf_counter() - began


def _jobs(spec: StudySpec, record: StudyRecord) -> list[Job]:
    facts = record.sessions[0]["data"]
    return [
        Job(
            trial_config(
                spec,
                t.arm,
                t.params,
                t.seed,
                "confirm" if t.stage == "confirm" else "search",
                facts["hash"],
            ),
            max(t.reports),
        )
        for t in record.trials.values()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", nargs="?", type=Path, default=Path("studies/quickstart.yaml"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peer-workers", type=int, default=None, help="processes of the peer; default: all cores"
    )
    arguments = parser.parse_args()
    spec = load_study(arguments.study)
    workers = processors()
    peers = arguments.peer_workers or workers
    print(f"{arguments.study}, {workers} workers of one thread (peer: {peers}), {arguments.rounds} rounds")
    print("round  trials  study s  busy s  overhead  peer s  study/h  peer/h  study/peer")
    overheads, ratios = [], []
    for number in range(1, arguments.rounds + 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            wall = _run_study(arguments.study, folder / "study")
            ledger = folder / "study" / spec.name / "ledger.jsonl"
            record = StudyRecord.fold(read_events(ledger))
            peer = _run_peer(spec, _jobs(spec, record), peers, folder / "peer")
        trials = len(record.trials)
        busy = sum(t.seconds for t in record.trials.values())
        overheads.append(wall / (busy / workers) - 1)
        ratios.append(peer / wall)
        print(
            f"{number:5d} {trials:7d} {wall:8.1f} {busy:7.1f} {overheads[-1]:9.1%} {peer:7.1f} "
            f"{3600 * trials / wall:8.0f} {3600 * trials / peer:7.0f} {ratios[-1]:11.2f}",
            flush=True,
        )
    print(f"median overhead {statistics.median(overheads):.1%}, study/peer {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
