"""Tables and paragraphs for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from orchestrator.report.cells import Cell, Table, spread_at

WIDTH = 100
GAP = "  "
LONGEST_CELL = 46
"""Longer text is wrapped inside its column."""


def paragraph(text: str, *, bullet: str = "") -> str:
    """Wrapped to the terminal's width; the lines after a bullet are indented under it."""
    return textwrap.fill(
        text, WIDTH, initial_indent=bullet, subsequent_indent=" " * len(bullet), break_on_hyphens=False
    )


def table_text(table: Table, *, keys: int = 1, notes: bool = True, stars: bool = False) -> str:
    """The table in blocks that fit the width; each block repeats the first ``keys`` columns.

    ``stars`` marks bold cells, which plain text cannot show otherwise.
    """
    if not table.rows:
        return paragraph(table.empty)
    if stars:
        table = _starred(table)
    blocks = [_block(table, chosen, first=not i) for i, chosen in enumerate(_split(table, keys))]
    lines = ["\n\n".join(blocks)]
    if notes and table.notes:
        lines += ["", *(paragraph(note, bullet="  ") for note in table.notes)]
    return "\n".join(lines)


def _starred(table: Table) -> Table:
    """A star after bold cells; a space after their neighbours, so that the digits stay in line."""
    bold = {index for row in table.rows for index, cell in enumerate(row) if cell.bold}
    rows = tuple(
        tuple(
            Cell(cell.text + ("*" if cell.bold else " ")) if index in bold else cell
            for index, cell in enumerate(row)
        )
        for row in table.rows
    )
    return table.keep(rows)


def _split(table: Table, keys: int) -> list[list[int]]:
    """Column numbers of each block."""
    widths = _widths(table)
    blocks: list[list[int]] = [list(range(keys))]
    for index in range(keys, len(table.columns)):
        group = _group_from(table, index)
        width = sum(widths[i] + len(GAP) for i in blocks[-1])
        # Neighbours under one heading stay together.
        needed = sum(widths[i] + len(GAP) for i in group)
        if len(blocks[-1]) > keys and width + needed - len(GAP) > WIDTH:
            blocks.append(list(range(keys)))
        blocks[-1].append(index)
    return blocks


def _group_from(table: Table, index: int) -> list[int]:
    name = table.columns[index].group
    end = index + 1
    while name and end < len(table.columns) and table.columns[end].group == name:
        end += 1
    return list(range(index, end))


def _widths(table: Table) -> list[int]:
    return [
        max(
            len(column.label),
            len(column.group),
            *(min(len(row[index].text), LONGEST_CELL) for row in table.rows if not row[index].spread),
        )
        for index, column in enumerate(table.columns)
    ]


def _block(table: Table, chosen: Sequence[int], *, first: bool) -> str:
    widths = _widths(table)
    grouped = any(table.columns[i].group for i in chosen)
    lines = [_line(table, chosen, widths, [table.columns[i].group for i in chosen])] if grouped else []
    lines.append(_line(table, chosen, widths, [table.columns[i].label for i in chosen]))
    lines.append(GAP.join("-" * widths[i] for i in chosen))
    for row in table.rows:
        end = spread_at(row)
        if end is not None:
            # Said once, whatever the number of blocks.
            lines += _spread(row, widths, end) if first else []
            continue
        wrapped = [_wrap(row[i].text, widths[i]) for i in chosen]
        for depth in range(max(len(parts) for parts in wrapped)):
            texts = [parts[depth] if depth < len(parts) else "" for parts in wrapped]
            lines.append(_line(table, chosen, widths, texts))
    return "\n".join(lines)


def _spread(row: Sequence[Cell], widths: Sequence[int], end: int) -> list[str]:
    """A row that says something in place of its values."""
    before = GAP.join([*(cell.text.ljust(width) for cell, width in zip(row[:end], widths, strict=False)), ""])
    text = textwrap.wrap(row[end].text, WIDTH - len(before))
    return [(before if not i else " " * len(before)) + line for i, line in enumerate(text)]


def _line(table: Table, chosen: Sequence[int], widths: Sequence[int], texts: Sequence[str]) -> str:
    cells = [
        text.rjust(widths[i]) if table.columns[i].numeric else text.ljust(widths[i])
        for i, text in zip(chosen, texts, strict=True)
    ]
    return GAP.join(cells).rstrip()


def _wrap(text: str, width: int) -> list[str]:
    return [text] if len(text) <= width else textwrap.wrap(text, width)
