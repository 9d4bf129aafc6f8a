"""More scores, or more OOD sets, for a trial that is finished: from its saved outputs, without training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from workloads.contract import AddedSet, TrialConfig
from workloads.data.images import Pixels
from workloads.data.prepared import PreparedData
from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.score_names import parse_score
from workloads.measurement.calibration import measure_calibration
from workloads.measurement.geometry import measure_geometry
from workloads.measurement.measure import perturbing
from workloads.measurement.ood import measure_ood
from workloads.measurement.outputs import (
    INDEX,
    OUTPUTS,
    SCORES_FILE,
    MeasuredSet,
    Outputs,
    add_set,
    read_outputs,
    read_scores,
    write_arrays,
)
from workloads.measurement.part import Part
from workloads.measurement.perturbed import Perturbing
from workloads.protocols.folder import changing
from workloads.protocols.trial import Trial
from workloads.protocols.trials import open_trial
from workloads.training.numerics import reproducible


@dataclass(frozen=True)
class _Place:
    config: TrialConfig
    folder: Path
    data_root: Path
    device: torch.device


def rescore_trial(
    config: TrialConfig,
    scores: Sequence[str],
    added: Mapping[str, AddedSet],
    *,
    folder: Path,
    data_root: Path,
    device: str,
    threads: int,
) -> Part:
    """See :func:`workloads.run.rescore`."""
    if config.protocol == "continual":
        raise ValueError("a continual trial keeps no outputs to score: it is measured after every task")
    place = _Place(config, folder, data_root, torch.device(device))
    outputs = read_outputs(folder / OUTPUTS)
    with reproducible(place.device, threads, tf32=config.training.precision == "tf32"):
        return _rescored(place, outputs, tuple(scores), added)


def _rescored(
    place: _Place, outputs: Outputs, scores: tuple[str, ...], added: Mapping[str, AddedSet]
) -> Part:
    config = place.config
    needs = {SCORES[parse_score(text).name].facts["needs"] for text in scores}
    no_train = not outputs.of_kind("train")
    asks_model = "model" in needs or bool(added) or ("train" in needs and no_train)
    trial = _reopened(place) if asks_model else None
    fresh: dict[str, MeasuredSet] = {}
    images: dict[str, Pixels] = {}
    if trial is not None:
        subject = trial.subject()
        if "train" in needs and no_train:
            train = trial.data.train()
            fresh["id_train"] = MeasuredSet("train", subject.evidence(train.images, np.array(train.labels)))
        for name, each in added.items():
            images[name] = _images(each, config, place.data_root)
            fresh[name] = MeasuredSet("added", subject.evidence(images[name]))
            if not np.isfinite(fresh[name].evidence.logits).all():
                raise ValueError(f"{name}: the logits must be finite; some are not")
        outputs = replace(outputs, sets={**outputs.sets, **fresh})
    rejection = measure_ood(outputs, scores, _perturbed(trial, outputs, images))
    part = rejection.part
    with changing(place.folder, (INDEX, SCORES_FILE, *(f"{name}.npz" for name in fresh))):
        for name, measured in fresh.items():
            add_set(place.folder / OUTPUTS, name, measured)
        kept = {**read_scores(place.folder / OUTPUTS), **rejection.scores}
        write_arrays(place.folder / OUTPUTS / SCORES_FILE, kept)
    if added and "calibration" in config.evaluation.measures:
        part += measure_calibration(outputs, config.evaluation.calibration.bins)[0]
    if added and "geometry" in config.evaluation.measures:
        part += measure_geometry(outputs)
    return part


def _reopened(place: _Place) -> Trial:
    """The trial at its end, from its checkpoint."""
    trial = open_trial(place.config, place.folder, place.data_root, place.device)
    trial.resume()
    if not trial.finished:
        wanted = sum(trial.training(stage).epochs for stage in range(trial.stages))
        raise ValueError(
            f"{place.folder}: the checkpoint of the finished trial must be there; got "
            f"{'none' if trial.epoch == 0 else f'one of epoch {trial.epoch} of {wanted}'}"
        )
    return trial


def _images(added: AddedSet, config: TrialConfig, data_root: Path) -> Pixels:
    data = PreparedData.open(
        added.data, config.noise, data_root, stage=config.stage, data_hash=added.data_hash
    )
    return data.ood()[added.name]


def _perturbed(trial: Trial | None, outputs: Outputs, images: Mapping[str, Pixels]) -> Perturbing | None:
    if trial is None:
        return None
    return perturbing(trial.subject(), trial.data, outputs, images)
