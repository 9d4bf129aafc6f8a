"""A study as YAML, complete: every default is written out, and it reads back as the same study."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import yaml

from orchestrator.study.completion import completed
from orchestrator.study.document import decimal_writing
from orchestrator.study.evaluation import written
from orchestrator.study.protocols import written as protocols_written
from orchestrator.study.reader import key_of
from orchestrator.study.spec import ArmSpec, PrunerSpec, StudySpec
from workloads.catalogue import Term
from workloads.contract import EvaluationConfig, ModelConfig

_WIDTH = 110


def to_yaml(spec: StudySpec) -> str:
    """The text of a study file that ``load_study`` reads back to ``completed(spec)``."""
    text: str = yaml.dump(
        to_document(spec), Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True
    )
    return text


def to_document(spec: StudySpec) -> dict[str, Any]:
    """The completed study as the plain mappings, lists and values of its file."""
    whole = completed(spec)
    document: dict[str, Any] = _plain(whole)
    document["protocols"] = _plain(protocols_written(whole.protocols))
    return document


def _plain(value: Any) -> Any:
    if isinstance(value, Term):
        return value.values[0] if value.kind == "fixed" else _Flow({value.kind: list(value.values)})
    if isinstance(value, ArmSpec):
        return _arm(value)
    if isinstance(value, ModelConfig) and not value.params and value.projector is None:
        return value.name
    if isinstance(value, EvaluationConfig):
        return _plain(written(value))
    if isinstance(value, PrunerSpec):
        return {"name": value.name, "warmup_epochs": value.warmup_epochs, **value.params}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {key_of(type(value), f.name): _plain(getattr(value, f.name)) for f in fields}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _arm(arm: ArmSpec) -> dict[str, Any]:
    written: dict[str, Any] = {"loss": arm.loss} if arm.loss != arm.name else {}
    for name, term in arm.space.items():
        parameter, _, expression = name.partition(".")
        written[parameter] = _Flow({expression: _plain(term)}) if expression else _plain(term)
    return written


class _Flow(dict[str, Any]):
    """A mapping written on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _flow(dumper: yaml.SafeDumper, data: _Flow) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)


def _list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)


def _text(dumper: yaml.SafeDumper, data: str) -> yaml.Node:
    # Unquoted, such a text would be taken for a number that YAML 1.1 misreads.
    style = "'" if decimal_writing(data) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(_Flow, _flow)
_Dumper.add_representer(list, _list)
_Dumper.add_representer(str, _text)
