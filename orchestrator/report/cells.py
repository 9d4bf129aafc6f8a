"""A table before it is text, Markdown, CSV or HTML: all four are made from the same cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.report.statistics import Summary


@dataclass(frozen=True)
class Column:
    """A heading of up to two lines; neighbours with the same ``group`` share it."""

    label: str
    group: str = ""
    numeric: bool = False
    """Right-aligned, in figures of equal width."""
    name: str = ""
    """In a CSV file; empty: the label."""
    measured: bool = False
    """Its cells show a ``Summary``, which a CSV file gives in full beside them."""


@dataclass(frozen=True)
class Source:
    """Which trials a cell was made from."""

    arm: str
    regime: str
    keys: tuple[str, ...] = ()
    """Of the trials, in the order of their seeds."""


@dataclass(frozen=True)
class Cell:
    """What is shown in one place."""

    text: str
    bold: bool = False
    summary: Summary | None = None
    """What the text was made from, unscaled."""
    spread: bool = False
    """Takes the place of the cells after it, which are empty: a row that has no values says why."""
    source: Source | None = None


@dataclass(frozen=True)
class Table:
    """Rows under columns, with what must be known to read them."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    """Sentences below the table."""
    empty: str = ""
    """Said in place of a table without rows."""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows)

    @property
    def keys(self) -> int:
        """How many columns name a row: those before the first with a group, all where none has one."""
        return next((i for i, column in enumerate(self.columns) if column.group), len(self.columns))

    def keep(self, rows: tuple[tuple[Cell, ...], ...]) -> Table:
        """The same table with other rows."""
        return replace(self, rows=rows)

    def pick(self, kept: Sequence[int]) -> Table:
        """The same table with these columns only."""
        columns = tuple(self.columns[index] for index in kept)
        return replace(
            self, columns=columns, rows=tuple(tuple(row[index] for index in kept) for row in self.rows)
        )

    def without(self, *labels: str) -> Table:
        """The same table without the columns so labelled."""
        return self.pick([i for i, column in enumerate(self.columns) if column.label not in labels])


def row(*texts: str) -> tuple[Cell, ...]:
    """A row of plain cells."""
    return tuple(Cell(text) for text in texts)


def spread_at(cells: Sequence[Cell]) -> int | None:
    """Where a row's spread cell stands, if it has one."""
    return next((i for i, cell in enumerate(cells) if cell.spread), None)
