"""The tables of what else was measured of the confirmed models: calibration, geometry, robustness."""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.cells import Cell, Column, Table
from orchestrator.report.comparison import ordered_arms
from orchestrator.report.measured import arms_table, values
from orchestrator.report.metrics import sides
from orchestrator.study.spec import StudySpec
from workloads.evaluation.geometry import etf_angle

ANGLES = ("wc_intra", "w_inter", "c_inter", "wc_inter", "within_class")
COLLAPSE = ("nc1", "nc2_equinorm", "nc2_equiangular", "nc2_w_equinorm", "nc2_w_equiangular", "nc3", "nc4")
DAR_KINDS = ("clean", "corrupt", "adversarial", "novel", "unrecognisable", "mean")


def calibration_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Errors of the ID test images' probabilities and confidence on every kind of image, before and after
    temperature scaling."""
    bins = spec.evaluation.calibration.bins
    errors = (f"ece_{bins}", f"ece_adaptive_{bins}", f"ece_classwise_{bins}", "ks", "nll", "brier")
    names = [f"calibration/{error}{after}" for error in errors for after in ("", "_ts")]
    names.append("calibration/temperature")
    places = ("id_test", *sides(spec))
    names += [f"calibration/confidence{after}/{place}" for place in places for after in ("", "_ts")]
    notes = [
        f"Of softmax(logits) on the ID test images, in percent. ECE: {bins} bins of equal width; adaptive "
        f"ECE: {bins} bins of equally many images; class-wise ECE: mean over the classes; KS: without bins. "
        "NLL in nats; Brier 0 to 2.",
        "TS: temperature scaling, softmax(logits / T*), with T* fitted on validation images.",
        "Confidence: mean over images of the largest probability, in percent. A calibrated network's equals "
        f"its accuracy on ID test images; no class is right for an OOD image.{_over_sets(spec)}",
    ]
    return arms_table("Calibration", names, spec, record, notes)


def geometry_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Angles between classes, neural collapse and the length of the logits."""
    names = [f"geometry/{name}" for name in (*ANGLES, *COLLAPSE)]
    names += [f"geometry/logit_norm_mean/{place}" for place in ("id_test", *sides(spec))]
    classes = _data(record).get("num_classes")
    target = ""
    if isinstance(classes, int) and classes >= 2:
        angle = numbers.fixed(math.degrees(etf_angle(classes)), 1)
        target = (
            f" {classes} rows that spread evenly (simplex ETF) have a W-Inter of "
            f"arccos(-1/{classes - 1}) = {angle} degrees; none have a larger one."
        )
    notes = [
        "Angles in degrees (recorded, and in full in the CSV file, in radians), of ID test images. A class's "
        "centre C is the mean direction of its features, W its classifier row. WC-Intra: between C and W of "
        "one class; W-Inter: between the W of two classes; C-Inter: between the C of two classes; WC-Inter: "
        f"between C of one class and W of another; within class: between image and C.{target}",
        "Neural collapse, of the training images, 0 where it is complete. NC1: variability within against "
        "between classes; NC2: how unequal are the lengths of the class means, and how far their angles are "
        "from even, and the same of the classifier rows (W); NC3: distance of rows from means; NC4: share of "
        "images that the nearest mean classifies otherwise.",
        f"Logit norm: mean over images of the L2 norm of the logits.{_over_sets(spec)}",
        "None of these has a better direction: they say how a loss works, not how well.",
    ]
    return arms_table("Geometry", names, spec, record, notes)


def robustness_table(spec: StudySpec, record: StudyRecord) -> Table:
    """Accuracy under attack and under corruptions, and the reconstructed detection accuracy rate."""
    settings = spec.evaluation.robustness
    attacked = ["robustness/clean", *(f"robustness/worst/eps_{epsilon:g}" for epsilon in settings.epsilons)]
    others = [f"robustness/autoattack/eps_{epsilon:g}" for epsilon in settings.epsilons]
    others += ["robustness/corruption/mean", *(f"robustness/dar_star/{kind}" for kind in DAR_KINDS)]
    table = arms_table("Robustness", [*attacked, *others], spec, record, _robustness_notes(spec, record))
    last = max((i for i, column in enumerate(table.columns) if column.name in attacked), default=None)
    if last is None:
        return table
    columns = [
        Column(f"{epsilon:g}/255", "strongest attack alone, at epsilon", name=f"strongest/eps_{epsilon:g}")
        for epsilon in settings.epsilons
    ]
    rows = [
        (
            *cells[: last + 1],
            *(Cell(strongest_attack(spec, record, arm, epsilon)) for epsilon in settings.epsilons),
            *cells[last + 1 :],
        )
        for arm, cells in zip(ordered_arms(spec), table.rows, strict=True)
    ]
    columns = [*table.columns[: last + 1], *columns, *table.columns[last + 1 :]]
    return Table(table.title, tuple(columns), tuple(rows), table.notes)


def strongest_attack(spec: StudySpec, record: StudyRecord, arm: str, epsilon: float) -> str:
    """Attack and objective with the lowest mean accuracy, ``pgd dlr``; several where they are equal."""
    settings = spec.evaluation.robustness
    means = {}
    for attack in settings.attacks:
        for objective in settings.objectives:
            found = values(spec, record, arm, f"robustness/{attack}/{objective}/eps_{epsilon:g}")
            if found:
                means[f"{attack} {objective}"] = fmean(found.values())
    if not means:
        return numbers.MISSING
    lowest = min(means.values())
    strongest = [name for name, mean in means.items() if mean == lowest]
    return "all alike" if len(strongest) == len(means) > 1 else ", ".join(strongest)


def _robustness_notes(spec: StudySpec, record: StudyRecord) -> list[str]:
    settings = spec.evaluation.robustness
    images = min(settings.images, int(_data(record).get("num_test", settings.images)))
    steps = f"; PGD takes {numbers.counted(settings.steps, 'step')}" if "pgd" in settings.attacks else ""
    notes = [
        f"Accuracies in percent, on the same {numbers.counted(images, 'ID test image')} for every trial."
    ]
    if {"fgsm", "pgd"} & set(settings.attacks):
        notes.append(
            "Worst case: right is an image that no attack of fgsm and pgd, with any objective, at this or a "
            "smaller epsilon (largest change of a pixel) makes the network misread. Strongest attack alone: "
            f"the attack and the objective under which the mean accuracy is lowest{steps}. Both are weaker "
            "than AutoAttack: against an attacker who tries more the accuracy can only be lower."
        )
    if any(values(spec, record, arm, "robustness/corruption/mean") for arm in spec.arms):
        severities = ", ".join(str(severity) for severity in settings.severities)
        notes.append(
            f"Corruptions: mean over the kinds and over severities {severities}; these are the kinds of "
            "CIFAR-10-C that need no downloaded pictures, so not comparable with results on CIFAR-10-C."
        )
    return [
        *notes,
        "DAR*: reconstructed, not checked against its authors' code. Share of right decisions to name a "
        "class or to reject, by the maximum logit, at the threshold that accepts 95 % of the correctly "
        "classified clean images. Adversarial: at the largest epsilon; novel: the OOD sets; unrecognisable: "
        "Gaussian noise.",
    ]


def _over_sets(spec: StudySpec) -> str:
    """What a value of near or far OOD is, where a side has several sets."""
    several = [side for side, sets in sides(spec).items() if len(sets) > 1]
    return f" {' and '.join(several).capitalize()} OOD: mean over the sets." if several else ""


def _data(record: StudyRecord) -> dict[str, Any]:
    """What the study's data turned out to be."""
    found: dict[str, Any] = record.sessions[0].get("data", {}) if record.sessions else {}
    return found
