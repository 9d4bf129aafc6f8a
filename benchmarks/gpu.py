"""Trials an hour on one GPU: 1, 4, 8 and 16 trials side by side, and a script a trial beside them.

    python -m benchmarks.gpu --data DIR [--models wrn_40_2 resnet18] [--side-by-side 1 4 8 16] [--json FILE]

Whole CIFAR-10 (but for the validation images), bf16, batch 128, crop and flip. The rate is that of all trials
together, in images a second, from when the last of them has reported its first epoch to when the first of
them ends: imports, compiling and the ends are not in it. Printed beside it are the share of the measured
convolution peak (see ``benchmarks.peak``; M11), the ratio to one trial alone (M8) and to the script (M2).

Written for one CUDA device, and so far not run on one: no figure of it is known.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import material, peak, study
from benchmarks.material import Material, Sizes
from benchmarks.peers import launch
from benchmarks.peers.job import Job, Recipe, Setting
from benchmarks.study import Order, Run
from orchestrator.execution.provenance import hardware, processors, versions
from workloads.contract import DataMissing, ModelConfig

MODELS = ("wrn_40_2", "resnet18")
SIDE_BY_SIDE = (1, 4, 8, 16)
LOADERS = 4
"""Loader processes of the script; its authors' default."""


@dataclass(frozen=True)
class Row:
    """One model with so many trials side by side."""

    model: str
    trials: int
    images_a_second: float
    """Trained, all trials together; evaluation takes its share of the time."""
    share: float
    """Of the rate of the fastest convolution of the network, measured before."""
    to_one: float
    """The rate over that of one trial alone."""
    to_script: float
    """The rate over that of the script, its start-up left out as well."""


def window_rate(run: Run, images: int) -> float:
    """Images a second of all trials, while all of them train.

    Between two reports a trial is taken to progress evenly.
    """
    tracks = [(list(t.report_times.values()), list(t.report_times)) for t in run.searches]
    begin = max(times[0] for times, _ in tracks)
    end = min(times[-1] for times, _ in tracks)
    if end <= begin:
        raise RuntimeError("the trials never trained all at once: give them more epochs")
    epochs = sum(np.interp(end, times, done) - np.interp(begin, times, done) for times, done in tracks)
    return float(epochs * images / (end - begin))


def script_rate(material_: Material, recipe: Recipe) -> float:
    """Images a second of one script, without imports."""
    job = Job(recipe, (study.points(1)[0],), (study.SEED,), Setting(1, processors(), LOADERS), "")
    result = launch.run("script", job).results[0]
    return recipe.epochs * material_.facts.num_train / result["seconds"]


def rows(model: str, made: Material, arguments: argparse.Namespace, folder: Path) -> list[Row]:
    recipe = _recipe(model, made, arguments.epochs)
    device = torch.device("cuda")
    measured = peak.measure(ModelConfig(model), "bf16", recipe.batch_size, 5, 1, device)
    best = max(each.best_rate for each in measured)
    an_image = measured[0].step_rate * measured[0].step / recipe.batch_size
    script = script_rate(made, dataclasses.replace(recipe, epochs=2))
    found: list[Row] = []
    for trials in arguments.side_by_side:
        resources = {"gpu": 1 / trials, "cpu": processors() / trials}
        order = Order(
            recipe, trials, "bf16", concurrent=trials, resources=resources, compile=arguments.compile
        )
        run = study.run(order, made, folder / f"{model}-{trials}")
        rate = window_rate(run, made.facts.num_train)
        one = found[0].images_a_second / found[0].trials if found else rate / trials
        found.append(Row(model, trials, rate, rate * an_image / best, rate / one, rate / script))
        print(_line(found[-1]), flush=True)
    return found


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data sets")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--side-by-side", type=int, nargs="+", default=SIDE_BY_SIDE, metavar="N")
    parser.add_argument("--images", type=int, default=45000, help="training images (default 45000)")
    parser.add_argument("--epochs", type=int, default=6, help="of a trial; even, at least 4 (default 6)")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row there, too")
    arguments = parser.parse_args(words)
    if arguments.epochs < 4 or arguments.epochs % 2:
        parser.error(f"--epochs must be even and at least 4; got {arguments.epochs}")
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    arguments = parse(words)
    if not torch.cuda.is_available():
        print("benchmarks.gpu needs a CUDA device; there is none", file=sys.stderr)
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {hardware()['cores']} cores")
    print("model      trials  images/s  of peak  to one  to script", flush=True)
    found: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="gpu-") as name:
        folder = Path(name)
        try:
            made = material.make(folder / "material", Sizes(arguments.images), arguments.data)
        except DataMissing as error:
            print(error, file=sys.stderr)
            return 2
        for model in arguments.models:
            found += rows(model, made, arguments, folder)
    if arguments.json is not None:
        facts: dict[str, Any] = {**versions(), **hardware(), "gpu": torch.cuda.get_device_name()}
        record = {"facts": facts, "rows": [dataclasses.asdict(row) for row in found]}
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")
    return 0


def _recipe(model: str, made: Material, epochs: int) -> Recipe:
    return Recipe(
        data=str(made.arrays),
        model=model,
        epochs=epochs,
        batch_size=128,
        momentum=0.9,
        weight_decay=5e-4,
        milestones=(epochs // 2,),
        gamma=0.1,
        device="cuda",
    )


def _line(row: Row) -> str:
    return (
        f"{row.model:<10} {row.trials:6d} {row.images_a_second:9.0f} {row.share:8.1%} "
        f"{row.to_one:7.2f} {row.to_script:10.2f}"
    )


if __name__ == "__main__":
    sys.exit(main())
