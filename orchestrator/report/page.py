"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from orchestrator.report.cells import Table
from orchestrator.report.contents import Contents
from orchestrator.report.figures import Drawing


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
    return environment.get_template("page.html").render(c=contents, drawings=drawings)


def heading_groups(table: Table) -> list[tuple[str, int]]:
    """The first line of a two-line heading: group and how many columns it spans; empty without groups."""
    if not any(column.group for column in table.columns):
        return []
    return [(name, len(list(columns))) for name, columns in groupby(table.columns, lambda c: c.group)]
