"""Writes the pages that follow from the code: docs/losses.md and docs/study-file.md (make docs)."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, get_args, get_type_hints

from orchestrator.report.catalogue_text import HEADS, default_text
from orchestrator.study import spec as study
from orchestrator.study import terms
from orchestrator.study.ranges import plain
from workloads import contract, protocol_config
from workloads.catalogue import Entry, Parameter
from workloads.losses.catalogue import AUXILIARY, LOSSES

FOLDER = Path(__file__).parent
NOTE = "<!-- Made by `make docs` from the code; do not edit. -->\n"
BY_HAND = {
    "study": "Its name: the folder of its results, the experiment in MLflow.",
    "data": "Written as a word where the defaults do: `data: digits`.",
    "model": "A name (`model: wrn_40_2`), or `{name: ..., projector: 128}` with the model's own parameters "
    "beside it (`orchestrate list models`).",
    "arms": "A loss with its search space each, by name. The name is the loss's (`logitnorm: {...}`), or any "
    "other with `loss:` beside the parameters. A parameter is a value, or what to search: "
    + ", ".join(
        f"`{{{word}: [a, b{'' if terms.is_interval(word) else ', c'}]}}`" for word in terms.TERM_WORDS
    )
    + "; left out, it stays at the loss's default. `lr`, `weight_decay`, `momentum` and `batch_size` are the "
    "training's. [Every loss](losses.md).",
    "question": "What the study asks, in words; stands in the report and in MLflow.",
    "protocols": "By name, `standard`, `long_tailed` or `continual` with settings; another name with "
    "`protocol:` beside them. `methods:` and `strategies:` list the variants. [Protocols](protocols.md).",
    "recipe": "Named training settings (`orchestrate list recipes`), which `training` overrides.",
    "evaluate": "A list (`[ood, calibration]`), or a mapping with settings for each.",
    "baseline": "The arm that the others are compared with; the first, if nothing is said.",
}


def losses_page() -> str:
    """Every loss of the catalogue, with its parameters."""
    parts = [NOTE, "# Losses\n", _INTRODUCTION]
    for family, entries in groupby(LOSSES.values(), lambda entry: entry.family):
        parts.append(f"\n## {family}\n")
        parts += [_loss(entry) for entry in entries]
    parts += ["\n## Beside any of these\n", "\n".join(_parameters(AUXILIARY)), ""]
    return "\n".join(parts)


_INTRODUCTION = """\
`orchestrate list losses` prints the same. *Search* is the range that the catalogue proposes; a study may name
any other within the bounds. Where a paper and its code disagree:
[what we found in the sources](what-we-found-in-the-sources.md). Your own needs no fork:
[a loss of your own](your-own-loss.md).
"""


def _loss(entry: Entry) -> str:
    takes = "soft targets too" if entry.facts["targets"] == "soft" else "hard labels only"
    lines = [f"### `{entry.name}`\n", f"{entry.meaning[:1].upper()}{entry.meaning[1:]}.\n"]
    facts = [f"Source: {entry.source}.", f"Needs {HEADS[str(entry.facts['head'])]}; takes {takes}."]
    if entry.lr is not None:
        search = f"; to search, {terms.describe(entry.lr.search)}" if entry.lr.search else ""
        facts.append(f"Learning rate {default_text(entry.lr)}{search}.")
    lines += [textwrap.fill(" ".join(facts), 118, break_on_hyphens=False), ""]
    return "\n".join([*lines, *_parameters(entry.parameters)])


def _parameters(parameters: Mapping[str, Parameter]) -> list[str]:
    if not parameters:
        return []
    rows = [row for name, parameter in parameters.items() for row in _rows(name, parameter)]
    return [*_table(("parameter", "default", "search", "meaning"), rows), ""]


def _rows(name: str, parameter: Parameter) -> Iterator[tuple[str, ...]]:
    search = terms.describe(parameter.search) if parameter.search is not None else ""
    meaning = parameter.meaning
    if parameter.kind == "choice":
        meaning = f"{' or '.join(f'`{plain(word)}`' for word in parameter.choices)}: {meaning}"
    yield f"`{name}`", f"`{default_text(parameter)}`", search, meaning
    for word, below in parameter.expressions.items():
        yield from _rows(f"{name}.{word}", below)


def study_page() -> str:
    """Every key of a study's file, with its default and meaning."""
    parts = [NOTE, "# The study file\n", _FILE]
    for each in dataclasses.fields(study.StudySpec):
        key = str(each.metadata.get("key", each.name))
        parts += _section(key, get_type_hints(study.StudySpec)[each.name], each)
    return "\n".join(parts).rstrip() + "\n"


_FILE = """\
YAML, read strictly: an unknown key, a value out of range or of the wrong kind is refused with file, line,
rule and what was probably meant (`orchestrate validate`). `orchestrate plan` prints a study with its defaults
filled in. What touches results is frozen when a study begins; `audit`, `execution`, `resources`, `tracking`,
`report` and `question` may change later.
"""


def _section(key: str, kind: Any, field: dataclasses.Field[Any]) -> list[str]:
    head = [f"\n## `{key}`\n"]
    if key in BY_HAND:
        head += [textwrap.fill(BY_HAND[key], 118, break_on_hyphens=False), ""]
    if key == "protocols":
        tables = [
            ("long_tailed", protocol_config.LongTailedConfig),
            ("continual", protocol_config.ContinualConfig),
        ]
        return head + [line for name, cls in tables for line in _keys(cls, f"{name}.")]
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if key not in BY_HAND:
            head += [_prose(inspect.getdoc(kind) or ""), ""]
        return head + _keys(kind)
    if key not in BY_HAND:
        raise LookupError(f"docs/generate.py does not say what {key} is")
    return head


def _keys(cls: type[Any], prefix: str = "") -> list[str]:
    return [*_table(("key", "default", "meaning"), list(_key_rows(cls, prefix))), ""]


def _key_rows(cls: type[Any], prefix: str) -> Iterator[tuple[str, ...]]:
    meanings, hints = _meanings(cls), get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if (cls, field.name) in _HIDDEN:
            continue
        inner = _inner(hints[field.name])
        if inner is not None:
            yield (
                f"`{prefix}{field.name}`",
                "",
                meanings.get(field.name) or _prose(inspect.getdoc(inner) or ""),
            )
            yield from _key_rows(inner, f"{prefix}{field.name}.")
        else:
            words = _words(hints[field.name])
            meaning = " ".join(filter(None, (words, meanings.get(field.name, ""))))
            # A file says it by leaving the key out.
            meaning = meaning.replace("None: ", "left out: ").replace(", or None", "")
            yield f"`{prefix}{field.name}`", _default(field), meaning


_HIDDEN = {
    (contract.EvaluationConfig, "measures"),
    (contract.ModelConfig, "params"),
    (study.PrunerSpec, "params"),
    (study.SearchSpec, "objective"),
    (protocol_config.LongTailedConfig, "method"),
    (protocol_config.ContinualConfig, "strategy"),
}
"""Written in another way, which the section says."""


def _inner(hint: Any) -> type[Any] | None:
    """The dataclass whose keys stand below a key."""
    for kind in (hint, *get_args(hint)):
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            return kind
    return None


def _words(hint: Any) -> str:
    """The words that a key takes, where it takes only some."""
    words = [word for kind in (hint, *get_args(hint)) for word in get_args(kind) if isinstance(word, str)]
    words += [word for word in get_args(hint) if isinstance(word, str)]
    return f"{', '.join(f'`{word}`' for word in dict.fromkeys(words))}." if words else ""


def _meanings(cls: type[Any]) -> dict[str, str]:
    """The text that stands below each field in the source."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for node, below in zip(tree.body, tree.body[1:], strict=False):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            found[node.target.id] = _prose(inspect.cleandoc(str(below.value.value)))
    return found


def _prose(text: str) -> str:
    return re.sub(r"\s+", " ", text.replace("``", "`")).strip()


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "(needed)"
    if value is None or value == "":
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(_plain, value))}]`"
    return "" if isinstance(value, Mapping) else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    def line(cells: tuple[str, ...]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return [line(head), "|" + "---|" * len(head), *map(line, rows)]


PAGES = {"losses.md": losses_page, "study-file.md": study_page}


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
