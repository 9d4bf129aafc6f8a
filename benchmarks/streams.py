"""What a stream of tasks costs over plain training with the same number of optimiser steps.

``python -m benchmarks.streams``: the digits, or with ``--data DIR`` a tenth of CIFAR-10. A stream of the
naive strategy opens a new loss, optimiser and set of batches for each task; nothing else should take time.
What is measured after a task (accuracies, OOD, calibration) is not counted, as plain training is not measured
here either. Each round takes the processor time of both, in turns, on one thread.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.rounds import Figure, interleave, line
from workloads.contract import (
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    NoiseConfig,
    TrainingConfig,
    TrialConfig,
)
from workloads.protocol_config import ContinualConfig
from workloads.protocols.continual import ContinualTrial
from workloads.protocols.standard import StandardTrial
from workloads.protocols.trial import Trial
from workloads.run import prepare
from workloads.training.numerics import reproducible

TASKS = 5
GOAL = 1.05


def seconds(kind: type[Trial], config: TrialConfig, root: Path) -> tuple[float, int]:
    """Processor seconds of training, the opening of each stage included, and its optimiser steps."""
    with tempfile.TemporaryDirectory() as folder, reproducible(torch.device("cpu"), 1):
        trial = kind(config, Path(folder), root, torch.device("cpu"))
        taken, steps = 0.0, 0
        for stage in range(trial.stages):
            started = time.process_time()
            trial.engine = trial.opened(stage)
            while trial.engine.epoch < trial.engine.config.epochs:
                trial.engine.train_epoch()
                steps += len(trial.engine.batches)
            taken += time.process_time() - started
            if isinstance(trial, ContinualTrial) and stage < trial.stages - 1:
                started = time.process_time()
                trial.end_of_task()
                taken += time.process_time() - started
        return taken, steps


def configurations(
    data: DataConfig, model: str, batch: int, epochs: int, hash_: str
) -> dict[str, TrialConfig]:
    training = TrainingConfig(epochs=epochs, batch_size=batch, lr=0.02, schedule="constant")
    plain = TrialConfig(
        "a", "confirm", "standard", 0, "cross_entropy", {}, data, hash_, ModelConfig(model), training,
        NoiseConfig(size=16), EvaluationConfig(),
    )  # fmt: skip
    settings = ContinualConfig(scenario="class_il", tasks=TASKS, order="natural")
    stream = TrialConfig(**{**vars(plain), "protocol": "continual", "continual": settings})
    return {"plain": plain, "stream": stream}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of data sets; without it the digits")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write the figures as JSON here")
    arguments = parser.parse_args(argv)
    if arguments.data:
        data = DataConfig("cifar10", validation_fraction=0.1, train_fraction=0.1)
        model, batch = "small_cnn_32x32", 50
    else:
        # 1,150 images of 10 classes that differ a little in size: batches of 23 divide what 5 tasks have.
        data = DataConfig("digits", validation_fraction=0.05)
        model, batch = "small_cnn_8x8", 23
    kinds: dict[str, type[Trial]] = {"plain": StandardTrial, "stream": ContinualTrial}
    with tempfile.TemporaryDirectory() as root:
        facts = prepare(data, NoiseConfig(size=16), Path(root), arguments.data)
        configs = configurations(data, model, batch, arguments.epochs, facts.hash)
        for name, kind in kinds.items():
            seconds(kind, configs[name], Path(root))  # warm
        ways = {name: partial(seconds, kind, configs[name], Path(root)) for name, kind in kinds.items()}
        rounds = interleave(ways, arguments.rounds)
    per_step = {name: [r[name][0] / r[name][1] for r in rounds] for name in kinds}
    ratios = [s / p for s, p in zip(per_step["stream"], per_step["plain"], strict=True)]
    steps = {name: rounds[0][name][1] for name in kinds}
    figure = Figure(
        "stream",
        f"processor time a step in a stream of {TASKS} tasks over plain training, {model}, batch {batch}",
        "times",
        ratios,
        f"at most {GOAL}",
        None,
        {"steps": steps, "milliseconds_a_step": {n: [1000 * v for v in vs] for n, vs in per_step.items()}},
    )
    print(line(figure))
    for name in kinds:
        middle = sorted(per_step[name])[len(rounds) // 2]
        print(f"    {name}: {steps[name]} steps, median {1000 * middle:.3f} ms a step")
    if arguments.out:
        arguments.out.write_text(json.dumps(figure.record(), indent=1))


if __name__ == "__main__":
    main()
