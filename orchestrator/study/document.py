"""A YAML file as nodes: strict reading, with a line and a key path for every problem.

PyYAML follows YAML 1.1, where ``1e-3`` is text, ``no`` is false, ``012`` is ten and the last of two equal
keys wins in silence. Working on nodes instead of loaded values, each of these is found and explained.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.errors import Problem
from orchestrator.study.suggestion import did_you_mean
from workloads.catalogue import Value

Node = yaml.Node
Item = tuple[str, Node, Node]
"""A key of a mapping, with its node and its value's."""

_TAG = "tag:yaml.org,2002:"
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "a truth value",
    "null": "nothing",
    "timestamp": "a date",
    "seq": "a list",
    "map": "a mapping",
}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})")
_FRACTION = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?")
_MEANT_NUMBER = re.compile(r"([-+]?)([0-9]*)\.?([0-9]*)[eE]([-+]?)([0-9]{1,3})")
_LONGEST_SHOWN = 60


class Refused(Exception):
    """A node that is not what was asked for: the rule, and a hint."""

    def __init__(self, rule: str, hint: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.hint = hint


@dataclass
class Document:
    """The problems of one file so far, and where each key path stands."""

    file: str
    whole: Any = None
    """The dataclass of the whole file: a key that is unknown in one block may belong into another."""
    problems: list[Problem] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def at(self, node: Node, path: str) -> None:
        """Remember where a path stands."""
        self.lines[path] = node.start_mark.line + 1

    def line(self, path: str) -> int:
        """The line of a path, or of the nearest key above it that the file has."""
        while path not in self.lines and path:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.lines.get(path, 1)

    def problem(self, path: str, rule: str, hint: str = "", node: Node | None = None) -> None:
        line = node.start_mark.line + 1 if node is not None else self.line(path)
        self.problems.append(Problem(self.file, line, path, rule, hint))

    def sound(self, *paths: str) -> bool:
        """Whether nothing at, below or above these paths has a problem."""
        bad = [p.path for p in self.problems]
        return not any(_within(a, b) or _within(b, a) for a in paths for b in bad)

    def items(self, node: Node, path: str) -> list[Item]:
        """Keys of a mapping as (key, key node, value node); nothing at all reads as an empty mapping."""
        if is_null(node):
            return []
        if not isinstance(node, yaml.MappingNode):
            self.problem(path, f"must be a mapping of keys to values; got {shown(node)}", node=node)
            return []
        found: dict[str, Item] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, path)
            if key is None:
                continue
            here = join(path, key)
            if key in found:
                first = found[key][1].start_mark.line + 1
                self.problem(
                    here,
                    f"the key stands twice, first on line {first}",
                    "YAML would silently keep only the last: delete one",
                    key_node,
                )
                continue
            found[key] = (key, key_node, value_node)
            self.at(key_node, here)
        return list(found.values())

    def _key(self, node: Node, path: str) -> str | None:
        if kind(node) == "merge":
            self.problem(path, "merge keys (<<) are not read", "Write the keys out", node)
        elif kind(node) != "str":
            hint = f'Write "{node.value}" in quotes' if isinstance(node, yaml.ScalarNode) else ""
            self.problem(path, f"a key must be text; got {explained(node)}", hint, node)
        else:
            return str(node.value)
        return None


def _within(inner: str, outer: str) -> bool:
    return inner == outer or outer == "" or inner.startswith((outer + ".", outer + "["))


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def kind(node: Node) -> str:
    """The short YAML tag: str, int, float, bool, null, seq, map ..."""
    return str(node.tag).removeprefix(_TAG)


def is_null(node: Node) -> bool:
    return kind(node) == "null"


def shown(node: Node) -> str:
    """A node as an error quotes it."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    if is_null(node):
        return "nothing"
    text = repr(node.value) if kind(node) == "str" else str(node.value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def explained(node: Node) -> str:
    """:func:`shown`, and what YAML makes of it where that may surprise."""
    surprising = isinstance(node, yaml.ScalarNode) and kind(node) in ("bool", "int", "float", "timestamp")
    return f"{shown(node)}, which YAML reads as {_KINDS[kind(node)]}" if surprising else shown(node)


def read_text(node: Node) -> str:
    if kind(node) == "str" and isinstance(node, yaml.ScalarNode):
        return str(node.value)
    quoted = isinstance(node, yaml.ScalarNode) and not is_null(node)
    raise Refused(f"must be text; got {explained(node)}", f'Write "{node.value}"' if quoted else "")


def read_word(node: Node, words: Sequence[Value]) -> Value:
    """One of the allowed words (numbers and truth values may be among them)."""
    try:
        value = read_plain(node)
    except Refused:
        value = None
    for word in words:
        if value == word and isinstance(value, bool) == isinstance(word, bool):
            return word
    known = ", ".join(str(w) for w in words)
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    hint = did_you_mean(text, [str(w) for w in words]) if text else ""
    raise Refused(f"must be one of {known}; got {explained(node)}", "" if hint.startswith("Known") else hint)


def read_bool(node: Node) -> bool:
    if kind(node) == "bool" and isinstance(node, yaml.ScalarNode):
        return str(node.value).lower() in ("true", "yes", "on")
    raise Refused(f"must be true or false; got {shown(node)}")


def read_int(node: Node) -> int:
    value = read_number(node)
    if isinstance(value, float):
        hint = f"Write {int(value)}" if value.is_integer() and abs(value) < 1e15 else ""
        raise Refused(f"must be a whole number; got {shown(node)}", hint)
    return value


def read_number(node: Node) -> int | float:
    """A finite number in plain decimal writing."""
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    if kind(node) == "int":
        if _INTEGER.fullmatch(text):
            return int(text)
        raise Refused(f"must be a number in plain decimal digits; got {text}", _integer_hint(text))
    if kind(node) == "float":
        value = float(text) if _FRACTION.fullmatch(text) else _special(text)
        if value is None:
            raise Refused(f"must be a number in plain decimal digits; got {text}")
        if not math.isfinite(value):
            raise Refused(f"must be a finite number; got {text}")
        return value
    if kind(node) == "str" and isinstance(node, yaml.ScalarNode):
        raise Refused(f"must be a number; got {shown(node)}", _text_hint(text, quoted=node.style is not None))
    raise Refused(f"must be a number; got {explained(node)}")


def _special(text: str) -> float | None:
    bare = text.lower().lstrip("+-").lstrip(".")
    return math.nan if bare == "nan" else math.inf if bare == "inf" else None


def _integer_hint(text: str) -> str:
    digits = text.lstrip("+-")
    if re.fullmatch(r"0[0-7]+", digits):
        return f"YAML reads {text} as an octal number, {int(digits, 8)}: write {int(digits)} without the zero"
    if re.fullmatch(r"[0-9]+", digits):
        return "It has too many digits"
    return "Write it without underscores, colons or a base prefix"


def _text_hint(text: str, *, quoted: bool) -> str:
    written = decimal_writing(text)
    if written:
        return f"YAML reads {text} as text: write {written}"
    if quoted and (_INTEGER.fullmatch(text) or _FRACTION.fullmatch(text)):
        return "Remove the quotes"
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return "A number must be finite"
    return ""


def decimal_writing(text: str) -> str:
    """How to write a number such as ``1e-3``, which YAML 1.1 reads as text; "" for any other text."""
    found = _MEANT_NUMBER.fullmatch(text)
    if not found or not (found[2] or found[3]):
        return ""
    sign, whole, fraction, exponent_sign, exponent = found.groups()
    scientific = f"{sign}{whole or 0}.{fraction or 0}e{exponent_sign or '+'}{exponent}"
    plain = f"{float(text):.12f}".rstrip("0").rstrip(".")
    short = len(plain) <= 12 and float(plain) == float(text)
    return f"{plain} or {scientific}" if short else scientific


def read_plain(node: Node) -> Value:
    """Any plain value, as its own YAML type; text that was meant as a number is refused."""
    if kind(node) == "bool":
        return read_bool(node)
    if kind(node) in ("int", "float"):
        return read_number(node)
    if kind(node) == "str" and isinstance(node, yaml.ScalarNode):
        if node.style is None and decimal_writing(str(node.value)):
            return read_number(node)
        return str(node.value)
    raise Refused(f"must be a number, a word, true or false; got {shown(node)}")


def read_list(node: Node) -> list[Node]:
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    hint = f"Write [{node.value}]" if isinstance(node, yaml.ScalarNode) and not is_null(node) else ""
    raise Refused(f"must be a list; got {shown(node)}", hint)


def compose(text: str) -> Any:
    """The root node, or None for an empty file. Raises yaml.YAMLError, RecursionError."""
    return yaml.compose(text, Loader=yaml.SafeLoader)
