"""This tool's side of a benchmark: a study run by its command, and what its ledger says of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.material import Material
from benchmarks.peers.job import Point, Recipe
from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.execution.provenance import processors

FIRST_TAU, TAU_STEP = 0.1, 0.02
RATES = (0.05, 0.03, 0.1, 0.02)
SEED = 0
CONFIRM_SEED = 100


def axes(trials: int) -> tuple[Sequence[float], Sequence[float]]:
    """taus and learning rates of a grid of so many points."""
    rates = next(n for n in (4, 2, 1) if trials % n == 0)
    return [round(FIRST_TAU + TAU_STEP * k, 2) for k in range(trials // rates)], RATES[:rates]


def points(trials: int) -> tuple[Point, ...]:
    taus, rates = axes(trials)
    return tuple((tau, lr) for tau in taus for lr in rates)


@dataclass(frozen=True)
class Order:
    """What a study is to do; a search of LogitNorm's grid, then the confirm trials."""

    recipe: Recipe
    trials: int
    precision: str = "float32"
    confirm_seeds: tuple[int, ...] = (CONFIRM_SEED,)
    concurrent: int | None = None
    resources: Mapping[str, Any] | None = None
    compile: str = "auto"

    def document(self, name: str, material: Material) -> dict[str, Any]:
        """The study's file; JSON is YAML."""
        recipe, data = self.recipe, material.data
        taus, rates = axes(self.trials)
        return {
            "study": name,
            "data": {
                "source": data.source,
                "validation_fraction": data.validation_fraction,
                "far_ood": list(data.far_ood),
            },
            "model": recipe.model,
            "training": {
                "epochs": recipe.epochs,
                "batch_size": recipe.batch_size,
                "momentum": recipe.momentum,
                "weight_decay": recipe.weight_decay,
                "schedule": "step",
                "milestones": [epoch / recipe.epochs for epoch in recipe.milestones],
                "gamma": recipe.gamma,
                "augmentation": "crop_flip",
                "precision": self.precision,
                "compile": self.compile,
            },
            "noise": {"size": material.noise.size},
            "arms": {"logitnorm": {"tau": {"grid": list(taus)}, "lr": {"grid": list(rates)}}},
            "search": {"sampler": "grid", "trials": self.trials, "seeds": [SEED], "pruner": "none"}
            | {"parallel": max(2, self.concurrent or processors())},
            "confirm": {"seeds": list(self.confirm_seeds)},
            "resources": dict(self.resources or {}),
            "execution": {"max_concurrent": self.concurrent},
            "report": {"primary": ["ood/far/fpr95"]},
        }


@dataclass(frozen=True)
class Run:
    """A study that has run."""

    wall: float
    """Seconds from the command to its end."""
    record: StudyRecord

    @property
    def searches(self) -> list[TrialRecord]:
        """In the order in which they ended."""
        return sorted((t for t in self.record.trials.values() if t.stage == "search"), key=ended)

    @property
    def confirms(self) -> list[TrialRecord]:
        return sorted((t for t in self.record.trials.values() if t.stage == "confirm"), key=lambda t: t.seed)

    @property
    def trials(self) -> int:
        return len(self.record.trials)

    def idle(self, workers: int) -> float:
        """Wall time that no training explains: the search spread over the workers, one confirm after it."""
        busy = sum(t.seconds for t in self.searches) / workers
        return self.wall - busy - sum(t.seconds for t in self.confirms)


def ended(trial: TrialRecord) -> float:
    assert trial.ended is not None
    return trial.ended


def command(path: Path, material: Material, out: Path) -> list[str | Path]:
    """The user's command, on data that are prepared already (as on every run but a machine's first)."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "data").symlink_to(material.prepared.resolve(), target_is_directory=True)
    return ["study", path, "--out", out, "--data", material.sources, "--plain"]


def write(order: Order, material: Material, folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / "study.yaml"
    path.write_text(json.dumps(order.document("benchmark", material)))
    return path


def run(order: Order, material: Material, folder: Path) -> Run:
    """Run the study in ``folder``, which must not be there yet.

    Raises: RuntimeError where it failed, or a trial did.
    """
    path = write(order, material, folder)
    orchestrate = Path(sys.executable).with_name("orchestrate")
    wall = timed([orchestrate, *command(path, material, folder / "out")], folder)
    return Run(wall, read(folder))


def read(folder: Path) -> StudyRecord:
    record = StudyRecord.fold(read_events(folder / "out" / "benchmark" / "ledger.jsonl"))
    unfinished = [t.reason for t in record.trials.values() if t.state != "complete"]
    if unfinished:
        raise RuntimeError(f"every trial must be complete; got {unfinished}")
    return record


def timed(words: Sequence[str | Path], folder: Path) -> float:
    """Seconds of a command from its start to its end, its output in ``folder/output.txt``.

    Raises: RuntimeError where it fails, with the end of its output.
    """
    with (folder / "output.txt").open("ab") as output:
        began = time.perf_counter()
        done = subprocess.run(words, stdout=output, stderr=output, env=environment(), check=False)
        seconds = time.perf_counter() - began
    if done.returncode != 0:
        said = (folder / "output.txt").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{' '.join(map(str, words))[:200]} ended with {done.returncode}:\n{said}")
    return seconds


def environment() -> dict[str, str]:
    """Every side sets its threads itself; Ray's workers find this package.

    They also run at the priority of everybody else: at Ray's own (nice 15) whatever else the machine does
    would stop this tool and plain Ray Tune, and not the scripts that they are compared with.
    """
    left_out = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAY_ADDRESS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    own = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "RAY_worker_niceness": "0"}
    return kept | own
