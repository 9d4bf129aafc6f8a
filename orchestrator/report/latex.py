"""Tables for a paper: LaTeX with booktabs, to be pasted or \\input as they are.

A table that is too wide for a page of 5.5 inches stands in blocks, one below the other, each of which repeats
the columns that name a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from orchestrator.report.cells import Cell, Column, Table, spread_at
from orchestrator.report.contents import Contents
from orchestrator.report.latex_text import escape, is_plain, number
from orchestrator.report.page import families

COMPARED = (
    "Arm minus baseline, paired by seed, in the units of the table of results. Intervals: paired t test, "
    "not widened for the number of comparisons. Holm p: two-sided paired t test, corrected over the {count} "
    "comparisons that were declared. dz: difference over the standard deviation of the differences."
)
WIDTH = 380.0
"""Points that a block may be wide: less than a page's text in most styles (NeurIPS has 397)."""
_DIGIT, _LETTER, _GAP = 4.6, 4.7, 8.0
"""Points, of \\small Computer Modern, letters on average; and between two columns."""
_LINES = 42
"""Of one float: rows, and five for the headings of each block."""
_BROAD = 40
"""Letters of a column of text that is broken into lines."""


def latex_files(contents: Contents) -> dict[str, str]:
    """The tables that a paper could want, by the name of each file without its ending."""
    primary, _ = families(contents)
    tables = {
        "table": contents.main,
        "all_axes": contents.axes,
        # The CSV file has the checks, the verdicts and the secondary family too.
        "comparison": replace(primary, notes=(COMPARED.format(count=len(primary.rows)),)).without(
            "bootstrap", "p", "sign-flip p", "verdict", "seeds needed"
        ),
        **contents.evaluations,
        "chosen": contents.chosen.without("why"),
    }
    return {
        name: table_latex(table, f"{contents.title}-{name}")
        for name, table in tables.items()
        if table.rows or name in ("table", "comparison")
    }


def table_latex(table: Table, label: str) -> str:
    """A ``table`` environment with caption and label, or several where it is too long for a page.

    A table without rows is a comment that says why.

    Args:
        label: of the study and the table, after ``tab:``.
    """
    if not table.rows:
        return f"% {table.title}: {' '.join(table.empty.split()) or 'nothing was measured.'}\n"
    # A caption says how to read the cells; the other notes are for the text.
    first, *others = table.notes or ("",)
    caption = " ".join(filter(None, [f"{escape(table.title)}.", escape(first), *_about_bold(table, others)]))
    floats = [
        "\n".join(
            [
                r"\begin{table}[t]",
                r"  \centering",
                f"  \\caption{{{caption if not place else f'{escape(table.title)}, continued.'}}}",
                f"  \\label{{tab:{_label(label)}{f'-{place + 1}' * bool(place)}}}",
                r"  \small",
                r"  \setlength{\tabcolsep}{4pt}",
                "\n\n  \\medskip\n".join(_tabular(block) for block in blocks),
                r"\end{table}",
            ]
        )
        for place, blocks in enumerate(_pages(table))
    ]
    notes = [f"% {' '.join(note.split())}" for note in others]
    return "\n".join([*_head(table), "\n\n".join(floats), *notes]) + "\n"


def _head(table: Table) -> list[str]:
    """What the document needs, as comments."""
    needed = ["% Needs \\usepackage{booktabs}; made by orchestrate report, not edited by hand."]
    said = "".join([table.title, *table.notes[:1], *(cell.text for row in table.rows for cell in row)])
    strange = sorted({c for c in said if not is_plain(c)})
    if strange:
        needed.append(f"% Needs XeLaTeX or LuaLaTeX with a font that has: {' '.join(strange)}")
    return needed


def _about_bold(table: Table, notes: Sequence[str]) -> list[str]:
    """What bold means, where anything is bold."""
    bold = any(
        cell.bold and column.measured
        for row in table.rows
        for cell, column in zip(row, table.columns, strict=True)
    )
    said = (note for note in notes if note.startswith("Bold"))
    return [escape(note.replace(" (in plain text *)", "")) for note in said] if bold else []


def _label(text: str) -> str:
    """A label without characters that TeX or a reference would stumble over."""
    return re.sub(r"[^A-Za-z0-9:-]+", "-", text).strip("-")


def _pages(table: Table) -> list[list[Table]]:
    """The blocks of each float."""
    pages: list[list[Table]] = [[]]
    most, room = _LINES - 5, _LINES
    for start in range(0, len(table.rows), most):
        part = table.keep(table.rows[start : start + most])
        for chosen in _blocks(table):
            if pages[-1] and len(part.rows) + 5 > room:
                pages.append([])
                room = _LINES
            pages[-1].append(part.pick(chosen))
            room -= len(part.rows) + 5
    return pages


def _blocks(table: Table) -> list[list[int]]:
    """Column numbers of each block; the columns that name a row stand in all of them."""
    widths = [_width(table, index) for index in range(len(table.columns))]
    keys = table.keys if table.keys < len(table.columns) else min(2, len(table.columns))
    named = sum(widths[:keys])
    blocks, room = [list(range(keys))], WIDTH - named
    for _, columns in groupby(range(keys, len(table.columns)), lambda i: table.columns[i].group or i):
        group = list(columns)
        # Columns under one heading stay together, if they can.
        together = sum(widths[i] for i in group) <= WIDTH - named
        for part in [group] if together else [[i] for i in group]:
            needed = sum(widths[i] for i in part)
            if needed > room and len(blocks[-1]) > keys:
                blocks.append(list(range(keys)))
                room = WIDTH - named
            blocks[-1] += part
            room -= needed
    return blocks


def _width(table: Table, index: int) -> float:
    """About how wide a column is, in points, with the gap beside it."""
    column = table.columns[index]
    cells = [row[index].text for row in table.rows if spread_at(row) is None]
    if not column.numeric:
        longest = max(map(len, [column.label, *cells]), default=0)
        return min(longest, _BROAD) * _LETTER + _GAP
    widest = max((len(text) * _DIGIT for text in cells), default=0.0)
    # A heading over several columns is shared by them.
    share = sum(c.group == column.group for c in table.columns) if column.group else 1
    return max(widest, len(column.label) * _LETTER, len(column.group) * _LETTER / share) + _GAP


def _tabular(table: Table) -> str:
    kinds = "".join(_kind(table, index) for index in range(len(table.columns)))
    lines = [
        f"  \\begin{{tabular}}{{@{{}}{kinds}@{{}}}}",
        r"    \toprule",
        *_headings(table),
        r"    \midrule",
    ]
    lines += [f"    {_line(row, table.columns)} \\\\" for row in table.rows]
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}"])


def _kind(table: Table, index: int) -> str:
    if table.columns[index].numeric:
        return "r"
    longest = max((len(row[index].text) for row in table.rows if spread_at(row) is None), default=0)
    return f"p{{{_BROAD * _LETTER:.0f}pt}}" if longest > _BROAD else "l"


def _headings(table: Table) -> list[str]:
    labels = " & ".join(_heading(column) for column in table.columns)
    if not any(column.group for column in table.columns):
        return [f"    {labels} \\\\"]
    spans, rules, place = [], [], 1
    for name, columns in groupby(table.columns, lambda c: c.group):
        count = len(list(columns))
        spans.append(f"\\multicolumn{{{count}}}{{c}}{{{escape(name)}}}" if name else " & " * (count - 1))
        if name:
            rules.append(f"\\cmidrule(lr){{{place}-{place + count - 1}}}")
        place += count
    return [f"    {' & '.join(spans)} \\\\", f"    {' '.join(rules)}", f"    {labels} \\\\"]


def _heading(column: Column) -> str:
    return f"\\multicolumn{{1}}{{c}}{{{escape(column.label)}}}" if column.numeric else escape(column.label)


def _line(row: Sequence[Cell], columns: Sequence[Column]) -> str:
    end = spread_at(row)
    shown = row if end is None else row[:end]
    cells = [
        number(cell.text, bold=cell.bold) if column.numeric else _text(cell)
        for cell, column in zip(shown, columns, strict=end is None)
    ]
    if end is not None:
        cells.append(f"\\multicolumn{{{len(row) - end}}}{{l}}{{\\emph{{{escape(_short(row[end].text))}}}}}")
    return " & ".join(cells)


def _text(cell: Cell) -> str:
    text = f"\\textbf{{{escape(cell.text)}}}" if cell.bold else escape(cell.text)
    # The braces keep \\ what it is in a table.
    return text if len(cell.text) <= _BROAD else f"{{\\raggedright {text}\\par}}"


def _short(text: str) -> str:
    """A reason in a row's place, cut where it would leave the page; the CSV file has all of it."""
    return text if len(text) <= 50 else text[:49].rstrip() + "…"
