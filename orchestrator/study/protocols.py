"""The protocols of a study: ``protocols: [standard, long_tailed]``, or a mapping with settings."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, get_args

from orchestrator.study.document import Document, Item, Node, is_null, join, kind, shown
from orchestrator.study.reader import BAD, hints, read_fields, read_value
from orchestrator.study.spec import ProtocolSpec
from orchestrator.study.suggestion import did_you_mean
from orchestrator.study.training import read_training
from workloads.contract import Protocol, TrainingConfig
from workloads.protocol_config import ContinualConfig, LongTailedConfig, Method, Strategy

PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
_SETTINGS: Mapping[str, tuple[type, str, str, Any]] = {
    "long_tailed": (LongTailedConfig, "method", "methods", Method),
    "continual": (ContinualConfig, "strategy", "strategies", Strategy),
}
"""By protocol: its settings, the field of one variant, the key of all variants, and their words."""


def read_protocols(
    doc: Document, node: Node, path: str, base: TrainingConfig
) -> Mapping[str, ProtocolSpec] | None:
    """A list of protocols, or a mapping from names to settings; None where nothing can be read.

    A name is a protocol's, or any other with ``protocol`` among its settings: a study may have two streams.
    """
    if kind(node) not in ("map", "seq"):
        hint = f"Write [{node.value}]" if kind(node) == "str" else "Write [standard]"
        doc.problem(path, f"must be a list of protocols, or a mapping; got {shown(node)}", hint, node)
        return None
    if kind(node) == "seq":
        words = read_value(doc, node, tuple[Protocol, ...], path, {})
        if words is BAD:
            return None
        repeated = sorted({word for word in words if words.count(word) > 1})
        if repeated:
            doc.problem(
                path, f"must hold each item once; got {', '.join(repeated)} more than once", node=node
            )
        if not words:
            doc.problem(path, "must hold at least one item; got an empty list", node=node)
        return {word: _default(word) for word in words} or None
    items = doc.items(node, path)
    if not items:
        doc.problem(path, "must name at least one protocol; got none", "Write [standard]", node)
        return None
    return {name: _read_entry(doc, name, key, value, join(path, name), base) for name, key, value in items}


def _default(protocol: Protocol) -> ProtocolSpec:
    if protocol == "standard":
        return ProtocolSpec(protocol)
    settings = _SETTINGS[protocol][0]()
    return ProtocolSpec(protocol, (getattr(settings, _SETTINGS[protocol][1]),), settings)


def _read_entry(
    doc: Document, name: str, key_node: Node, node: Node, path: str, base: TrainingConfig
) -> ProtocolSpec:
    items = [] if is_null(node) else doc.items(node, path)
    said = next((each for key, _, each in items if key == "protocol"), None)
    if name in PROTOCOLS:
        protocol = name
        if said is not None:
            doc.problem(join(path, "protocol"), "is said by the name already", "Leave it out", said)
    elif said is None:
        hint = did_you_mean(name, PROTOCOLS)
        own = "A name of your own says its protocol: {protocol: continual, ...}"
        doc.problem(path, "unknown protocol", f"{hint} {own}" if hint.endswith("?") else own, key_node)
        return ProtocolSpec("standard")
    else:
        read = read_value(doc, said, Protocol, join(path, "protocol"), {})
        if read is BAD:
            return ProtocolSpec("standard")
        protocol = read
        if not _NAME.fullmatch(name):
            rule = f"must be of a-z, 0-9 and _, and start with a letter or digit; got {name!r}"
            doc.problem(path, rule, "It names results", key_node)
    if protocol == "standard":
        return _standard(doc, name, items, key_node, path)
    return _with_settings(doc, protocol, [item for item in items if item[0] != "protocol"], node, path, base)


def _standard(doc: Document, name: str, items: list[Item], key_node: Node, path: str) -> ProtocolSpec:
    if name != "standard":
        rule = "the standard protocol has no settings, so it stands once, under its own name"
        doc.problem(path, rule, "Write standard:", key_node)
    for key, each, _ in items:
        if key != "protocol":
            hint = "The study's own training, search and evaluate are its settings"
            doc.problem(join(path, key), "the standard protocol has no settings", hint, each)
    return ProtocolSpec("standard")


def _with_settings(
    doc: Document, protocol: str, items: list[Item], node: Node, path: str, base: TrainingConfig
) -> ProtocolSpec:
    kind_, one, several, words = _SETTINGS[protocol]
    beside: dict[str, Any] = {"parameters": "winner", "training": None, several: None}
    known = [f.name for f in dataclasses.fields(kind_) if f.name != one]
    rest = []
    for item in items:
        key, key_node, value_node = item
        here = join(path, key)
        if key == "training":
            beside[key] = read_training(doc, value_node, here, base)
        elif key in beside:
            hint = tuple[words, ...] if key == several else hints(ProtocolSpec)[key]  # type: ignore[valid-type]
            value = read_value(doc, value_node, hint, here, {})
            beside[key] = beside[key] if value is BAD else value
        elif key == one:
            doc.problem(here, "unknown key", f"Did you mean {several}? It is a list", key_node)
        elif key not in known:
            doc.problem(here, "unknown key", did_you_mean(key, [*beside, *known]), key_node)
        else:
            rest.append(item)
    settings = read_fields(doc, node, rest, kind_, path, {})
    variants = (getattr(settings, one),) if beside[several] is None else beside[several]
    listed = join(path, several)
    repeated = sorted({word for word in variants if variants.count(word) > 1})
    if repeated:
        doc.problem(listed, f"must hold each item once; got {', '.join(repeated)} more than once")
    if not variants:
        doc.problem(listed, "must hold at least one item; got an empty list")
    return ProtocolSpec(
        protocol,  # type: ignore[arg-type]
        variants or (getattr(settings, one),),
        settings,
        beside["parameters"],
        beside["training"],
    )


def written(protocols: Mapping[str, ProtocolSpec]) -> dict[str, Any]:
    """The mapping that :func:`read_protocols` reads back."""
    return {name: _written(name, each) for name, each in protocols.items()}


def _written(name: str, each: ProtocolSpec) -> dict[str, Any]:
    if each.settings is None:
        return {}
    _, one, several, _ = _SETTINGS[each.protocol]
    fields = {f.name: getattr(each.settings, f.name) for f in dataclasses.fields(each.settings)}
    return {
        **({} if name == each.protocol else {"protocol": each.protocol}),
        several: each.variants,
        "parameters": each.parameters,
        **({} if each.training is None else {"training": each.training}),
        **{key: value for key, value in fields.items() if key != one},
    }
