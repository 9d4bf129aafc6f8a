"""Where features and class weights lie, and how long the logits are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from workloads.evaluation.geometry import angles, logit_norms, neural_collapse
from workloads.measurement.outputs import Outputs
from workloads.measurement.part import Part


def measure_geometry(outputs: Outputs) -> Part:
    """Returns: ``geometry/<metric>``: ArcGrad's angles on the test images, neural collapse on the training
    images, and mean and standard deviation of the logits' norms on every set."""
    test = outputs["id_test"]
    assert test.labels is not None
    head = outputs.head
    found = angles(test.features, test.labels, head.weight)
    part = Part(_named(found.metrics), found.notes)
    train = next(iter(outputs.of_kind("train").values()), None)
    if train is None or train.labels is None:
        part += Part(notes=("geometry: neural collapse needs the training images' outputs",))
    elif head.kind == "godin":
        part += Part(notes=("geometry: neural collapse is not defined for a GODIN head",))
    else:
        # Of a cosine head only the directions act.
        weight = _directions(head.weight) if head.kind == "cosine" else head.weight
        collapse = neural_collapse(train.features, train.labels, weight, head.bias)
        part += Part(_named(collapse.metrics), collapse.notes)
    for name, each in outputs.sets.items():
        norms = logit_norms(each.evidence.Z)
        part += Part({f"geometry/logit_norm_{key}/{name}": value for key, value in norms.items()})
    return part


def _directions(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    rows = weight.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: npt.NDArray[np.float64] = rows / np.where(lengths > 0.0, lengths, 1.0)
    return unit


def _named(metrics: dict[str, float]) -> dict[str, float]:
    return {f"geometry/{name}": value for name, value in metrics.items()}
