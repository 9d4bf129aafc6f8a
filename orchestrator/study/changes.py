"""What changed between two versions of a study, as far as it could change a result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.study.dump import to_document
from orchestrator.study.ranges import plain
from orchestrator.study.spec import StudySpec

FREE = ("question", "audit", "resources", "execution", "tracking", "report")
"""The blocks that may change between two runs of one study. Audits look at what was chosen and change nothing
of it, so they may come later."""


def changes(old: StudySpec, new: StudySpec) -> list[str]:
    """Lines such as ``search.trials: 12 -> 16``; empty where the old study may go on as the new one."""
    before, after = dict(_flat(to_document(old), "")), dict(_flat(to_document(new), ""))
    lines = []
    for path in dict.fromkeys([*before, *after]):
        if path.split(".")[0] in FREE or before.get(path) == after.get(path):
            continue
        lines.append(f"{path}: {before.get(path, 'not set')} -> {after.get(path, 'not set')}")
    return lines


def _flat(value: Any, path: str) -> Iterator[tuple[str, str]]:
    is_term = isinstance(value, Mapping) and type(value) is not dict
    if isinstance(value, Mapping) and value and not is_term:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    else:
        yield path, _written(value)


def _written(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if value is None:
        return "null"
    # Repr keeps every digit: two values that differ must never be written alike.
    return repr(value) if isinstance(value, float | str) else plain(value)
