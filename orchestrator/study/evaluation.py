"""What a study measures of its confirmed models: ``evaluate: [ood]``, or ``evaluate: {ood: {...}}``."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from orchestrator.study.document import Document, Node, is_null, join, kind
from orchestrator.study.reader import BAD, read_record, read_value
from orchestrator.study.suggestion import did_you_mean
from workloads.contract import EvaluationConfig, Measure

MEASURES: tuple[Measure, ...] = get_args(Measure)


def read_evaluation(doc: Document, node: Node, path: str) -> EvaluationConfig:
    """A list of evaluations, or a mapping from evaluations to their settings (null: the defaults)."""
    if kind(node) != "map":
        measures = read_value(doc, node, tuple[Measure, ...], path, {})
        return EvaluationConfig() if measures is BAD else EvaluationConfig(measures)
    settings: dict[str, Any] = {}
    measures_ = []
    fields = {field.name: field for field in dataclasses.fields(EvaluationConfig)}
    for key, key_node, value in doc.items(node, path):
        here = join(path, key)
        if key not in MEASURES:
            doc.problem(here, "unknown evaluation", did_you_mean(key, MEASURES), key_node)
            continue
        measures_.append(key)
        if is_null(value):
            continue
        if key in fields:
            settings[key] = read_record(doc, value, type(fields[key].default), here)
        elif doc.items(value, here):
            doc.problem(here, "has no settings", "Write it without any", value)
    return EvaluationConfig(tuple(measures_), **settings)


def written(evaluation: EvaluationConfig) -> dict[str, Any]:
    """The mapping that :func:`read_evaluation` reads back."""
    return {name: getattr(evaluation, name, {}) for name in evaluation.measures}
