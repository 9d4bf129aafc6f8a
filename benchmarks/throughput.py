"""Trials an hour of this tool and of its peers, and what a study costs beside its training.

    python -m benchmarks.throughput --data DIR [--only many few ...] [--rounds 3] [--json FILE]

One workload: LogitNorm on a grid of (tau, lr), small_cnn_32x32, part of CIFAR-10, batch 128, crop and flip.
Both sides train on the same images from the same weights for as many epochs, from the command to the end of
the last process; the data were decoded before. In every round the sides run one after the other. A peer runs
a trial a core without loader processes, which was the fastest of five settings for each peer on two cores;
``--setting best`` tries them again.

A ratio counts only where accuracy, AUROC and FPR95 agree with the script's over the same seeds: the paired
95 % interval holds 0, or the difference is below its bound (0.01, 0.01 and 0.02); an interval of more than
+/- 0.05, 0.1 and 0.1 decides nothing.

Figures M1 to M12 are those of docs/performance.md; ``--only`` takes the parts that they come from.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import figures, material, parity, peak, rounds, study
from benchmarks.figures import Bench
from benchmarks.material import Sizes
from benchmarks.peers import launch
from benchmarks.peers.job import Job, Recipe, Setting
from benchmarks.rounds import Figure
from orchestrator.execution.provenance import hardware, processors, versions
from workloads.contract import DataMissing, ModelConfig

PARTS = ("parity", "many", "few", "orchestration", "logging", "peak", "help", "memory")
PEAK_GOALS = {"wrn_40_2": ">= 55", "resnet18": ">= 70"}
BRIEF = Sizes(train=256, validation=100, test=100, far=100, noise=100)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, metavar="DIR", help="data sets, as for orchestrate study")
    source.add_argument("--drawn", action="store_true", help="drawn images, where there are no data sets")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS[:-1], metavar="PART")
    parser.add_argument("--images", type=int, default=5000, help="training images (default 5000)")
    parser.add_argument("--epochs", type=int, default=2, help="of a trial; even (default 2)")
    parser.add_argument("--rounds", type=int, default=1, help="default 1")
    parser.add_argument("--trials", type=int, default=24, help="of M1 (default 24)")
    parser.add_argument("--few", type=int, default=8, help="trials of M2 (default 8)")
    parser.add_argument("--seeds", type=int, default=8, help="paired seeds of the parity check (default 8)")
    parser.add_argument("--peak-batch", type=int, default=128, help="batch of M11 (default 128)")
    parser.add_argument(
        "--setting",
        type=_setting,
        default=Setting(processors(), 1, 0),
        metavar="C,T,W",
        help="every peer's concurrent trials, threads and loaders; best: the fastest of five, tried for each "
        "peer (default: a trial a core, no loaders)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there, too")
    arguments = parser.parse_args(words)
    if arguments.epochs < 2 or arguments.epochs % 2:
        parser.error(f"--epochs must be even, for a step at half of them; got {arguments.epochs}")
    if arguments.seeds < 2:
        parser.error(f"--seeds must be at least 2; got {arguments.seeds}")
    paired = {"few", "orchestration"} & set(arguments.only)
    if paired and not processors() < arguments.few < arguments.trials:
        parser.error(f"--trials must exceed --few, and that the number of cores ({processors()})")
    return arguments


def main(words: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; 1 where parity was measured and a ratio does not count."""
    arguments = parse(words)
    began = time.perf_counter()
    print(_heading(arguments), flush=True)
    with tempfile.TemporaryDirectory(prefix="throughput-") as name:
        try:
            bench, tried = _prepare(Path(name), arguments)
        except DataMissing as error:
            print(error, file=sys.stderr)
            return 2
        if "parity" in arguments.only:
            figures.measure_parity(bench)
            for precision, comparisons in bench.comparisons.items():
                for each in comparisons:
                    print(parity.line(each, precision), flush=True)
        found: list[Figure] = []
        for part in arguments.only:
            for figure in _parts(bench, arguments).get(part, list)():
                found.append(figure)
                print(rounds.line(figure), flush=True)
    print(f"{time.perf_counter() - began:.0f} s, load average {os.getloadavg()[0]:.2f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_record(arguments, bench, tried, found), indent=1) + "\n")
    return 1 if any(figure.counts is False for figure in found) else 0


def _prepare(folder: Path, arguments: argparse.Namespace) -> tuple[Bench, dict[str, Any]]:
    began = time.perf_counter()
    made = material.make(folder / "material", Sizes(arguments.images), arguments.data)
    recipe = Recipe(
        data=str(made.arrays),
        model="small_cnn_32x32",
        epochs=arguments.epochs,
        batch_size=128,
        momentum=0.9,
        weight_decay=5e-4,
        milestones=(arguments.epochs // 2,),
        gamma=0.1,
    )
    print(f"{made.facts.num_train} images prepared in {time.perf_counter() - began:.1f} s", flush=True)
    settings, tried = _settings(recipe, arguments)
    seeds = tuple(range(study.CONFIRM_SEED, study.CONFIRM_SEED + arguments.seeds))
    few, rounds_ = arguments.few, arguments.rounds
    return Bench(folder, made, recipe, settings, rounds_, arguments.trials, few, seeds), tried


def _settings(
    recipe: Recipe, arguments: argparse.Namespace
) -> tuple[Mapping[str, Setting], dict[str, dict[str, float]]]:
    """Each peer's best, and the seconds a trial of all that were tried."""
    needed = {"parity": ("script",), "many": ("tune",), "few": ("script", "optuna")}
    names = dict.fromkeys(peer for part in arguments.only for peer in needed.get(part, ()))
    if arguments.setting is not None:
        return dict.fromkeys(names, arguments.setting), {}
    chosen, tried = {}, {}
    points = study.points(processors())
    for name in names:
        job = Job(recipe, points, (study.SEED,) * len(points), Setting(), "")
        chosen[name], tried[name] = launch.best(name, job, launch.candidates(processors()))
        for setting, seconds in tried[name].items():
            mark = "  <- taken" if setting == str(chosen[name]) else ""
            print(f"{name:<7}{setting:<34}{seconds:7.2f} s a trial{mark}", flush=True)
    return chosen, tried


def _parts(bench: Bench, arguments: argparse.Namespace) -> Mapping[str, Callable[[], list[Figure]]]:
    def orchestration() -> list[Figure]:
        return figures.orchestration(bench, material.make(bench.folder / "brief", BRIEF, None))

    return {
        "many": lambda: figures.many(bench),
        "few": lambda: figures.few(bench),
        "orchestration": orchestration,
        "logging": lambda: figures.logging(bench),
        "peak": lambda: _peak(arguments),
        "help": lambda: figures.help_time(max(5, arguments.rounds)),
        "memory": lambda: figures.memory(bench, 4),
    }


def _peak(arguments: argparse.Namespace) -> list[Figure]:
    """M11, on one thread, as a trial has."""
    found = []
    for name, wanted in PEAK_GOALS.items():
        measured = peak.measure(
            ModelConfig(name), "bf16", arguments.peak_batch, arguments.rounds, 1, torch.device("cpu")
        )
        rate = [each.step_rate / 1e9 for each in measured]
        best = [each.best_rate / 1e9 for each in measured]
        what = f"{name} step, of its convolutions' own speed, bf16"
        found += [
            Figure("M11", what, "%", [100 * each.share for each in measured], wanted),
            Figure(
                "", "the same, of its fastest convolution's", "%", [100 * e.share_of_best for e in measured]
            ),
            Figure("", f"{name} step", "GF/s", rate, facts={"best_convolution": best}),
        ]
    return found


def _setting(text: str) -> Setting | None:
    if text == "best":
        return None
    concurrent, threads, workers = (int(word) for word in text.split(","))
    return Setting(concurrent, threads, workers)


def _heading(arguments: argparse.Namespace) -> str:
    facts = hardware()
    return (
        f"torch {torch.__version__}, {facts['processor']}, {facts['cores']} cores, load average "
        f"{os.getloadavg()[0]:.2f}; {arguments.images} images, {arguments.epochs} epochs"
        f", {arguments.rounds} rounds"
    )


def _record(
    arguments: argparse.Namespace, bench: Bench, tried: Mapping[str, Any], found: Sequence[Figure]
) -> dict[str, Any]:
    given = {key: str(value) if isinstance(value, Path) else value for key, value in vars(arguments).items()}
    given["setting"] = str(given["setting"])
    return {
        "facts": {**versions(), **hardware(), **given},
        "tried": tried,
        "settings": {name: dataclasses.asdict(setting) for name, setting in bench.settings.items()},
        "parity": {
            p: [{**dataclasses.asdict(c), "agrees": c.agrees} for c in comparisons]
            for p, comparisons in bench.comparisons.items()
        },
        "figures": [figure.record() for figure in found],
    }


if __name__ == "__main__":
    sys.exit(main())
