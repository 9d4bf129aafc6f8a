"""The arms of a study: losses with their search spaces, read from YAML nodes and checked."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from orchestrator.study import terms
from orchestrator.study.document import (
    Document,
    Node,
    is_null,
    join,
    kind,
    read_list,
    read_text,
)
from orchestrator.study.ranges import ARM_SETTINGS
from orchestrator.study.reader import BAD, guarded, read_parameter
from orchestrator.study.spec import ArmSpec
from orchestrator.study.suggestion import closest, did_you_mean
from workloads.catalogue import Entry, Parameter, Term, TermKind
from workloads.contract import TrainingConfig
from workloads.losses.catalogue import AUXILIARY, LOSSES

_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_ALTERNATIVES = ", ".join(terms.TERM_WORDS)


def read_arms(doc: Document, node: Node, path: str) -> Mapping[str, ArmSpec]:
    """Every arm by name; problems are noted, arms that cannot be read are left out."""
    if is_null(node) or (kind(node) in ("map", "seq") and not node.value):
        doc.problem(path, "must name at least one arm", "Write, say, cross_entropy: {lr: 0.1}", node)
        return {}
    arms = {}
    for name, key_node, arm_node in doc.items(node, path):
        here = join(path, name)
        if not _ARM_NAME.fullmatch(name):
            rule = f"an arm's name is of letters, digits, _ and -; got {name!r}"
            doc.problem(here, rule, node=key_node)
        arms[name] = _read_arm(doc, name, arm_node, here)
    return arms


def _read_arm(doc: Document, name: str, node: Node, path: str) -> ArmSpec:
    items = doc.items(node, path)
    named = [value_node for key, _, value_node in items if key == "loss"]
    loss = guarded(doc, named[0], join(path, "loss"), lambda: read_text(named[0])) if named else name
    if loss is BAD:
        return ArmSpec(name, name, {})
    free = ":" in loss
    entry = LOSSES.get(loss)
    if free and not _IMPORT_PATH.fullmatch(loss):
        hint = "Write my_package.my_module:MyLoss"
        doc.problem(join(path, "loss"), f"an import path is module:Class; got {loss!r}", hint)
    elif not free and entry is None:
        _unknown_loss(doc, name, loss, path)
    space: dict[str, Term] = {}
    for key, key_node, value_node in items:
        if key == "loss":
            continue
        known = {**AUXILIARY, **entry.parameters, **ARM_SETTINGS} if entry else ARM_SETTINGS
        parameter = known.get(key)
        if parameter is None and entry is not None:
            _unknown_parameter(doc, key, loss, entry, key_node, join(path, key))
            continue
        space |= _read_space(doc, key, value_node, parameter, join(path, key))
    if entry is not None and all(key == "loss" for key, _, _ in items):
        space = recommended_space(entry)
    return ArmSpec(name, loss, space)


def _unknown_loss(doc: Document, name: str, loss: str, path: str) -> None:
    if loss != name:
        doc.problem(join(path, "loss"), f"unknown loss; got {loss!r}", did_you_mean(loss, LOSSES))
        return
    hint = did_you_mean(loss, LOSSES)
    own = "An arm with a name of its own says its loss: {loss: NAME, ...}"
    doc.problem(path, f"unknown loss; got {loss!r}", f"{hint} {own}" if hint.endswith("?") else own)


def _unknown_parameter(doc: Document, key: str, loss: str, entry: Entry, key_node: Node, path: str) -> None:
    if key in (f.name for f in dataclasses.fields(TrainingConfig)):
        hint = f"{key} is the same for every arm: set it under training"
    else:
        hint = did_you_mean(key, [*entry.parameters, *AUXILIARY, *ARM_SETTINGS, "loss"])
    doc.problem(path, f"{loss} has no such parameter", hint, key_node)


def _read_space(
    doc: Document, name: str, node: Node, parameter: Parameter | None, path: str
) -> dict[str, Term]:
    """The term of one parameter, or of one of its expressions (``mu: {scale: ...}`` -> ``mu.scale``)."""
    if kind(node) == "seq":
        hint = "Write {grid: [...]} or {choice: [...]}"
        doc.problem(path, f"must be a value or exactly one of {_ALTERNATIVES}; got a list", hint, node)
        return {}
    if kind(node) != "map":
        value = read_parameter(doc, node, parameter, path)
        return _checked(doc, name, node, None if value is BAD else Term("fixed", (value,)), parameter, path)
    items = doc.items(node, path)
    if len(items) != 1:
        if doc.sound(path):
            rule = f"must be a value or exactly one of {_ALTERNATIVES}; got {len(items)} keys"
            doc.problem(path, rule, node=node)
        return {}
    ((word, word_node, inner),) = items
    here = join(path, word)
    if word in terms.TERM_WORDS:
        return _checked(doc, name, node, _read_term(doc, word, inner, parameter, here), parameter, here)
    expressions = parameter.expressions if parameter is not None else {}
    of_own_loss = parameter is None and closest(word, terms.TERM_WORDS) is None and "." not in name
    if word in expressions or of_own_loss:
        return _read_space(doc, f"{name}.{word}", inner, expressions.get(word), here)
    known = [*terms.TERM_WORDS, *expressions]
    doc.problem(here, f"must be one of {', '.join(known)}", did_you_mean(word, known), word_node)
    return {}


def _read_term(
    doc: Document, word: TermKind, node: Node, parameter: Parameter | None, path: str
) -> Term | None:
    nodes = guarded(doc, node, path, lambda: read_list(node))
    if nodes is BAD:
        return None
    numeric = terms.is_interval(word) and (parameter is None or parameter.kind not in ("float", "int"))
    if numeric:
        parameter = Parameter("int" if word == "int_uniform" else "float", None, "")
    elif word == "uniform" or word == "log_uniform":
        parameter = Parameter("float", None, "")
    values = [read_parameter(doc, item, parameter, f"{path}[{i}]") for i, item in enumerate(nodes)]
    return None if any(v is BAD for v in values) else Term(word, tuple(values))


def _checked(
    doc: Document, name: str, node: Node, term: Term | None, parameter: Parameter | None, path: str
) -> dict[str, Term]:
    if term is None:
        return {}
    found = terms.problems(term, parameter)
    for rule, hint in found:
        doc.problem(path, rule, hint, node)
    return {} if found else {name: term}


def recommended_space(entry: Entry) -> dict[str, Term]:
    """What an arm that sets nothing searches: the loss's recommended terms and its learning-rate range."""
    space: dict[str, Term] = {}
    for name, parameter in entry.parameters.items():
        searched = {f"{name}.{word}": e.search for word, e in parameter.expressions.items() if e.search}
        if parameter.search is not None and not (searched and isinstance(parameter.default, Mapping)):
            space[name] = parameter.search
        elif searched:
            flat, term = next((f, t) for f, t in searched.items() if t is not None)
            space[flat] = term
    if entry.lr is not None and entry.lr.search is not None:
        space["lr"] = entry.lr.search
    return space
