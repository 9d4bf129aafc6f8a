"""Every score against every OOD set: fitted on training images, tuned on validation, measured on the test."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from workloads.catalogue import Value, load
from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.evidence import Detector, DoesNotFit, Evidence, Floats
from workloads.evaluation.ood import noise_metrics, oscr, rejection_metrics
from workloads.evaluation.score_names import TUNED, ScoreName, parse_score
from workloads.evaluation.selective import selective_metrics
from workloads.measurement.outputs import Outputs
from workloads.measurement.part import Part

AVERAGED = ("fpr95_id_positive", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out", "oscr")
"""Metrics that have a mean over the near and over the far sets."""


@dataclass(frozen=True)
class Scored:
    """One score of every set that it was asked of."""

    scores: Mapping[str, Floats]
    tuned: Mapping[str, float] = field(default_factory=dict)
    """Parameters that were chosen on validation, by name."""


@dataclass(frozen=True)
class Rejection:
    """What the scores say, and the scores themselves."""

    part: Part
    scores: dict[str, Floats]
    """By ``<label>/<set>``."""


Perturbed = Callable[[ScoreName], Scored]
"""Scores that need the model; raises DoesNotFit."""


def measure_ood(outputs: Outputs, names: Sequence[str], perturbed: Perturbed | None = None) -> Rejection:
    """Scores ``names`` of the ID test images against every near, far and added OOD set.

    Args:
        perturbed: computes the scores that need the model; None: they are noted as left out.
    Returns: metrics ``ood/<set, near or far>/<label>/<metric>``, ``selective/<label>/<metric>`` and
        ``tuned/<label>/<parameter>``. A score that does not fit is noted and left out.
    """
    part, scores = Part(), {}
    for name in map(parse_score, names):
        try:
            scored = _scored(name, outputs, perturbed)
            part += _measured(name.label, scored, outputs)
        except ValueError as reason:
            # One score that cannot be computed is no reason to lose the others.
            part += Part(notes=(f"score {name.label}: {reason}",))
            continue
        scores.update({f"{name.label}/{member}": values for member, values in scored.scores.items()})
    return Rejection(part, scores)


def _scored(name: ScoreName, outputs: Outputs, perturbed: Perturbed | None) -> Scored:
    entry = SCORES[name.name]
    if entry.facts["needs"] == "model":
        if perturbed is None:
            raise DoesNotFit("needs the model, and its checkpoint is not there")
        return perturbed(name)
    train = next(iter(outputs.of_kind("train").values()), None)
    if entry.facts["needs"] == "train" and train is None:
        raise DoesNotFit("needs the outputs of the training images, which were not kept")
    tuned: dict[str, float] = {}
    params = name.resolved()
    if TUNED in params.values():
        tuned = _tuned(name, train, outputs)
        params.update(tuned)
    detector = _fitted(name, params, train, outputs)
    asked = {
        **{
            key: each.evidence
            for key, each in outputs.sets.items()
            if each.kind not in ("train", "validation")
        }
    }
    return Scored({key: detector(evidence) for key, evidence in asked.items()}, tuned)


def _fitted(
    name: ScoreName, params: Mapping[str, Value], train: Evidence | None, outputs: Outputs
) -> Detector:
    detector: Detector = load(SCORES[name.name].path)(**params)
    detector.fit(train, outputs.head)
    return detector


def _tuned(name: ScoreName, train: Evidence | None, outputs: Outputs) -> dict[str, float]:
    """The candidates that reject the noise sets best on validation images: lowest mean FPR95 (ID positive),
    then highest mean AUROC, then nearest to the default."""
    known, noise = outputs["id_validation"], outputs.of_kind("noise")
    parameters = SCORES[name.name].parameters
    names = [key for key, value in name.resolved().items() if value == TUNED]

    def merit(values: Iterable[float]) -> tuple[float, ...]:
        values = tuple(values)
        params = {**name.resolved(), **dict(zip(names, values, strict=True))}
        detector = _fitted(name, params, train, outputs)
        found = noise_metrics(detector(known), {key: detector(each) for key, each in noise.items()})
        away = sum(_distance(v, parameters[key].default) for key, v in zip(names, values, strict=True))
        return (found["noise/fpr95"], -found["noise/auroc"], away)

    candidates: Iterable[tuple[float, ...]] = itertools.product(*(parameters[key].tunable for key in names))
    return dict(zip(names, min(candidates, key=merit), strict=True))


def _distance(value: float, default: Any) -> float:
    """How far a candidate is from the default, in orders of magnitude."""
    if not isinstance(default, int | float) or default <= 0 or value <= 0:
        return 0.0
    return abs(math.log(value / default))


def _measured(label: str, scored: Scored, outputs: Outputs) -> Part:
    tested = outputs["id_test"]
    known = scored.scores["id_test"]
    correct = tested.Z.argmax(axis=1) == tested.labels
    metrics = {f"tuned/{label}/{key}": float(value) for key, value in scored.tuned.items()}
    metrics.update({f"selective/{label}/{k}": v for k, v in selective_metrics(known, correct).items()})
    for kind in ("near", "far", "added"):
        members = [key for key, each in outputs.sets.items() if each.kind == kind and key in scored.scores]
        for member in members:
            unknown = scored.scores[member]
            found = {**rejection_metrics(known, unknown), "oscr": oscr(known, correct, unknown)}
            metrics.update({f"ood/{member}/{label}/{metric}": value for metric, value in found.items()})
        # A mean over fewer sets than at the other seeds would be another metric.
        if members and kind != "added" and kind not in outputs.left_out.values():
            for metric in AVERAGED:
                values = [metrics[f"ood/{member}/{label}/{metric}"] for member in members]
                metrics[f"ood/{kind}/{label}/{metric}"] = float(np.mean(values))
    return Part(metrics)
