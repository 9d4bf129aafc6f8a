"""What MLflow costs as an experiment grows: calls and milliseconds a trial, and the start of a session.

    python -m benchmarks.mlflow_growth [--runs 100 1000 5000] [--trials 20] [--uri URI]

An experiment is filled with the runs of one study (10 epochs of 5 metrics, 30 final metrics where confirmed;
one trial in five is). Then a session of the same study begins anew, as a resume does, and one of another
study in the same experiment; each writes so many more trials through :class:`MlflowWriter`. Times are of
this process's processor where the store is SQLite, and of the wall where it is a server.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.study.spec import ArmSpec, StudySpec
from orchestrator.tracking.tracker import make_writer
from orchestrator.tracking.writer import MlflowWriter
from workloads.catalogue import Term
from workloads.contract import DataConfig, ModelConfig

_EPOCHS = 10
_CONFIRMED = 5
"""One trial in so many is confirmed, and has a model."""


def made_up_study(name: str) -> StudySpec:
    data = DataConfig("digits", (0, 1, 2), near_ood=("held_out",), far_ood=("uniform",))
    arms = {n: ArmSpec(n, n, {"lr": Term("fixed", (0.1,))}) for n in ("cross_entropy", "logitnorm")}
    return StudySpec(name, data, ModelConfig("small_cnn_8x8"), arms, "cross_entropy")


def made_up_trial(number: int, spec: StudySpec) -> TrialRecord:
    """A finished trial; every ``_CONFIRMED``-th is a confirm trial."""
    names = ("train/loss", "validation/accuracy", "noise/fpr95", "noise/auroc", "lr")
    trial = TrialRecord(
        f"{number:016x}",
        list(spec.arms)[number % len(spec.arms)],
        "search" if number % _CONFIRMED else "confirm",
        "standard",
        number,
        number,
        {"lr": 0.1 + number},
        started=1e9 + number,
    )
    for epoch in range(1, _EPOCHS + 1):
        trial.reports[epoch] = dict.fromkeys(names, epoch + number / 7)
        trial.report_times[epoch] = 1e9 + number + epoch
    trial.state, trial.ended = "complete", 1e9 + number + _EPOCHS + 1
    if trial.stage == "confirm":
        trial.metrics = {f"ood/near/score{i}/auroc": i / 31 for i in range(30)}
    return trial


def made_up_record(spec: StudySpec, instance: str) -> StudyRecord:
    opened = {"event": "opened", "t": 1e9, "study": spec.name, "instance": instance, "commit": "none"}
    return StudyRecord.fold([{**opened, "arms": list(spec.arms), "data": {"hash": "none"}}])


@dataclass(frozen=True)
class Cost:
    """Of one session."""

    runs_before: int
    whose: str
    opening_ms: float
    trial_ms: float
    """Median of a trial."""
    calls: float
    """A trial."""


@contextmanager
def counted(writer: MlflowWriter, calls: Counter[str]) -> Iterator[None]:
    """Count the calls of the writer's client, of all its parts."""
    client = writer._client
    wrapped = [n for n in dir(client) if not n.startswith("_") and callable(getattr(client, n))]

    def counting(name: str, whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            return whole(*args, **kwargs)

        return call

    for name in wrapped:
        setattr(client, name, counting(name, getattr(client, name)))
    try:
        yield
    finally:
        for name in wrapped:
            delattr(client, name)


def session(
    spec: StudySpec, folder: Path, uri: str, instance: str, trials: Sequence[int]
) -> tuple[float, list[float], Counter[str]]:
    """Milliseconds of the opening, of each trial, and the calls of all trials."""
    clock = time.process_time if uri.startswith("sqlite") else time.perf_counter
    writer = make_writer(spec, folder, uri, folder.as_uri() if uri.startswith("sqlite") else None)()
    record = made_up_record(spec, instance)
    began = clock()
    writer.open_study(record)
    opening = 1000 * (clock() - began)
    taken, calls = [], Counter[str]()
    with counted(writer, calls):
        for number in trials:
            trial = made_up_trial(number, spec)
            record.trials[trial.key] = trial
            began = clock()
            writer.write_trial(record, trial)
            taken.append(1000 * (clock() - began))
    return opening, taken, calls


def growth(sizes: Sequence[int], trials: int, folder: Path, uri: str) -> Iterator[Cost]:
    """The cost at each size of the experiment, for a resumed and for another study."""
    spec = made_up_study(f"growth-{os.getpid()}")
    there = 0
    for size in sorted(sizes):
        session(spec, folder, uri, "one", range(there, size))
        there = max(there, size)
        for whose, instance in (("the same study", "one"), ("another study", f"other-{size}")):
            opening, taken, calls = session(spec, folder, uri, instance, range(there, there + trials))
            there += trials
            yield Cost(there - trials, whose, opening, statistics.median(taken), sum(calls.values()) / trials)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--uri", help="of a tracking server; None: SQLite in a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        uri = arguments.uri or f"sqlite:///{folder / 'mlflow.db'}"
        print(
            f"{'runs before':>11}  {'a session of':15}  {'opening ms':>10}  {'ms a trial':>10}  {'calls':>5}"
        )
        for cost in growth(arguments.runs, arguments.trials, folder, uri):
            print(
                f"{cost.runs_before:11}  {cost.whose:15}  {cost.opening_ms:10.0f}  {cost.trial_ms:10.1f}"
                f"  {cost.calls:5.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
