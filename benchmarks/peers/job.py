"""What a peer is asked to do, as plain values that travel on a command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

Point = tuple[float, float]
"""tau and learning rate."""


@dataclass(frozen=True)
class Setting:
    """How a peer uses the machine."""

    concurrent: int = 1
    """Trials side by side."""
    threads: int = 1
    """torch threads of each."""
    workers: int = 0
    """DataLoader processes of each."""

    def __str__(self) -> str:
        return f"{self.concurrent} x {self.threads} threads, {self.workers} loaders"


@dataclass(frozen=True)
class Recipe:
    """What every trial of a benchmark shares."""

    data: str
    """Folder of the arrays, see ``benchmarks.material``."""
    model: str
    epochs: int
    batch_size: int
    momentum: float
    weight_decay: float
    milestones: tuple[float, ...]
    """Epochs after which the learning rate is multiplied by ``gamma``."""
    gamma: float
    device: str = "cpu"


@dataclass(frozen=True)
class Job:
    """Trials for a peer."""

    recipe: Recipe
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    """One a point."""
    setting: Setting
    folder: str
    """Where results are written: ``trials.jsonl``, a line a trial."""
    confirm: bool = False
    """Measure on the test and far-OOD images in place of the validation and noise images."""

    def only(self, index: int) -> Job:
        """The job of one trial."""
        return dataclasses.replace(self, points=(self.points[index],), seeds=(self.seeds[index],))

    def dumps(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def loads(cls, text: str) -> Job:
        values = json.loads(text)
        values["recipe"]["milestones"] = tuple(values["recipe"]["milestones"])
        values["recipe"] = Recipe(**values["recipe"])
        values["setting"] = Setting(**values["setting"])
        values["points"] = tuple((tau, lr) for tau, lr in values["points"])
        values["seeds"] = tuple(values["seeds"])
        return cls(**values)


def write_result(job: Job, result: dict[str, float]) -> None:
    """Append the result of the job's only trial; lines this short are written whole."""
    (tau, lr), seed = job.points[0], job.seeds[0]
    with (Path(job.folder) / "trials.jsonl").open("a") as file:
        file.write(json.dumps({"tau": tau, "lr": lr, "seed": seed, **result}) + "\n")


def read_results(folder: Path) -> Sequence[dict[str, float]]:
    """Every trial's, in the order in which they ended."""
    path = folder / "trials.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
