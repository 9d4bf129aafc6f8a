"""What is measured of a trained model on the sealed test sets: one pass over each, then the evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from workloads.contract import Measure, TrainingDiverged, TrialConfig
from workloads.data.images import Pixels
from workloads.data.prepared import PreparedData
from workloads.evaluation.catalogue import SCORES
from workloads.evaluation.score_names import parse_score
from workloads.measurement.calibration import measure_calibration
from workloads.measurement.geometry import measure_geometry
from workloads.measurement.ood import measure_ood
from workloads.measurement.outputs import (
    RELIABILITY,
    SCORES_FILE,
    MeasuredSet,
    Outputs,
    write_arrays,
    write_outputs,
)
from workloads.measurement.part import Part
from workloads.measurement.perturbed import Perturbing
from workloads.measurement.robustness import measure_robustness
from workloads.measurement.subject import Subject
from workloads.training.storage import write_json


def measure(subject: Subject, data: PreparedData, config: TrialConfig, folder: Path) -> Part:
    """Ask the model of every set, keep what it says in ``folder``, and evaluate it as ``config`` asks.

    Returns: ``test/accuracy`` and the metrics of the evaluations; docs/metrics.md explains every name.
    Raises: TrainingDiverged where a logit of an ID image is not finite; an OOD set with such a logit is noted
        and left out.
    """
    wanted = config.evaluation
    outputs, part = ask(subject, data, with_train=_needs_train(config))
    tested = outputs["id_test"]
    part += Part({"test/accuracy": float((tested.Z.argmax(axis=1) == tested.labels).mean())})
    write_outputs(folder, outputs)

    def ood() -> Part:
        rejection = measure_ood(outputs, wanted.ood.scores, perturbing(subject, data, outputs))
        write_arrays(folder / SCORES_FILE, rejection.scores)
        return rejection.part

    def calibration() -> Part:
        calibrated, diagrams = measure_calibration(outputs, wanted.calibration.bins)
        write_json(folder / RELIABILITY, diagrams)
        return calibrated

    evaluations: dict[Measure, Callable[[], Part]] = {
        "ood": ood,
        "calibration": calibration,
        "geometry": lambda: measure_geometry(outputs),
        "robustness": lambda: measure_robustness(subject, outputs, data.test(), wanted.robustness),
    }
    for name, evaluate in evaluations.items():
        if name in wanted.measures:
            part += _tried(name, evaluate)
    return part


def _tried(name: str, evaluate: Callable[[], Part]) -> Part:
    """What an evaluation found, or a note of why it could not: the others go on."""
    try:
        return evaluate()
    except ValueError as reason:
        return Part(notes=(f"{name} could not be measured: {reason}",))


def ask(subject: Subject, data: PreparedData, *, with_train: bool) -> tuple[Outputs, Part]:
    """What the model says of every set, ID sets first; sets that it has no finite answer for are noted."""
    test, validation = data.test(), data.validation()
    sets = {
        "id_test": MeasuredSet("test", subject.evidence(test.images, np.array(test.labels))),
        "id_validation": MeasuredSet(
            "validation", subject.evidence(validation.images, np.array(validation.labels))
        ),
    }
    if with_train:
        train = data.train()
        sets["id_train"] = MeasuredSet("train", subject.evidence(train.images, np.array(train.labels)))
    for name, each in sets.items():
        if not np.isfinite(each.evidence.logits).all():
            raise TrainingDiverged(
                f"the logits of {name} must be finite; some are not, though the weights are"
            )
    notes, left_out = [], {}
    for name, (kind, images) in _unknown(data).items():
        said = subject.evidence(images)
        if np.isfinite(said.logits).all():
            sets[name] = MeasuredSet(kind, said)
        else:
            left_out[name] = kind
            share = 1 - float(np.isfinite(said.logits).all(axis=1).mean())
            notes.append(f"{name}: {share:.1%} of its logits rows are not finite; the set was left out")
    return Outputs(sets, subject.head(), subject.head_parameters(), left_out), Part(notes=tuple(notes))


def perturbing(
    subject: Subject, data: PreparedData, outputs: Outputs, added: Mapping[str, Pixels] = MappingProxyType({})
) -> Perturbing:
    """For the scores that ask the model again, of the test and OOD images, and of ``added`` ones."""
    unknown = {name: images for name, (_, images) in _unknown(data).items() if name in outputs.sets}
    asked = {"id_test": data.test().images, **unknown, **added}
    return Perturbing(subject, data.validation().images, data.noise(), asked)


def _unknown(data: PreparedData) -> dict[str, tuple[str, Pixels]]:
    """Noise and OOD sets: their kind and their images."""
    noise: dict[str, tuple[str, Pixels]] = {name: ("noise", images) for name, images in data.noise().items()}
    ood = {name: (str(data.facts.sets[name]["kind"]), images) for name, images in data.ood().items()}
    return {**noise, **ood}


def _needs_train(config: TrialConfig) -> bool:
    wanted = config.evaluation
    if "geometry" in wanted.measures:
        return True
    names = [parse_score(text).name for text in wanted.ood.scores] if "ood" in wanted.measures else []
    return any(SCORES[name].facts["needs"] == "train" for name in names)
