"""The figures of ``benchmarks.throughput``, each from rounds in which its sides took turns."""

from __future__ import annotations

import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import parity, study
from benchmarks.material import Material
from benchmarks.memory import Watch
from benchmarks.peers import launch
from benchmarks.peers.job import Job, Recipe, Setting
from benchmarks.peers.launch import PeerRun
from benchmarks.rounds import Figure, interleave
from benchmarks.study import Order, Run
from orchestrator.execution.provenance import processors

PRECISIONS = ("float32", "bf16")
PARITY_POINT = (0.1, 0.05)


@dataclass
class Bench:
    """What all figures are taken with."""

    folder: Path
    material: Material
    recipe: Recipe
    settings: Mapping[str, Setting]
    rounds: int
    trials: int
    few: int
    seeds: tuple[int, ...]
    comparisons: dict[str, tuple[parity.Comparison, ...]] = field(default_factory=dict)
    """By precision."""
    _count: int = 0

    def ours(self, trials: int, precision: str = "float32", **changes: object) -> Run:
        order = dataclasses.replace(Order(self.recipe, trials, precision), **changes)  # type: ignore[arg-type]
        self._count += 1
        return study.run(order, self.material, self.folder / f"study-{self._count}")

    def side(self, trials: int, precision: str = "float32", **changes: object) -> Callable[[], Run]:
        """One side of a round."""
        return lambda: self.ours(trials, precision, **changes)

    def peer(self, name: str, trials: int) -> PeerRun:
        points = study.points(trials)
        return launch.run(name, Job(self.recipe, points, (study.SEED,) * trials, self.settings[name], ""))

    def counts(self, precision: str) -> bool | None:
        """Whether a ratio at this precision counts; None where parity was not measured."""
        found = self.comparisons.get(precision)
        return None if found is None else all(comparison.agrees for comparison in found)


def measure_parity(bench: Bench) -> None:
    """The script's metrics and ours on test and far-OOD images, over the same seeds from the same weights."""
    points = (PARITY_POINT,) * len(bench.seeds)
    job = Job(bench.recipe, points, bench.seeds, bench.settings["script"], "", confirm=True)
    theirs = launch.run("script", job).results
    for precision in PRECISIONS:
        run = bench.ours(1, precision, confirm_seeds=bench.seeds)
        names = {
            "accuracy": "test/accuracy",
            "auroc": "ood/far/msp/auroc",
            "fpr95": "ood/far/msp/fpr95_id_positive",
        }
        own = [{short: t.metrics[name] for short, name in names.items()} for t in run.confirms]
        bench.comparisons[precision] = parity.compare(own, theirs)


def many(bench: Bench) -> list[Figure]:
    """M1: trials an hour against plain Ray Tune."""
    rounds = interleave(
        {
            "tune": lambda: bench.peer("tune", bench.trials),
            **{p: bench.side(bench.trials, p) for p in PRECISIONS},
        },
        bench.rounds,
    )
    wanted = {"float32": ">= 2", "bf16": ">= 3"}
    return [
        *(_ratio(bench, "M1", "tune", p, rounds, wanted[p]) for p in PRECISIONS),
        *(_alone("tune", p, rounds) for p in PRECISIONS),
        Figure("", f"{bench.trials} trials, plain Ray Tune", "s", [r["tune"].wall for r in rounds]),
        *(
            Figure("", f"{bench.trials} trials and 1 confirm, a study, {p}", "s", [r[p].wall for r in rounds])
            for p in PRECISIONS
        ),
    ]


def few(bench: Bench) -> list[Figure]:
    """M2: against a script a trial, and against an Optuna loop; M8: all workers against one."""
    rounds = interleave(
        {
            "script": lambda: bench.peer("script", bench.few),
            "optuna": lambda: bench.peer("optuna", bench.few),
            **{p: bench.side(bench.few, p) for p in PRECISIONS},
            **{f"{p} alone": bench.side(bench.few, p, concurrent=1) for p in PRECISIONS},
        },
        bench.rounds,
    )
    workers = processors()
    scaling = {"float32": ">= 1.85 on 2 cores", "bf16": ">= 1.6 on 2 cores"}
    return [
        *(
            _ratio(
                bench, "M2" if peer == "script" else "", peer, p, rounds, ">= 5" if peer == "script" else ""
            )
            for peer in ("script", "optuna")
            for p in PRECISIONS
        ),
        *(_alone("script", p, rounds) for p in PRECISIONS),
        *(
            Figure(
                "M8",
                f"trials an hour, {workers} workers / 1, {p}",
                "x",
                [steady_rate(r[p], workers) / steady_rate(r[f"{p} alone"], 1) for r in rounds],
                scaling[p],
            )
            for p in PRECISIONS
        ),
    ]


def steady_rate(run: Run, workers: int) -> float:
    """Search trials a second once every worker is up: from the end of the first ``workers`` trials on."""
    ends = [study.ended(trial) for trial in run.searches]
    return (len(ends) - workers) / (ends[-1] - ends[workers - 1])


def orchestration(bench: Bench, brief: Material) -> list[Figure]:
    """M4, M5 and M7, with trials so short that little else is left to measure."""
    short = dataclasses.replace(
        bench, material=brief, recipe=dataclasses.replace(bench.recipe, epochs=2, data=str(brief.arrays))
    )
    short._count = 10**6
    counts = (bench.few, bench.trials, 2 * bench.trials)
    rounds = interleave({str(n): short.side(n) for n in counts}, bench.rounds)
    workers = processors()
    idle = [[r[str(n)].idle(workers) for n in counts[:2]] for r in rounds]
    marginal = [(after - before) / (counts[1] - counts[0]) for before, after in idle]
    fixed = [before - m * counts[0] for (before, _), m in zip(idle, marginal, strict=True)]
    halves = [_halves(r[str(counts[2])], bench.trials, workers) for r in rounds]
    return [
        Figure("M4", "orchestration a trial, marginal", "ms", [1e3 * m for m in marginal], "<= 50"),
        Figure("M5", "fixed start and stop of a study", "s", fixed, "<= 8"),
        Figure(
            "M7",
            f"cost of trials {bench.trials + 1} to {2 * bench.trials} / those before",
            "x",
            halves,
            "<= 1.05",
        ),
    ]


def _halves(run: Run, half: int, workers: int) -> float:
    """Seconds a trial in the second half over the first; the first counts from the first finished trials."""
    ends = [study.ended(trial) for trial in run.searches]
    first = (ends[half - 1] - ends[workers - 1]) / (half - workers)
    return (ends[-1] - ends[half - 1]) / half / first


def logging(bench: Bench) -> list[Figure]:
    """M10: what ledger and MLflow take of a study's time."""
    values, opening = [], []
    for number in range(bench.rounds):
        folder = bench.folder / f"logged-{number}"
        path = study.write(Order(bench.recipe, bench.trials, "bf16"), bench.material, folder)
        words = study.command(path, bench.material, folder / "out")
        spent_file = folder / "spent.json"
        study.timed([sys.executable, "-m", "benchmarks.logged", spent_file, *words], folder)
        spent = json.loads(spent_file.read_text())
        total = sum(spent[part] for part in ("ledger", "queue", "end", "mlflow"))
        values.append(100 * total / spent["wall"])
        opening.append(spent["opening"])
    return [
        Figure("M10", "records (ledger, MLflow) of a study's wall time, bf16", "%", values, "<= 1"),
        Figure("", "import of MLflow and its store, beside Ray's start", "s", opening),
    ]


def help_time(rounds: int) -> list[Figure]:
    """M12."""
    orchestrate = Path(sys.executable).with_name("orchestrate")
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([orchestrate, "--help"], stdout=subprocess.DEVNULL, check=True)
        seconds.append(time.perf_counter() - began)
    return [Figure("M12", "orchestrate --help", "s", seconds, "<= 0.15")]


def memory(bench: Bench, trials: int) -> list[Figure]:
    """Peak memory of trials side by side."""
    resources = {"cpu": processors() / trials}
    # Memory does not grow after the first epoch.
    once = dataclasses.replace(bench.recipe, epochs=1, milestones=(0.5,))
    with Watch(trials) as watch:
        bench.ours(trials, concurrent=trials, resources=resources, recipe=once)
    peak = watch.peak()
    facts = {name: value / 2**20 for name, value in dataclasses.asdict(peak).items() if name != "workers"}
    what = f"{trials} trials on {bench.material.facts.num_train} images beyond import torch"
    return [
        Figure("memory", what, "GiB", [peak.beyond / 2**30], "< 1.2 on CIFAR-10", facts=facts),
        Figure("", "the same, shared pages once", "GiB", [peak.proportional_beyond / 2**30]),
    ]


def _ratio(
    bench: Bench, goal: str, peer: str, precision: str, rounds: Sequence[Mapping[str, object]], wanted: str
) -> Figure:
    """Trainings an hour, ours over the peer's; a study's confirm trial is one of them."""
    values = []
    for each in rounds:
        own, other = each[precision], each[peer]
        assert isinstance(own, Run)
        assert isinstance(other, PeerRun)
        values.append((own.trials / own.wall) / (other.trials / other.wall))
    names = {"tune": "plain Ray Tune", "script": "a script a trial", "optuna": "a plain Optuna loop"}
    what = f"trials an hour / {names[peer]}, {precision}"
    facts = {"load": [each["load"] for each in rounds], "setting": str(bench.settings[peer])}
    return Figure(goal, what, "x", values, wanted, bench.counts(precision), facts)


def _alone(peer: str, precision: str, rounds: Sequence[Mapping[str, object]]) -> Figure:
    """What the ratio tends to where trials are long: neither side's start and stop are in it."""
    values = []
    for each in rounds:
        own, other = each[precision], each[peer]
        assert isinstance(own, Run)
        assert isinstance(other, PeerRun)
        mine = statistics.mean(trial.seconds for trial in own.searches)
        values.append(statistics.mean(result["seconds"] for result in other.results) / mine)
    return Figure("", f"seconds of a trial by itself, {peer} / ours, {precision}", "x", values)
