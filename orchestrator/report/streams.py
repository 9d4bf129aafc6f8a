"""Reads what continual trials saved: the accuracy on every task after every task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.comparison import confirm_trials
from orchestrator.study.spec import StudySpec
from workloads.sealed import read_sealed

Matrices = NDArray[np.float64]


@dataclass(frozen=True)
class SavedStreams:
    """An arm's accuracy matrices in one regime."""

    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    """Seeds whose file is not there or not readable."""
    R: Matrices
    """R[s, i, j]: accuracy on task j after task i at seed s, NaN where not measured, [seeds, steps, tasks];
    one step of a joint run."""

    @property
    def mean(self) -> Matrices:
        """Over the seeds, [steps, tasks]; NaN where any seed was not measured."""
        mean: Matrices = self.R.mean(axis=0)
        return mean

    @property
    def seen(self) -> Matrices:
        """Mean accuracy over the tasks learned so far, after each of them, [seeds, tasks]; no joint runs."""
        steps = range(self.R.shape[1])
        return np.stack([self.R[:, i, : i + 1].mean(axis=1) for i in steps], axis=1)


def saved_streams(
    spec: StudySpec, record: StudyRecord, study_dir: Path, arm: str, regime: str
) -> SavedStreams | tuple[int, ...]:
    """The arm's matrices; where no seed has any, the seeds that should have."""
    found, missing = [], []
    for seed, trial in confirm_trials(spec, record, arm, regime).items():
        if trial.state != "complete":
            continue
        path = study_dir / "trials" / trial.key / "outputs" / "stream.json"
        try:
            found.append((seed, _matrix(read_sealed(path)["accuracy"])))
        except (OSError, ValueError, KeyError, TypeError):
            missing.append(seed)
    # Seeds of one study share their number of tasks; a stray file with another is not averaged.
    same = [(seed, R) for seed, R in found if R.shape == found[0][1].shape]
    missing += [seed for seed, R in found if R.shape != found[0][1].shape]
    if not same:
        return tuple(missing)
    return SavedStreams(
        tuple(seed for seed, _ in same), tuple(sorted(missing)), np.stack([R for _, R in same])
    )


def _matrix(rows: Any) -> Matrices:
    """Raises: ValueError or TypeError for anything but accuracies, a row for each task or one row."""
    R = np.array([[np.nan if value is None else float(value) for value in row] for row in rows])
    if R.ndim != 2 or not R.size or len(R) not in (1, R.shape[1]):
        raise ValueError(f"accuracies must have shape [tasks, tasks] or [1, tasks]; got {list(R.shape)}")
    measured = R[~np.isnan(R)]
    if (measured < 0).any() or (measured > 1).any():
        raise ValueError("accuracies must be in 0..1")
    return R
