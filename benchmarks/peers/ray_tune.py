"""Plain Ray Tune: the training function as a trainable, with Tune's defaults.

python -m benchmarks.peers.ray_tune JOB
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune

from benchmarks.peers.job import Job, write_result


def train(config: dict[str, Any]) -> None:
    from benchmarks.peers.training import run

    job = Job.loads(config["job"]).only(config["number"])
    result = run(job, tune.report)
    tune.report(result)
    write_result(job, result)


def main() -> None:
    job = Job.loads(sys.argv[1])
    ray.init(num_cpus=job.setting.concurrent)
    gpus = 0.0 if job.recipe.device == "cpu" else 1 / job.setting.concurrent
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1, "gpu": gpus}),
        param_space={"number": tune.grid_search(list(range(len(job.points)))), "job": job.dumps()},
        run_config=tune.RunConfig(name="peer", storage_path=str((Path(job.folder) / "ray").resolve())),
    )
    results = tuner.fit()
    if results.errors:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
