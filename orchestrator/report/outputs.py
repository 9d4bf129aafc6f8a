"""Reads what confirm trials saved beside their checkpoints: scores and reliability bins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.comparison import confirm_trials
from orchestrator.study.sets import far_sets, near_sets
from orchestrator.study.spec import StudySpec
from workloads.arrays import read_arrays
from workloads.sealed import read_sealed

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class PooledScores:
    """An arm's headline scores over its complete confirm trials."""

    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    """Seeds whose file is not there or not readable."""
    id_test: Scores
    near: Scores
    far: Scores
    by_set: Mapping[str, tuple[Scores, ...]]
    """The scores of each seed, by set: ``id_test``, then the near and the far ones."""


@dataclass(frozen=True)
class ReliabilityCurve:
    """Bins pooled over seeds, weighted by their counts; empty bins are left out."""

    confidence: Scores
    accuracy: Scores
    count: Scores


@dataclass(frozen=True)
class PooledReliability:
    seeds: tuple[int, ...]
    missing: tuple[int, ...]
    before: ReliabilityCurve
    after: ReliabilityCurve


def pooled_scores(
    spec: StudySpec, record: StudyRecord, study_dir: Path, arm: str
) -> PooledScores | tuple[int, ...]:
    """The arm's scores; where no seed has any, the seeds that should have."""
    found, missing = [], []
    headline = spec.evaluation.headline
    for seed, folder in _folders(spec, record, study_dir, arm).items():
        try:
            saved = read_arrays(folder / "scores.npz")
            names = ("id_test", *near_sets(spec.data), *far_sets(spec.data))
            arrays = {name: np.asarray(saved[f"{headline}/{name}"], dtype=np.float64) for name in names}
        except (ValueError, KeyError):
            missing.append(seed)
            continue
        found.append((seed, arrays))
    if not found:
        return tuple(missing)
    return PooledScores(
        tuple(seed for seed, _ in found),
        tuple(missing),
        _joined(found, ("id_test",)),
        _joined(found, near_sets(spec.data)),
        _joined(found, far_sets(spec.data)),
        {
            name: tuple(values[name][np.isfinite(values[name])] for _, values in found)
            for name in ("id_test", *near_sets(spec.data), *far_sets(spec.data))
        },
    )


def pooled_reliability(
    spec: StudySpec, record: StudyRecord, study_dir: Path, arm: str
) -> PooledReliability | tuple[int, ...]:
    """The arm's reliability bins; where no seed has any, the seeds that should have."""
    found, missing = [], []
    for seed, folder in _folders(spec, record, study_dir, arm).items():
        try:
            saved = read_sealed(folder / "reliability.json")
            bins = (_bins(saved["before"]), _bins(saved["after"]))
        except (OSError, ValueError, KeyError, TypeError):
            missing.append(seed)
            continue
        found.append((seed, *bins))
    # Seeds of one study share their number of bins; a stray file with another is not pooled.
    same = [entry for entry in found if entry[1].shape == found[0][1].shape == entry[2].shape]
    if not same:
        return tuple(missing)
    return PooledReliability(
        tuple(seed for seed, _, _ in same),
        tuple(missing),
        _pooled(np.stack([before for _, before, _ in same])),
        _pooled(np.stack([after for _, _, after in same])),
    )


def _folders(spec: StudySpec, record: StudyRecord, study_dir: Path, arm: str) -> dict[int, Path]:
    return {
        seed: study_dir / "trials" / trial.key / "outputs"
        for seed, trial in confirm_trials(spec, record, arm).items()
        if trial.state == "complete"
    }


def _joined(found: list[tuple[int, dict[str, Scores]]], names: tuple[str, ...]) -> Scores:
    arrays = [values[name] for _, values in found for name in names]
    joined = np.concatenate(arrays) if arrays else np.empty(0)
    return joined[np.isfinite(joined)]


def _bins(saved: Mapping[str, Any]) -> Scores:
    return np.asarray([saved["confidence"], saved["accuracy"], saved["count"]], dtype=np.float64)


def _pooled(bins: Scores) -> ReliabilityCurve:
    """``bins``: [seeds, (confidence, accuracy, count), bins]."""
    count = bins[:, 2].sum(axis=0)
    filled = count > 0
    # An empty bin of one seed may hold NaN: its weight is zero, but zero times NaN is not.
    weighted = np.where(bins[:, 2:] > 0, bins[:, :2] * bins[:, 2:], 0.0).sum(axis=0)[:, filled]
    confidence, accuracy = weighted / count[filled]
    return ReliabilityCurve(confidence, accuracy, count[filled])
