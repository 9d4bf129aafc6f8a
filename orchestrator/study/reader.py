"""Frozen dataclasses read from YAML nodes by their own type hints: a new field needs no change here."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from orchestrator.study.document import (
    Document,
    Item,
    Node,
    Refused,
    is_null,
    join,
    kind,
    read_bool,
    read_int,
    read_list,
    read_number,
    read_plain,
    read_text,
    read_word,
)
from orchestrator.study.ranges import RANGES, Range, plain
from orchestrator.study.suggestion import closest, did_you_mean
from workloads.catalogue import Parameter, Value

BAD: Final[Any] = object()
"""Stands for a value that could not be read; its problem is already noted."""

Special = Callable[[Document, Node, str], Any]


@cache
def key_of(cls: Any, field: str) -> str:
    """What the file calls a field: its own name, unless its metadata give another ``key``."""
    keys = (f.metadata.get("key", field) for f in dataclasses.fields(cls) if f.name == field)
    return str(next(keys))


@cache
def hints(cls: type) -> dict[str, Any]:
    """The field types of a dataclass."""
    return get_type_hints(cls)


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _empty(hint: Any) -> Any:
    """Stands in for a required value that could not be read."""
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        required = (f.name for f in dataclasses.fields(hint) if _is_required(f))
        return hint(**{name: _empty(hints(hint)[name]) for name in required})
    return "" if hint is str else {}


def read_record(
    doc: Document,
    node: Node,
    cls: Any,
    path: str,
    special: Mapping[Any, Special] = types.MappingProxyType({}),
) -> Any:
    """A dataclass from a mapping; every problem is noted, and what is bad keeps its default."""
    return read_fields(doc, node, doc.items(node, path), cls, path, special)


def read_fields(
    doc: Document, node: Node, items: Iterable[Item], cls: Any, path: str, special: Mapping[Any, Special]
) -> Any:
    """:func:`read_record` from the items of its node."""
    known = {key_of(cls, f.name): f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    seen = set()
    for key, key_node, value_node in items:
        seen.add(key)
        if key not in known:
            doc.problem(join(path, key), "unknown key", _unknown_hint(doc, key, known, path), key_node)
            continue
        name = known[key].name
        value = read_value(doc, value_node, hints(cls)[name], join(path, key), special)
        bounds = RANGES.get(cls, {}).get(name)
        if value is not BAD and _in_range(doc, value_node, bounds, value, join(path, key)):
            values[name] = value
    for key, f in known.items():
        if _is_required(f) and key not in seen:
            doc.problem(join(path, key), "required, and missing", node=node)
        if _is_required(f) and f.name not in values:
            values[f.name] = _empty(hints(cls)[f.name])
    return cls(**values)


def read_value(doc: Document, node: Node, hint: Any, path: str, special: Mapping[Any, Special]) -> Any:
    """A value of the hinted type, or BAD."""
    doc.lines.setdefault(path, node.start_mark.line + 1)
    if hint in special:
        return special[hint](doc, node, path)
    if dataclasses.is_dataclass(hint):
        return read_record(doc, node, hint, path, special)
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else ()
    if type(None) in options:
        if is_null(node):
            return None
        (hint,) = (o for o in options if o is not type(None))
    if get_origin(hint) is tuple:
        return _read_tuple(doc, node, get_args(hint)[0], path, special)
    return guarded(doc, node, path, lambda: _read_scalar(node, hint, optional=bool(options)))


def guarded(doc: Document, node: Node, path: str, read: Callable[[], Any]) -> Any:
    """What ``read`` returns, or BAD with its refusal noted."""
    try:
        return read()
    except Refused as refused:
        doc.problem(path, refused.rule, refused.hint, node)
        return BAD


def _read_scalar(node: Node, hint: Any, *, optional: bool) -> Any:
    if get_origin(hint) is Literal:
        return read_word(node, get_args(hint))
    readers: Mapping[Any, Callable[[Node], Any]] = {
        bool: read_bool,
        int: read_int,
        float: lambda n: float(read_number(n)),
        str: read_text,
    }
    try:
        return readers[hint](node)
    except Refused as refused:
        if optional and kind(node) == "str" and node.value in ("None", "none"):
            raise Refused(refused.rule, "Write null for none") from None
        raise


def _read_tuple(doc: Document, node: Node, hint: Any, path: str, special: Mapping[Any, Special]) -> Any:
    nodes = guarded(doc, node, path, lambda: read_list(node))
    if nodes is BAD:
        return BAD
    values = [read_value(doc, item, hint, f"{path}[{i}]", special) for i, item in enumerate(nodes)]
    return BAD if any(v is BAD for v in values) else tuple(values)


def _in_range(doc: Document, node: Node, bounds: Range | None, value: Any, path: str) -> bool:
    if bounds is None or value is None:
        return True
    bad = [v for v in (value if isinstance(value, tuple) else (value,)) if not bounds.holds(v)]
    for v in bad:
        doc.problem(path, f"must be {bounds}; got {plain(v)}", node=node)
    return not bad


def _unknown_hint(doc: Document, key: str, known: Iterable[str], path: str) -> str:
    known = list(known)
    if closest(key, known) is None and doc.whole is not None:
        for home, name in _homes(doc.whole, ""):
            if name == key and home != path:
                return f"Did you mean {join(home, name)}?"
    return did_you_mean(key, known)


def _homes(cls: Any, path: str) -> Iterable[tuple[str, str]]:
    """Every (block, key) of a file."""
    for f in dataclasses.fields(cls):
        yield path, key_of(cls, f.name)
    for f in dataclasses.fields(cls):
        hint = hints(cls)[f.name]
        if dataclasses.is_dataclass(hint):
            yield from _homes(hint, join(path, key_of(cls, f.name)))


def read_parameter(doc: Document, node: Node, parameter: Parameter | None, path: str) -> Any:
    """One plain value of a catalogue parameter (None: any plain value), or BAD; its range is not checked."""

    def read() -> Value:
        if parameter is None:
            return read_plain(node)
        if parameter.kind == "choice":
            return read_word(node, parameter.choices)
        if parameter.kind == "bool":
            return read_bool(node)
        return read_int(node) if parameter.kind == "int" else float(read_number(node))

    return guarded(doc, node, path, read)


def read_parameters(
    doc: Document,
    items: Iterable[Item],
    known: Mapping[str, Parameter],
    path: str,
    beside: Iterable[str] = (),
) -> dict[str, Value]:
    """The parameters of a model or pruner that the file sets; ``beside``: keys that may stand beside them."""
    values = {}
    for key, key_node, node in items:
        here = join(path, key)
        if key not in known:
            doc.problem(here, "unknown parameter", did_you_mean(key, [*known, *beside]), key_node)
            continue
        value = read_parameter(doc, node, known[key], here)
        if value is BAD:
            continue
        bounds = Range.of(known[key])
        if known[key].kind in ("int", "float") and not bounds.holds(value):
            doc.problem(here, f"must be {bounds}; got {plain(value)}", node=node)
            continue
        values[key] = value
    return values
