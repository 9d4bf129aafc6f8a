"""How many trials a machine takes side by side, and what share of a GPU each of them gets.

Decides only: plain numbers in, plain numbers out. ``resources.gpu: auto`` gives the first trial of every kind
a whole GPU, and the others what the first was seen to need.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from orchestrator.campaign.record import TrialRecord
from orchestrator.study.spec import ResourcesSpec

SMALLEST = 1 / 16
"""Of a GPU: more than sixteen processes on one gain nothing, as its work is then done in turns."""
_USABLE = 0.9
"""Of a GPU's memory: what is left covers fragments, and libraries that load code as they need it."""
_GRAIN = 10_000
"""Ray counts resources in ten-thousandths; a share that it rounds up would leave no room for the last."""

Machine = tuple[float, float]
"""CPUs and GPUs of a node."""
Kind = tuple[str, str, str]
"""Arm, stage and protocol: trials of one kind need about the same memory."""


def slots(machines: Iterable[Machine], resources: ResourcesSpec, most: int | None) -> int:
    """Trials that fit side by side, each of them on one node; with ``gpu: auto`` at least so many.

    Args:
        most: ``execution.max_concurrent``.
    Returns: 0 where not one fits.
    """
    fitting = sum(_on_node(cpus, gpus, resources) for cpus, gpus in machines)
    return fitting if most is None else min(fitting, most)


def has_room(
    running: Iterable[float], machines: Sequence[Machine], resources: ResourcesSpec, most: int | None
) -> bool:
    """Whether one more trial should be asked for, while trials with these GPU shares are in flight.

    With ``gpu: auto`` the next one's share is not known before it is asked for. It is asked for as long as
    the GPUs are not full: at most one trial waits, and smaller ones do not take what it waits for.
    """
    shares = list(running)
    # Shares may have been rounded down by a grain each.
    free = sum(gpus for _, gpus in machines) - sum(shares) - len(shares) / _GRAIN
    if resources.gpu != "auto":
        enough = not resources.on_gpu or free >= resources.most_gpu - (len(shares) + 1) / _GRAIN
        return enough and len(shares) < slots(machines, resources, most)
    fitting = sum(_times(cpus, resources.cpu) for cpus, _ in machines)
    return free > 0 and len(shares) < (fitting if most is None else min(fitting, most))


def share_of(need: int, total: int) -> float:
    """The share of a GPU for trials that need so much of its memory.

    Args:
        need: bytes, the process's own context among them.
        total: bytes of the GPU.
    Returns: 1/n, so that n of them fill a GPU.
    """
    count = math.floor(total * _USABLE / need) if need > 0 else math.inf
    return _rounded(1 / max(1.0, min(count, 1 / SMALLEST)))


class Packing:
    """The share of a GPU for each trial of a study, from what finished trials were seen to need."""

    def __init__(self, resources: ResourcesSpec, trials: Iterable[TrialRecord] = ()) -> None:
        self._resources = resources
        self._seen: dict[Kind, tuple[int, int]] = {}
        for trial in trials:
            self.learn(trial)

    def learn(self, trial: TrialRecord) -> None:
        """Take in what a finished trial needed: the most counts, on the smallest GPU."""
        if trial.memory and trial.device_memory:
            need, total = self._seen.get(_kind(trial), (0, trial.device_memory))
            self._seen[_kind(trial)] = max(need, trial.memory), min(total, trial.device_memory)

    def gpus(self, trial: TrialRecord) -> float:
        """GPUs for the next attempt at a trial: twice as much for each time that it ran out of memory on a
        part of one, a whole one at most."""
        if not self._resources.on_gpu:
            return 0.0
        if self._resources.gpu == "auto":
            seen = self._seen.get(_kind(trial))
            share = share_of(*seen) if seen else 1.0
        else:
            share = self._resources.most_gpu
        if share >= 1:
            return share
        return _rounded(min(1.0, share * 2 ** count_out_of_memory(trial)))


def count_out_of_memory(trial: TrialRecord) -> int:
    """Attempts at a trial that ran out of memory."""
    return sum(failure.startswith("out_of_memory:") for failure in trial.failures)


def _kind(trial: TrialRecord) -> Kind:
    return trial.arm, trial.stage, trial.protocol


def _on_node(cpus: float, gpus: float, resources: ResourcesSpec) -> int:
    fitting = _times(cpus, resources.cpu)
    return min(fitting, _on_gpus(gpus, resources.most_gpu)) if resources.on_gpu else fitting


def _on_gpus(gpus: float, share: float) -> int:
    """A trial's part of a GPU lies on one GPU: 0.4 fits twice on each."""
    if share < 1:
        return math.floor(gpus) * _times(1.0, share)
    return _times(gpus, share)


def _times(have: float, want: float) -> int:
    return math.floor(have / want + 1e-9)


def _rounded(share: float) -> float:
    return math.floor(share * _GRAIN + 1e-9) / _GRAIN
