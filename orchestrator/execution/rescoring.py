"""``orchestrate rescore``: more scores, or OOD sets, for a study that is finished, without training."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.campaign.ledger import Ledger, read_events
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.campaign.standing import confirms_ended, confirms_planned, searches
from orchestrator.errors import StudyFailed, Unavailable, UserError
from orchestrator.execution.lock import DriverLock
from orchestrator.execution.provenance import processors
from orchestrator.execution.trial import prepare
from orchestrator.study.regimes import regimes
from orchestrator.study.resolve import trial_config
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec
from workloads.contract import AddedSet, DataMissing
from workloads.data.names import ood_problem, reserved, set_name


@dataclass(frozen=True)
class Rescoring:
    """What is to be added to which study."""

    spec: StudySpec
    study_dir: Path
    sources: Path
    """Where the data sets are."""
    scores: tuple[str, ...]
    """As in ``evaluate.ood.scores``."""
    added: Mapping[str, str]
    """New OOD sets: the name that each gets, and its name or path."""
    say: Callable[[str], None]
    """Takes a line for the terminal."""


def rescore(job: Rescoring) -> None:
    """Compute, trial by trial, and write each trial's metrics to the ledger when they are there.

    Running the same command again repeats it with the same numbers.

    Raises: UserError where the study is not finished or a name cannot be; Unavailable where data are missing;
        StudyFailed where a trial could not be rescored (the others were).
    """
    path = job.study_dir / "ledger.jsonl"
    with DriverLock(job.study_dir):
        record = StudyRecord.fold(read_events(path))
        trials = _finished(job, record)
        added = _prepared(job, record)
        scores = _labels(job, record)
        where = ", ".join([*job.scores, *(f"the set {name}" for name in added)])
        job.say(f"Adding {where} to {len(trials)} confirm trials; nothing is trained.")
        ledger = Ledger(path)
        if ledger.word:
            job.say(ledger.word)
        try:
            failures = _all(job, trials, scores, added, ledger, record)
        finally:
            ledger.close()
    if failures:
        raise StudyFailed("not rescored (the other trials were):\n" + "\n".join(failures))


def finished_keys(study_dir: Path) -> list[str]:
    """The trials that may be changed: every complete confirm trial."""
    record = StudyRecord.fold(read_events(study_dir / "ledger.jsonl"))
    return [t.key for t in record.trials.values() if t.stage == "confirm" and t.state == "complete"]


def _all(
    job: Rescoring,
    trials: Sequence[TrialRecord],
    scores: tuple[str, ...],
    added: Mapping[str, AddedSet],
    ledger: Ledger,
    record: StudyRecord,
) -> list[str]:
    """Every trial, several at once; returns what failed, in sentences."""
    data_hash = record.sessions[0]["data"]["hash"]
    requests = {trial.key: _request(job, trial, scores, added, data_hash) for trial in trials}
    threads = max(1, int(job.spec.resources.cpu))
    workers = max(1, min(processors() // threads, len(trials)))
    if job.spec.resources.on_gpu:
        workers = 1
    failures = []
    # A fresh interpreter each: a forked one would share this process's threads and locks.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_one_thread, initargs=(threads,)
    ) as pool:
        waiting = {pool.submit(_rescored, request): key for key, request in requests.items()}
        for done in as_completed(waiting):
            trial = record.trials[waiting[done]]
            name = f"{trial.arm} {trial.place} seed {trial.seed}"
            try:
                metrics, notes = done.result()
            except Exception as error:
                failures.append(f"  {name}: {error}")
                continue
            event = {
                "event": "rescored",
                "t": time.time(),
                "key": trial.key,
                "scores": list(job.scores),
                "sets": dict(job.added),
                "metrics": metrics,
                "notes": list(notes),
            }
            ledger.append(event)
            record.apply(event)
            job.say(f"  {name}: {len(metrics)} metrics")
    return failures


def _request(
    job: Rescoring,
    trial: TrialRecord,
    scores: tuple[str, ...],
    added: Mapping[str, AddedSet],
    data_hash: str,
) -> dict[str, Any]:
    regime = regimes(job.spec)[trial.regime]
    config = trial_config(job.spec, trial.arm, trial.params, trial.seed, "confirm", data_hash, regime)
    if config.key != trial.key:
        raise UserError(
            f"{job.study_dir}: this version of the tool would train {trial.arm} seed {trial.seed} "
            f"differently (trial {config.key}, the study has {trial.key}); nothing was changed. Use the "
            "version that ran it"
        )
    return {
        "config": config.to_dict(),
        "scores": scores,
        "added": {name: asdict(each) for name, each in added.items()},
        "folder": str(job.study_dir / "trials" / trial.key),
        "data_root": str(_data_root(job)),
        "threads": max(1, int(job.spec.resources.cpu)),
        "device": "cuda" if job.spec.resources.on_gpu else "cpu",
    }


def _rescored(request: dict[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """In a worker."""
    from workloads import run
    from workloads.contract import TrialConfig

    config = TrialConfig.from_dict(request["config"])
    return run.rescore(
        config,
        request["scores"],
        {name: AddedSet.from_dict(each) for name, each in request["added"].items()},
        folder=Path(request["folder"]),
        data_root=Path(request["data_root"]),
        device=request["device"],
        threads=request["threads"],
    )


def _one_thread(threads: int) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)


def _finished(job: Rescoring, record: StudyRecord) -> list[TrialRecord]:
    for arm in searches(job.spec, record):
        if not arm.failure and confirms_ended(arm) < confirms_planned(job.spec, record, arm):
            raise UserError(
                f"{job.study_dir}: the study is not finished (arm {arm.label} has not ended all its confirm "
                "trials); nothing was changed. Finish it first with orchestrate study"
            )
    complete = [t for t in record.trials.values() if t.stage == "confirm" and t.state == "complete"]
    # A stream is measured after every task and keeps no outputs.
    found = [t for t in complete if t.protocol != "continual"]
    if not found:
        why = "its continual trials keep no outputs" if complete else "no confirm trial is complete"
        raise UserError(f"{job.study_dir}: {why}; there is nothing to rescore")
    return found


def _prepared(job: Rescoring, record: StudyRecord) -> dict[str, AddedSet]:
    data = job.spec.data
    taken = {*near_sets(data), *far_sets(data)}
    found = {}
    for name, place in job.added.items():
        if name in taken or reserved(name):
            raise UserError(f"--ood {name}={place}: the study has a set of this name already; choose another")
        if record.added_sets.get(name, place) != place:
            raise UserError(
                f"--ood {name}={place}: this name was given to {record.added_sets[name]} before; choose "
                "another"
            )
        problem = ood_problem(data.source, place)
        if problem:
            raise UserError(f"--ood {name}={place}: {problem}")
        alone = replace(data, near_ood=(), far_ood=(place,))
        try:
            facts = prepare(alone, job.spec.noise, _data_root(job), job.sources)
        except (DataMissing, ValueError) as error:
            raise Unavailable(f"--ood {name}={place}: {error}\nNothing was changed.") from error
        found[name] = AddedSet(set_name(place), alone, facts.hash)
    return found


def _labels(job: Rescoring, record: StudyRecord) -> tuple[str, ...]:
    """A new set is measured by every score that the study has, too."""
    known = [*job.spec.evaluation.ood.scores, *record.added_scores] if job.added else []
    return tuple(dict.fromkeys([*known, *job.scores]))


def _data_root(job: Rescoring) -> Path:
    return (job.study_dir.parent / "data").resolve()
