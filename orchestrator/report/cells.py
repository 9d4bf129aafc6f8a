"""A table before it is text, Markdown, CSV or HTML: all four are made from the same cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A heading of up to two lines; neighbours with the same ``group`` share it."""

    label: str
    group: str = ""
    numeric: bool = False
    """Right-aligned, in figures of equal width."""


@dataclass(frozen=True)
class Cell:
    """What is shown in one place."""

    text: str
    bold: bool = False


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

    def keep(self, rows: tuple[tuple[Cell, ...], ...]) -> Table:
        """The same table with other rows."""
        return Table(self.title, self.columns, rows, self.notes, self.empty)

    def without(self, *labels: str) -> Table:
        """The same table without the columns so labelled."""
        kept = [index for index, column in enumerate(self.columns) if column.label not in labels]
        columns = tuple(self.columns[index] for index in kept)
        rows = tuple(tuple(row[index] for index in kept) for row in self.rows)
        return Table(self.title, columns, rows, self.notes, self.empty)


def row(*texts: str) -> tuple[Cell, ...]:
    """A row of plain cells."""
    return tuple(Cell(text) for text in texts)
