"""A study from its YAML file: strict, complete, all problems at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from orchestrator.errors import Problem, StudyInvalid, UserError
from orchestrator.study.arms import read_arms
from orchestrator.study.catalogue import PRUNERS
from orchestrator.study.completion import completed
from orchestrator.study.document import (
    Document,
    Node,
    Refused,
    compose,
    explained,
    is_null,
    join,
    kind,
    read_bool,
    read_number,
    read_text,
    shown,
)
from orchestrator.study.evaluation import read_evaluation
from orchestrator.study.metric_names import usual_primary
from orchestrator.study.protocols import read_protocols
from orchestrator.study.reader import (
    BAD,
    Special,
    guarded,
    read_fields,
    read_parameters,
    read_record,
    read_value,
)
from orchestrator.study.rules import check
from orchestrator.study.spec import (
    ArmSpec,
    GpuShare,
    ProtocolSpec,
    ProxyAudit,
    ProxySpec,
    PrunerSpec,
    StudySpec,
)
from orchestrator.study.suggestion import closest, did_you_mean
from orchestrator.study.training import base_training, read_training
from workloads.contract import DataConfig, EvaluationConfig, ModelConfig, TrainingConfig
from workloads.data.names import is_path, path_of
from workloads.models.catalogue import MODELS


def load_study(path: Path) -> StudySpec:
    """The study that a file describes.

    Raises: StudyInvalid with every problem of the file; UserError where there is no such file.
    """
    return parse_study(_text(path), str(path))


def parse_study(text: str, file: str) -> StudySpec:
    """The study that a text describes; ``file`` names it in the problems. Raises StudyInvalid."""
    doc = Document(file, StudySpec)
    root = read_root(doc, text, "A study needs at least study, data, model and arms")
    if root is not None:
        base = base_training(doc, root)
        special: Mapping[Any, Special] = {**_SPECIAL, TrainingConfig: partial(read_training, base=base)}
        spec: StudySpec = read_record(doc, root, StudySpec, "", special)
        if not any(key == "training" for key, _, _ in doc.items(root, "")):
            spec = dataclasses.replace(spec, training=base)
        # Read last: their training settings are over those of the study.
        for key, _, node in doc.items(root, ""):
            read = read_protocols(doc, node, key, spec.training) if key == "protocols" else None
            if read is not None:
                spec = dataclasses.replace(spec, protocols=read)
        if "report.primary" not in doc.lines:
            report = dataclasses.replace(spec.report, primary=usual_primary(spec))
            spec = dataclasses.replace(spec, report=report)
        check(doc, spec)
    if doc.problems:
        # Keys of the file are read more than once, and so are some problems found.
        raise StudyInvalid(sorted(dict.fromkeys(doc.problems), key=lambda p: p.line))
    return completed(dataclasses.replace(spec, data=_absolute(spec.data)))


def _absolute(data: DataConfig) -> DataConfig:
    """Paths of folders from here, so that workers and later runs mean the same ones."""

    def place(name: str) -> str:
        if not is_path(name):
            return name
        folder, side = path_of(name)
        return f"{folder}@{side}" if side else str(folder)

    return dataclasses.replace(
        data,
        source=place(data.source),
        near_ood=tuple(map(place, data.near_ood)),
        far_ood=tuple(map(place, data.far_ood)),
    )


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. {_near_files(path)}".rstrip()) from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder. {_near_files(path / 'study.yaml')}".rstrip()) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise StudyInvalid([Problem(str(path), line, "", "must be text in UTF-8")]) from None


def _near_files(path: Path) -> str:
    """Which study may have been meant: in the same folder, or in ``studies``."""
    folders = [path.parent, Path("studies")]
    found = {f.name: f for folder in folders if folder.is_dir() for f in sorted(folder.glob("*.y*ml"))}
    near = closest(path.name, found) or closest(f"{path.name}.yaml", found)
    if near is not None:
        return f"Did you mean {found[near]}?"
    return f"There are: {', '.join(str(f) for f in found.values())}" if 0 < len(found) <= 14 else ""


def read_root(doc: Document, text: str, needs: str) -> Node | None:
    """The file's top mapping, or None with the reason noted; ``needs``: what an empty file lacks."""

    def note(line: int, rule: str, hint: str = "") -> None:
        doc.problems.append(Problem(doc.file, line, "", rule, hint))

    try:
        root = compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        tabs = "\\t" in str(error.problem)
        note(
            mark.line + 1 if mark else 1,
            f"is not YAML: {error.problem or error.context}",
            "Indent with spaces, not tabs" if tabs else "",
        )
    except yaml.reader.ReaderError as error:
        note(text[: error.position].count("\n") + 1, f"is not YAML: {error.reason}")
    except RecursionError:
        note(1, "is nested too deeply")
    else:
        if isinstance(root, yaml.MappingNode):
            return root
        if root is None or is_null(root):
            note(1, "is empty", needs)
        else:
            note(root.start_mark.line + 1, f"must be a mapping of keys to values; got {shown(root)}")
    return None


def _read_model(doc: Document, node: Node, path: str) -> ModelConfig:
    """``model: NAME`` or ``model: {name: NAME, params: {...}, projector: WIDTH}``."""
    if kind(node) != "map":
        name = guarded(doc, node, path, lambda: read_text(node))
        return ModelConfig("" if name is BAD else _known_model(doc, name, node, path))
    items = doc.items(node, path)
    spec: ModelConfig = read_fields(
        doc, node, [item for item in items if item[0] != "params"], ModelConfig, path, {}
    )
    for key, _, value_node in items:
        if key == "name" and doc.sound(join(path, key)):
            _known_model(doc, spec.name, value_node, join(path, key))
    if spec.name not in MODELS:
        return spec
    here = join(path, "params")
    params = [item for key, _, value_node in items if key == "params" for item in doc.items(value_node, here)]
    return dataclasses.replace(spec, params=read_parameters(doc, params, MODELS[spec.name].parameters, here))


def _known_model(doc: Document, name: str, node: Node, path: str) -> str:
    if name not in MODELS:
        doc.problem(path, f"unknown model; got {name!r}", did_you_mean(name, MODELS), node)
    return name


def _read_gpu_share(doc: Document, node: Node, path: str) -> GpuShare:
    """A number of GPUs, or ``auto``."""

    def read() -> GpuShare:
        if kind(node) == "str" and node.value == "auto":
            return "auto"
        if kind(node) not in ("int", "float", "str"):
            raise Refused(f"must be a number of GPUs, or auto; got {explained(node)}")
        share = float(read_number(node))
        if share < 0:
            raise Refused(f"must be at least 0, or auto; got {shown(node)}")
        if share > 1 and not share.is_integer():
            raise Refused(f"above 1, must be a whole number of GPUs; got {shown(node)}")
        return share

    share: GpuShare = guarded(doc, node, path, read)
    return share


def _read_proxy(doc: Document, node: Node, path: str) -> ProxyAudit:
    """``proxy: true``, or ``proxy: {configurations: K}``; nothing, or false: none."""
    if is_null(node):
        return None
    if kind(node) == "map":
        chosen: ProxySpec = read_record(doc, node, ProxySpec, path)
        return chosen

    def read() -> ProxyAudit:
        try:
            return ProxySpec() if read_bool(node) else None
        except Refused:
            hint = "Write {configurations: K} for another number than 10"
            raise Refused(f"must be true, false or its settings; got {shown(node)}", hint) from None

    asked: ProxyAudit = guarded(doc, node, path, read)
    return asked


def _read_pruner(doc: Document, node: Node, path: str) -> PrunerSpec:
    """``pruner: NAME`` or ``pruner: {name: NAME, warmup_epochs: N, <its own parameters>}``."""
    if kind(node) != "map":
        name = read_value(doc, node, get_type_hints(PrunerSpec)["name"], path, {})
        return PrunerSpec() if name is BAD else PrunerSpec(name)
    items = doc.items(node, path)
    fields = ("name", "warmup_epochs")
    shared = [item for item in items if item[0] in fields]
    spec: PrunerSpec = read_fields(doc, node, shared, PrunerSpec, path, {})
    own = [item for item in items if item[0] not in fields]
    known = PRUNERS[spec.name].parameters
    if not doc.sound(join(path, "name")):
        return spec
    return dataclasses.replace(spec, params=read_parameters(doc, own, known, path, fields))


_SPECIAL: Mapping[Any, Special] = {
    Mapping[str, ArmSpec]: read_arms,
    ModelConfig: _read_model,
    PrunerSpec: _read_pruner,
    EvaluationConfig: read_evaluation,
    GpuShare: _read_gpu_share,
    ProxyAudit: _read_proxy,
    Mapping[str, ProtocolSpec]: lambda doc, node, path: BAD,
}
