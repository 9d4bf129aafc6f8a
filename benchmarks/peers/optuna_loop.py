"""A plain Optuna study: the training function as the objective, in one process or several on one journal.

python -m benchmarks.peers.optuna_loop JOB
"""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.job import Job, write_result

if TYPE_CHECKING:
    import optuna


def main() -> None:
    job = Job.loads(sys.argv[1])
    study = _study(job)
    for number, (tau, lr) in enumerate(job.points):
        study.enqueue_trial({"tau": tau, "lr": lr}, user_attrs={"seed": job.seeds[number]})
    shares = [len(job.points[k :: job.setting.concurrent]) for k in range(job.setting.concurrent)]
    if len(shares) == 1:
        _optimize(job.dumps(), shares[0])
        return
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_optimize, args=(job.dumps(), share)) for share in shares]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise SystemExit(1)


def _optimize(text: str, trials: int) -> None:
    from benchmarks.peers.training import run

    job = Job.loads(text)

    def objective(trial: optuna.Trial) -> float:
        tau = trial.suggest_float("tau", 1e-3, 10.0, log=True)
        lr = trial.suggest_float("lr", 1e-4, 1.0, log=True)
        own = Job(job.recipe, ((tau, lr),), (trial.user_attrs["seed"],), job.setting, job.folder, job.confirm)
        epochs = iter(range(job.recipe.epochs))
        result = run(own, lambda epoch: trial.report(epoch["accuracy"], next(epochs)))
        write_result(own, result)
        return result["fpr95"]

    _study(job).optimize(objective, n_trials=trials)


def _study(job: Job) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(Path(job.folder) / "optuna.journal")))
    return optuna.create_study(study_name="peer", storage=storage, load_if_exists=True)


if __name__ == "__main__":
    main()
