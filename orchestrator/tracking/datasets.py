"""The data of a study as MLflow's data sets: which images a run saw, and for what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from orchestrator.study.spec import StudySpec

_CONTEXT = "mlflow.data.context"
_MEANING = {
    "train": "training",
    "validation": "validation",
    "noise": "validation noise",
    "test": "test",
    "near": "near OOD",
    "far": "far OOD",
}
"""What a run did with a set, by the set's kind."""
_SEARCHED = ("train", "validation", "noise")
"""Kinds that a trial of the search sees; the test is sealed."""


def datasets_of(spec: StudySpec, facts: Mapping[str, Any], stage: str) -> list[DatasetInput]:
    """Every set that a run of a stage sees, the training images first.

    Args:
        facts: of the data, as a session's record holds them.
        stage: ``search``, ``confirm`` or ``audit``.
    """
    return [
        _input(_name(spec, name, each), each, facts)
        for name, each in facts.get("sets", {}).items()
        if stage != "search" or each["kind"] in _SEARCHED
    ]


def _name(spec: StudySpec, name: str, each: Mapping[str, Any]) -> str:
    """A set of the source is named after it: ``cifar10 train``; any other as the study names it."""
    return f"{spec.data.source} {name}" if each["kind"] in ("train", "validation", "test") else name


def _input(name: str, each: Mapping[str, Any], facts: Mapping[str, Any]) -> DatasetInput:
    profile = {"images": each["size"], "image_shape": list(facts["image_shape"])}
    if each["kind"] in ("train", "validation", "test"):
        profile["classes"] = facts["num_classes"]
    origin = {key: value for key, value in each.items() if key not in ("kind", "size", "hash")}
    dataset = Dataset(
        # MLflow takes at most 500 characters of a name, 36 of a digest.
        name=name[-500:],
        digest=str(each["hash"])[:36],
        source_type="orchestrate",
        source=json.dumps(origin),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset, [InputTag(_CONTEXT, _MEANING[each["kind"]])])
