"""Calibration of the ID test images, before and after the temperature that fits the validation images."""

from __future__ import annotations

from typing import Any

from workloads.evaluation.calibration import (
    at_bound,
    calibration_metrics,
    calibration_notes,
    confidence,
    fit_temperature,
    reliability,
)
from workloads.measurement.outputs import Outputs
from workloads.measurement.part import Part


def measure_calibration(outputs: Outputs, bins: int) -> tuple[Part, dict[str, Any]]:
    """Returns: ``calibration/<metric>`` and ``<metric>_ts`` (at T*), T* itself, and the mean confidence on
    every OOD set; and the data of the reliability diagrams."""
    test, validation = outputs["id_test"], outputs["id_validation"]
    assert test.labels is not None
    assert validation.labels is not None
    # Fitted on validation images only: a temperature that has seen the test set flatters.
    T = fit_temperature(validation.Z, validation.labels)
    before = calibration_metrics(test.Z, test.labels, 1.0, bins)
    after = calibration_metrics(test.Z, test.labels, T, bins)
    metrics = {
        **{f"calibration/{name}": value for name, value in before.items()},
        **{f"calibration/{name}_ts": value for name, value in after.items()},
        "calibration/temperature": T,
        "calibration/temperature_at_bound": float(at_bound(T)),
        "calibration/confidence/id_test": confidence(test.Z, 1.0),
        "calibration/confidence_ts/id_test": confidence(test.Z, T),
    }
    for name, unknown in outputs.of_kind("near", "far", "added").items():
        metrics[f"calibration/confidence/{name}"] = confidence(unknown.Z, 1.0)
        metrics[f"calibration/confidence_ts/{name}"] = confidence(unknown.Z, T)
    diagrams = {
        "before": reliability(test.Z, test.labels, 1.0, bins),
        "after": reliability(test.Z, test.labels, T, bins),
        "temperature": T,
    }
    notes = calibration_notes(len(test), bins)
    if len(validation) < bins:
        notes.append(
            f"calibration: T* was fitted on {len(validation)} validation images; it and the metrics after "
            "temperature scaling say little"
        )
    return Part(metrics, tuple(notes)), diagrams
