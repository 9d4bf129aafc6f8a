"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from orchestrator.report.canvas import Drawing
from orchestrator.report.cells import Cell, Column, Table, spread_at
from orchestrator.report.contents import Contents

MOST_COLUMNS = 9
"""Columns of a grouped table side by side on a page."""


def page_html(contents: Contents, drawings: Sequence[Drawing]) -> str:
    """Fill ``page.html``. Everything is escaped but the figures, which are our own SVG."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["groups"] = heading_groups
    environment.filters["blocks"] = column_blocks
    environment.filters["placed"] = placed_cells
    return environment.get_template("page.html").render(c=contents, drawings=drawings)


def column_blocks(table: Table) -> list[Table]:
    """A wide table with grouped columns as several that fit a page.

    Each repeats the columns before the groups; neighbours under one heading stay together.
    """
    keys = table.keys
    blocks: list[list[int]] = [list(range(keys))]
    index = keys
    for _, columns in groupby(table.columns[keys:], lambda c: c.group):
        group = range(index, index := index + len(list(columns)))
        if len(blocks[-1]) > keys and len(blocks[-1]) + len(group) > MOST_COLUMNS:
            blocks.append(list(range(keys)))
        blocks[-1] += group
    return [table.pick(chosen) for chosen in blocks]


def heading_groups(table: Table) -> list[tuple[str, int]]:
    """The first line of a two-line heading: group and how many columns it spans; empty without groups."""
    if not any(column.group for column in table.columns):
        return []
    return [(name, len(list(columns))) for name, columns in groupby(table.columns, lambda c: c.group)]


def placed_cells(cells: Sequence[Cell], columns: Sequence[Column]) -> list[tuple[Cell, bool, int]]:
    """The cells of a row, whether each holds a number, and how many columns it spans."""
    end = spread_at(cells)
    if end is None:
        return [(cell, column.numeric, 1) for cell, column in zip(cells, columns, strict=True)]
    before = [(cell, column.numeric, 1) for cell, column in zip(cells[:end], columns, strict=False)]
    return [*before, (cells[end], False, len(columns) - end)]
