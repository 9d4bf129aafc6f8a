"""The report as Markdown (GitHub's tables)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.report.canvas import Drawing
from orchestrator.report.cells import Table
from orchestrator.report.contents import Contents


def markdown_text(contents: Contents, drawings: Sequence[Drawing], undrawn: Sequence[str] = ()) -> str:
    """One document, in the order of the HTML page; figures by relative path.

    Args:
        undrawn: why figures are missing, in sentences.
    """
    parts = [f"# {escape(contents.title)}"]
    parts += [escape(contents.question)] if contents.question else []
    parts.append(f"*{escape(contents.progress)}*")
    parts.append("## Answer")
    parts.append(escape(" ".join(contents.answer) or contents.comparison.empty))
    parts += ["Each primary comparison:", _list(contents.answers)] if contents.answers else []
    parts += _section(contents.main)
    parts += _section(contents.axes) if contents.axes.rows else []
    parts += _section(contents.comparison)
    if contents.secondary:
        parts += ["Also distinguishable:", _list(contents.secondary)]
    if drawings or undrawn:
        parts.append("## Figures")
        for drawing in drawings:
            parts.append(f"### {escape(drawing.title)}")
            parts.append(f"![{escape(drawing.title)}](figures/{drawing.name}.svg)")
            parts.append(escape(drawing.caption))
        parts += [_list(undrawn)] if undrawn else []
    for table in contents.evaluations.values():
        parts += _section(table)
    if contents.audits.sentences or contents.audits.tables:
        parts += ["## Audits of the method", _list(contents.audits.sentences)]
        for table in contents.audits.tables.values():
            parts += _section(table)
    for table in (contents.chosen, contents.budget, contents.provenance):
        parts += _section(table)
    parts += ["## Warnings", _list(contents.warnings) if contents.warnings else "None."]
    parts += _section(contents.failures)
    parts += _section(contents.runs)
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """User text as it is: nothing in it becomes markup, a table border or a new line."""
    flat = " ".join(text.split())
    return re.sub(r"([\\|<>*`\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", flat)


def table_markdown(table: Table) -> str:
    """Headings of two lines become one."""
    if not table.rows:
        return escape(table.empty)
    heads = [escape(f"{column.group} {column.label}".strip()) for column in table.columns]
    rules = ["---:" if column.numeric else ":---" for column in table.columns]
    rows = [
        [f"**{escape(cell.text)}**" if cell.bold else escape(cell.text) for cell in row] for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rules, *rows])


def _section(table: Table) -> list[str]:
    notes = [_list(table.notes)] if table.notes and table.rows else []
    return [f"## {escape(table.title)}", table_markdown(table), *notes]


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {escape(text)}" for text in sentences)
