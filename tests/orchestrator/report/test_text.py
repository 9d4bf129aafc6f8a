from __future__ import annotations

from orchestrator.report.cells import Cell, Column, Table, row
from orchestrator.report.text import paragraph, table_text

COLUMNS = (Column("arm"), Column("near", "FPR95", numeric=True), Column("far", "FPR95", numeric=True))


def test_numbers_are_right_aligned_under_their_headings() -> None:
    table = Table("t", COLUMNS, (row("a", "1.0", "10.0"), row("long_arm", "22.5", "3.0")))
    assert table_text(table) == (
        "          FPR95  FPR95\n"
        "arm        near    far\n"
        "--------  -----  -----\n"
        "a           1.0   10.0\n"
        "long_arm   22.5    3.0"
    )


def test_a_star_marks_bold_cells_and_keeps_digits_in_line() -> None:
    table = Table("t", COLUMNS[:2], (row("a", "1.0"), (Cell("b"), Cell("2.0", bold=True))))
    assert table_text(table, stars=True).splitlines()[-2:] == ["a     1.0", "b     2.0*"]


def test_a_wide_table_is_split_between_groups_and_repeats_its_first_column() -> None:
    columns = (Column("arm"), *(Column("x" * 20, f"g{i // 2}", numeric=True) for i in range(6)))
    table = Table("t", columns, (row("a", *["1"] * 6),))
    lines = table_text(table).splitlines()
    assert max(len(line) for line in lines) <= 100
    # Four of 22 fit beside the arm; the third group moves as a whole.
    assert [line.split() for line in lines if line.split()[:1] in (["g0"], ["g2"])] == [
        ["g0", "g0", "g1", "g1"],
        ["g2", "g2"],
    ]


def test_long_text_is_wrapped_inside_its_column() -> None:
    table = Table("t", (Column("arm"), Column("reason")), (row("a", "word " * 20),))
    lines = table_text(table).splitlines()[2:]
    assert len(lines) == 3
    assert all(len(line) <= 3 + 2 + 46 for line in lines)


def test_a_table_without_rows_says_why() -> None:
    assert table_text(Table("t", COLUMNS, (), empty="Nothing yet.")) == "Nothing yet."


def test_paragraphs_are_indented_under_their_bullet() -> None:
    lines = paragraph("word " * 30, bullet="* ").splitlines()
    assert lines[0].startswith("* word")
    assert lines[1].startswith("  word")
