"""Accuracy under attack and under common corruptions, and the detection accuracy rate over all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch

from workloads.contract import RobustnessConfig
from workloads.data.images import Images, Pixels
from workloads.evaluation.attacks import SUSPECT, AttackReport, robust_accuracy
from workloads.evaluation.autoattack import autoattack
from workloads.evaluation.corruptions import applicable, corrupt
from workloads.evaluation.rejection_accuracy import dar
from workloads.evaluation.scores import score
from workloads.measurement.outputs import Outputs
from workloads.measurement.part import Part
from workloads.measurement.subject import Subject

SEED = 0
"""Of the images chosen, of the attacks' random starts and of the corruptions: the same for every trial, so
that arms and seeds meet the same images."""
_SCORE = "mls"
"""Of the detection accuracy rate."""

_Judged = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]


def measure_robustness(subject: Subject, outputs: Outputs, test: Images, config: RobustnessConfig) -> Part:
    """Robustness on ``config.images`` of the test images, the same for every trial of a study.

    Returns: ``robustness/<attack>/<objective>/eps_<1/255>``, the minimum image by image
        ``robustness/worst/eps_<1/255>``, ``robustness/corruption/<name>`` (mean over the severities),
        ``robustness/corruption/severity_<s>`` and ``robustness/corruption/mean``, and the detection accuracy
        rate ``robustness/dar_star/<kind of image>``.
    """
    order = np.random.default_rng(SEED).permutation(len(test.labels))[: config.images]
    order.sort()
    images, labels = np.array(test.images[order]), np.array(test.labels[order])
    part, judged = _corrupted(subject, images, labels, config)
    objectives = _objectives(outputs, config)
    if set(config.attacks) - {"autoattack"} and objectives:
        attacked = _attacked(subject, images, labels, config, objectives)
        part += _of_attacks(attacked)
        hardest = max(config.epsilons)
        logits = attacked.adversarial_logits[hardest]
        judged["adversarial"] = (score(_SCORE, logits), logits.argmax(axis=1) == labels)
    if "autoattack" in config.attacks:
        part += _auto_attacked(subject, images, labels, config)
    return part + _detection(outputs, judged)


def _objectives(outputs: Outputs, config: RobustnessConfig) -> tuple[str, ...]:
    """Those that so many classes allow."""
    few = outputs["id_test"].Z.shape[1] < 3
    return tuple(name for name in config.objectives if not (few and name == "dlr"))


def _attacked(
    subject: Subject,
    images: Pixels,
    labels: npt.NDArray[np.int64],
    config: RobustnessConfig,
    objectives: tuple[str, ...],
) -> AttackReport:
    with subject.still():
        return robust_accuracy(
            subject.logits,
            subject.tensor(images),
            torch.from_numpy(labels).to(subject.device),
            epsilons=config.epsilons,
            attacks=[name for name in config.attacks if name != "autoattack"],
            objectives=objectives,
            steps=config.steps,
            seed=SEED,
        )


def _of_attacks(report: AttackReport) -> Part:
    metrics = {"robustness/clean": report.clean}
    for (attack, objective, epsilon), accuracy in report.accuracy.items():
        metrics[f"robustness/{attack}/{objective}/eps_{epsilon:g}"] = accuracy
    for epsilon, accuracy in report.worst.items():
        metrics[f"robustness/worst/eps_{epsilon:g}"] = accuracy
    notes = [
        f"robustness: {share:.1%} of the correctly classified images have no gradient under the objective "
        f"{objective}: accuracy under it alone flatters; the minimum over the objectives is what counts"
        for objective, share in report.flat.items()
        if share > SUSPECT
    ]
    return Part(metrics, tuple(notes))


def _auto_attacked(
    subject: Subject, images: Pixels, labels: npt.NDArray[np.int64], config: RobustnessConfig
) -> Part:
    metrics = {}
    pixels, known = subject.tensor(images), torch.from_numpy(labels).to(subject.device)
    try:
        with subject.still():
            for epsilon in config.epsilons:
                found = autoattack(subject.logits, pixels, known, epsilon=epsilon, seed=SEED)
                metrics[f"robustness/autoattack/eps_{epsilon:g}"] = found
    except (ModuleNotFoundError, ValueError) as reason:
        return Part(metrics, (f"robustness: {reason}",))
    return Part(metrics)


def _corrupted(
    subject: Subject, images: Pixels, labels: npt.NDArray[np.int64], config: RobustnessConfig
) -> tuple[Part, dict[str, _Judged]]:
    fit = applicable(images.shape[1])
    wanted = fit if config.corruptions is None else config.corruptions
    named = [name for name in wanted if name in fit]
    left_out = [name for name in wanted if name not in fit]
    notes = [f"robustness: the corruption {name} needs colour images; left out" for name in left_out]
    accuracy: dict[tuple[str, int], float] = {}
    scores, hits = [], []
    for name in named:
        for severity in config.severities:
            said = subject.evidence(corrupt(name, severity, images, SEED))
            right = said.logits.argmax(axis=1) == labels
            accuracy[name, severity] = float(right.mean())
            scores.append(score(_SCORE, said.logits))
            hits.append(right)
    if not accuracy:
        return Part(notes=tuple(notes)), {}
    metrics = {
        f"robustness/corruption/{name}": _mean(accuracy[name, s] for s in config.severities) for name in named
    }
    for severity in config.severities:
        metrics[f"robustness/corruption/severity_{severity}"] = _mean(accuracy[n, severity] for n in named)
    metrics["robustness/corruption/mean"] = _mean(accuracy.values())
    return Part(metrics, tuple(notes)), {"corrupt": (np.concatenate(scores), np.concatenate(hits))}


def _detection(outputs: Outputs, judged: Mapping[str, _Judged]) -> Part:
    """The detection accuracy rate, as reconstructed."""
    tested = outputs["id_test"]
    correct = tested.Z.argmax(axis=1) == tested.labels
    others = dict(judged)
    for name, kinds in (("novel", ("near", "far")), ("unrecognisable", ("noise",))):
        members = outputs.of_kind(*kinds).values()
        if members:
            others[name] = (np.concatenate([score(_SCORE, each.Z) for each in members]), None)
    found = dar(score(_SCORE, tested.Z), correct, others)
    return Part({f"robustness/dar_star/{name}": value for name, value in found.items()})


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
