"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

from orchestrator.report.canvas import Drawing, slug
from orchestrator.report.cells import Cell, Column, Source, Table, spread_at
from orchestrator.report.contents import Contents

MOST_COLUMNS = 9
"""Columns of a grouped table side by side on a page."""
FEW = 5
"""So many sentences are shown; more are folded."""
MANY = 12
"""More rows of a further table than this, or more figures of one kind, are folded."""


def page_html(
    contents: Contents,
    drawings: Sequence[Drawing],
    urls: Mapping[tuple[str, str], str] | None = None,
    undrawn: Sequence[str] = (),
    refresh: int | None = None,
) -> str:
    """Fill ``page.html``. Everything is escaped but the figures, which are our own SVG.

    Args:
        urls: by arm and regime, a page that shows the runs; without one, cells lead to the table of runs.
        undrawn: why figures are missing, in sentences.
        refresh: seconds after which a browser loads the page again; None: it does not.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "groups": heading_groups,
        "blocks": column_blocks,
        "placed": placed_cells,
        "families": families,
        "sections": sections,
        "anchor": anchor,
        "behind": behind,
        "href": partial(href, urls or {}),
        "outside": partial(_outside, urls or {}),
    }
    template = environment.get_template("page.html")
    return template.render(
        c=contents, drawings=drawings, undrawn=undrawn, few=FEW, many=MANY, refresh=refresh
    )


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


def families(contents: Contents) -> tuple[Table, Table]:
    """The comparison's table in two: the primary family, and the secondary one without notes."""
    table = contents.comparison
    pairs = list(zip(contents.comparisons, table.rows, strict=True))
    primary, secondary = (
        table.keep(tuple(row for c, row in pairs if c.family == family)).without("family")
        for family in ("primary", "secondary")
    )
    return primary, replace(secondary, notes=())


def sections(drawings: Sequence[Drawing]) -> list[tuple[str, list[Drawing]]]:
    """The figures by section, in their order."""
    found: dict[str, list[Drawing]] = {}
    for drawing in drawings:
        found.setdefault(drawing.section, []).append(drawing)
    return list(found.items())


def anchor(source: Source) -> str:
    """Where on the page the runs of an arm in a regime stand."""
    return f"runs-{slug(source.arm)}-{slug(source.regime)}"


def behind(source: Source) -> str:
    """What stands behind a cell, shown where the pointer rests."""
    count = "1 trial" if len(source.keys) == 1 else f"{len(source.keys)} trials"
    return f"{count} of {source.arm}, {source.regime}: {' '.join(source.keys)}"


def href(urls: Mapping[tuple[str, str], str], source: Source | None) -> str:
    """Where a cell leads; nowhere if it was not measured."""
    if source is None or not source.keys:
        return ""
    return urls.get((source.arm, source.regime)) or f"#{anchor(source)}"


def _outside(urls: Mapping[tuple[str, str], str], cell: Cell) -> object:
    """The name of an arm in the table of runs, as a link to the server where there is one."""
    from markupsafe import Markup

    url = urls.get((cell.source.arm, cell.source.regime)) if cell.source else None
    return Markup('<a href="{}">{}</a>').format(url, cell.text) if url else cell.text
