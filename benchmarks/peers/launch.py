"""Runs a peer as its user would, and finds the setting that suits it best."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.job import Job, Setting, read_results
from benchmarks.study import timed

PEERS = {"script": "benchmarks.peers.script", "optuna": "benchmarks.peers.optuna_loop"} | {
    "tune": "benchmarks.peers.ray_tune"
}


@dataclass(frozen=True)
class PeerRun:
    wall: float
    """Seconds from the first command to the end of the last."""
    results: Sequence[Mapping[str, float]]
    """In the order of the job's seeds and points."""

    @property
    def trials(self) -> int:
        return len(self.results)


def run(peer: str, job: Job) -> PeerRun:
    """Run every trial of the job in a folder of its own.

    Raises: RuntimeError where a process failed or a trial is missing.
    """
    with tempfile.TemporaryDirectory(prefix=f"{peer}-") as name:
        folder = Path(name)
        job = dataclasses.replace(job, folder=name)
        words = [sys.executable, "-m", PEERS[peer]]
        script = peer == "script"
        wall = _scripts(words, job, folder) if script else timed([*words, job.dumps()], folder)
        found = {(r["seed"], r["tau"], r["lr"]): r for r in read_results(folder)}
    wanted = [(seed, *point) for seed, point in zip(job.seeds, job.points, strict=True)]
    if sorted(found) != sorted(wanted):
        raise RuntimeError(f"{peer} must finish {len(wanted)} trials; it finished {sorted(found)}")
    return PeerRun(wall, [found[each] for each in wanted])


def _scripts(words: Sequence[str], job: Job, folder: Path) -> float:
    """As many scripts side by side as the setting says, each a process of its own."""
    began = time.perf_counter()
    with ThreadPoolExecutor(job.setting.concurrent) as pool:
        list(pool.map(lambda k: timed([*words, job.only(k).dumps()], folder), range(len(job.points))))
    return time.perf_counter() - began


def candidates(cores: int) -> tuple[Setting, ...]:
    """A trial a core; one on all cores; the same with loader processes."""
    settings = (
        Setting(cores, 1, 0),
        Setting(1, cores, 0),
        Setting(1, cores, cores),
        Setting(cores, 1, 1),
        Setting(max(1, cores // 2), 1, 1),
    )
    return tuple(dict.fromkeys(settings))


def best(
    peer: str, job: Job, settings: Sequence[Setting], measure: Callable[[str, Job], PeerRun] = run
) -> tuple[Setting, dict[str, float]]:
    """The fastest setting, and the seconds a trial of each that was tried."""
    tried = {
        setting: measure(peer, dataclasses.replace(job, setting=setting)).wall / len(job.points)
        for setting in settings
    }
    chosen = min(tried, key=lambda setting: tried[setting])
    return chosen, {str(setting): seconds for setting, seconds in tried.items()}
