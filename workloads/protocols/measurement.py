"""What is measured of a trained model on the sealed test sets, and the outputs that are kept of it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from workloads.contract import TrialConfig
from workloads.data.images import Pixels
from workloads.data.prepared import PreparedData
from workloads.evaluation.calibration import (
    at_bound,
    calibration_metrics,
    fit_temperature,
    reliability,
)
from workloads.evaluation.ood import rejection_metrics
from workloads.evaluation.scores import score
from workloads.losses.base import Loss
from workloads.models.base import Classifier
from workloads.training.batches import Normaliser
from workloads.training.inference import Outputs, predict
from workloads.training.storage import write_bytes, write_json

OUTPUTS = "outputs"
REJECTION = ("fpr95", "fpr95_ood_positive", "auroc", "aupr_in", "aupr_out")


@dataclass(frozen=True)
class _Set:
    """One evaluated data set."""

    kind: str
    outputs: Outputs
    labels: npt.NDArray[np.int64] | None


def measure(
    model: Classifier,
    loss: Loss,
    normalise: Normaliser,
    data: PreparedData,
    config: TrialConfig,
    folder: Path,
) -> dict[str, float]:
    """Evaluate the test, validation, noise and OOD sets; keep the outputs in ``folder/outputs``.

    Written are, for every set, ``<set>.npz`` (logits, features and, where the set has them, labels), listed
    in ``index.json`` with their SHA-256; ``head.npz`` (weight, bias, and what else the head holds);
    ``scores.npz`` (the headline score of every set but validation); ``reliability.json`` (before and after
    temperature scaling).

    Returns: ``test/accuracy``, ``calibration/...`` on the test images (``..._ts``: at the temperature that
        fits the validation images), ``ood/<score>/<set>/<metric>`` and its means over the near and the far
        sets.
    """
    test, validation = data.test(), data.validation()

    def seen(images: Pixels) -> Outputs:
        return predict(model, loss, normalise, images, config.training.precision)

    sets = {
        "id_test": _Set("test", seen(test.images), np.array(test.labels)),
        "id_validation": _Set("validation", seen(validation.images), np.array(validation.labels)),
        **{name: _Set("noise", seen(images), None) for name, images in data.noise().items()},
        **{
            name: _Set(str(data.facts.sets[name]["kind"]), seen(images), None)
            for name, images in data.ood().items()
        },
    }
    calibrated, diagrams = _calibration(sets, config.evaluation.ece_bins)
    headline = {
        name: score(config.evaluation.headline, each.outputs.logits)
        for name, each in sets.items()
        if name != "id_validation"
    }
    _write_outputs(folder / OUTPUTS, sets, model)
    _write_arrays(folder / OUTPUTS / "scores.npz", headline)
    write_json(folder / OUTPUTS / "reliability.json", diagrams)
    tested = sets["id_test"]
    accuracy = float((tested.outputs.logits.argmax(axis=1) == tested.labels).mean())
    return {"test/accuracy": accuracy, **calibrated, **_rejection(sets, config.evaluation.scores)}


def _calibration(sets: Mapping[str, _Set], bins: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Metrics and reliability diagrams of the test set, before and after temperature scaling."""
    test, validation = sets["id_test"], sets["id_validation"]
    assert test.labels is not None
    assert validation.labels is not None
    # Fitted on validation images only: a temperature that has seen the test set flatters.
    temperature = fit_temperature(validation.outputs.logits, validation.labels)
    logits, labels = test.outputs.logits, test.labels
    before = calibration_metrics(logits, labels, 1.0, bins)
    after = calibration_metrics(logits, labels, temperature, bins)
    metrics = {
        **{f"calibration/{name}": value for name, value in before.items()},
        **{f"calibration/{name}_ts": value for name, value in after.items()},
        "calibration/temperature": temperature,
        "calibration/temperature_at_bound": float(at_bound(temperature)),
    }
    diagrams = {
        "before": reliability(logits, labels, 1.0, bins),
        "after": reliability(logits, labels, temperature, bins),
        "temperature": temperature,
    }
    return metrics, diagrams


def _rejection(sets: Mapping[str, _Set], scores: tuple[str, ...]) -> dict[str, float]:
    """Every score against every OOD set, and the means over the near and over the far sets."""
    metrics: dict[str, float] = {}
    for name in scores:
        known = score(name, sets["id_test"].outputs.logits)
        for kind in ("near", "far"):
            members = [member for member, each in sets.items() if each.kind == kind]
            for member in members:
                measured = rejection_metrics(known, score(name, sets[member].outputs.logits))
                metrics.update({f"ood/{name}/{member}/{metric}": value for metric, value in measured.items()})
            if members:
                for metric in REJECTION:
                    values = [metrics[f"ood/{name}/{member}/{metric}"] for member in members]
                    metrics[f"ood/{name}/{kind}/{metric}"] = float(np.mean(values))
    return metrics


def _write_outputs(folder: Path, sets: Mapping[str, _Set], model: Classifier) -> None:
    index = {}
    for name, each in sets.items():
        arrays: dict[str, npt.NDArray[Any]] = {
            "logits": each.outputs.logits,
            "features": each.outputs.features,
        }
        if each.labels is not None:
            arrays["labels"] = each.labels
        digest = _write_arrays(folder / f"{name}.npz", arrays)
        index[name] = {
            "file": f"{name}.npz",
            "sha256": digest,
            "kind": each.kind,
            "size": len(each.outputs.logits),
        }
    head = {name: tensor.detach().cpu().numpy() for name, tensor in model.head.state_dict().items()}
    _write_arrays(folder / "head.npz", head)
    write_json(folder / "index.json", index)


def _write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Write an .npz file atomically; returns the SHA-256 of its bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    content = buffer.getvalue()
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()
