from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestrator.report.cells import Cell, Column, Table, row
from orchestrator.report.contents import assemble
from orchestrator.report.latex import latex_files, table_latex
from orchestrator.report.latex_text import escape, number

from .protocol_stories import STUDY, protocol_story
from .stories import FULL, whole_story

DOCUMENT = r"""\documentclass{article}
\usepackage[textwidth=5.5in,textheight=9in]{geometry}
\usepackage{booktabs}
\begin{document}
%s
\end{document}
"""


def small(*rows: tuple[Cell, ...], notes: tuple[str, ...] = ("Read it so.", "Bold: best.")) -> Table:
    columns = (
        Column("arm"),
        Column("n"),
        Column("near", "FPR95", numeric=True, measured=True),
        Column("far", "FPR95", numeric=True, measured=True),
    )
    return Table("Results", columns, rows, notes)


def test_a_table_is_a_booktabs_float_with_caption_and_label() -> None:
    table = small(
        (Cell("ce"), Cell("5"), Cell("28.7 ± 0.9"), Cell("-1.0")),
        (Cell("my_loss"), Cell("5"), Cell("20.0 ± 1.0", bold=True), Cell("n/a")),
    )
    assert table_latex(table, "my study-table").splitlines() == [
        r"% Needs \usepackage{booktabs}; made by orchestrate report, not edited by hand.",
        r"\begin{table}[t]",
        r"  \centering",
        r"  \caption{Results. Read it so. Bold: best.}",
        r"  \label{tab:my-study-table}",
        r"  \small",
        r"  \setlength{\tabcolsep}{4pt}",
        r"  \begin{tabular}{@{}llrr@{}}",
        r"    \toprule",
        r"     &  & \multicolumn{2}{c}{FPR95} \\",
        r"    \cmidrule(lr){3-4}",
        r"    arm & n & \multicolumn{1}{c}{near} & \multicolumn{1}{c}{far} \\",
        r"    \midrule",
        r"    ce & 5 & $28.7 \pm 0.9$ & $-1.0$ \\",
        r"    my\_loss & 5 & $\mathbf{20.0} \pm 1.0$ & n/a \\",
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        r"% Bold: best.",
    ]


def test_a_caption_speaks_of_bold_only_where_something_is_bold() -> None:
    plain = table_latex(small((Cell("ce"), Cell("5"), Cell("1.0"), Cell("2.0"))), "x")
    assert r"\caption{Results. Read it so.}" in plain


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("28.7 ± 0.9", r"$28.7 \pm 0.9$"),
        ("-9.5 to +11.6", "$-9.5$ to $+11.6$"),
        ("<.001", "$<.001$"),
        (">10,000", "$>10{,}000$"),
        (".031", "$.031$"),
        ("n/a", "n/a"),
        ("95 %", r"$95$ \%"),
        ("1.2 ± 0.1 (n = 3)", r"$1.2 \pm 0.1$ (n = $3$)"),
        ("", ""),
    ],
)
def test_numbers_become_mathematics(text: str, expected: str) -> None:
    assert number(text) == expected


def test_only_the_mean_is_bold() -> None:
    assert number("<.001", bold=True) == r"$\mathbf{<.001}$"
    assert number("1.2 ± 0.1", bold=True) == r"$\mathbf{1.2} \pm 0.1$"


def test_nothing_in_a_name_is_a_command() -> None:
    assert escape(r"a_b & 5% {x} $y$ #1 ~^\input{z}") == (
        r"a\_b \& 5\% \{x\} \$y\$ \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}input\{z\}"
    )
    assert escape("τ ≥ 0.04, λ → Δ, Å") == r"$\tau$ $\geq$ 0.04, $\lambda$ $\rightarrow$ $\Delta$, Å"


def test_characters_beyond_pdflatex_are_said_to_need_another_engine() -> None:
    text = table_latex(small(row("損失", "5", "1", "2")), "x")
    assert text.splitlines()[1] == "% Needs XeLaTeX or LuaLaTeX with a font that has: 失 損"


def test_a_wide_table_stands_in_blocks_that_repeat_the_first_columns() -> None:
    groups = [Column(side, f"G{n}", numeric=True) for n in range(8) for side in ("near", "far")]
    table = Table("Wide", (Column("arm"), *groups), ((Cell("ce"), *row(*["12.34 ± 0.56"] * 16)),))
    text = table_latex(table, "wide")
    assert text.count(r"\begin{table}") == 1
    assert text.count(r"\begin{tabular}") == 4
    assert text.count("    ce & ") == 4
    assert text.count(r"12.34 \pm 0.56") == 16
    # Neighbours under one heading are not parted.
    assert text.count(r"\multicolumn{2}{c}{G") == 8


def test_a_long_table_goes_on_in_further_floats() -> None:
    text = table_latex(small(*[row(f"a{n}", "5", "1.0", "2.0") for n in range(80)]), "long")
    assert re.findall(r"\\label\{(.*)\}", text) == ["tab:long", "tab:long-2", "tab:long-3"]
    assert text.count("continued") == 2
    assert re.findall(r"    (a\d+) & ", text) == [f"a{n}" for n in range(80)]


def test_no_float_is_longer_than_a_page() -> None:
    groups = [Column(side, f"G{n}", numeric=True) for n in range(8) for side in ("near", "far")]
    rows = tuple((Cell(f"a{n}"), *row(*["12.34 ± 0.56"] * 16)) for n in range(12))
    floats = table_latex(Table("Wide", (Column("arm"), *groups), rows), "wide").split(r"\end{table}")
    # Four blocks of 12 rows and five lines: two fit into 42 lines.
    assert [text.count(r"\begin{tabular}") for text in floats] == [2, 2, 0]


def test_an_empty_table_is_a_comment_that_says_why() -> None:
    empty = dataclasses.replace(small(), empty="No confirm trial\nhas finished yet.")
    assert table_latex(empty, "x") == "% Results: No confirm trial has finished yet.\n"


def test_a_row_that_says_why_it_is_empty_spans_the_table() -> None:
    spread = (Cell("hem"), Cell("not trained: it has none of its own", spread=True), Cell(""), Cell(""))
    text = table_latex(small(row("ce", "5", "1.0", "2.0"), spread), "x")
    assert r"    hem & \multicolumn{3}{l}{\emph{not trained: it has none of its own}} \\" in text


def test_the_comparison_for_a_paper_is_the_primary_family() -> None:
    text = latex_files(assemble(FULL, whole_story(FULL).record()))["comparison"]
    assert text.count(r"    logitnorm & ") == 2
    assert "secondary &" not in text
    assert "sign-flip p" not in text
    assert "Bootstrap" not in text
    assert "corrected over the 4 comparisons" in text


def test_a_long_text_is_broken_into_ragged_lines() -> None:
    table = Table("Why", (Column("arm"), Column("why")), (row("a", "short"), row("b", "word " * 12)))
    lines = table_latex(table, "why").splitlines()
    assert r"  \begin{tabular}{@{}lp{188pt}@{}}" in lines
    assert r"    a & short \\" in lines
    assert any(
        line.startswith(r"    b & {\raggedright word word ") and line.endswith(r"\par} \\") for line in lines
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_all_tables_compile_and_fit_the_page(tmp_path: Path) -> None:
    odd = dataclasses.replace(FULL, question="100 % _odd_ & #1")
    stories = ((odd, whole_story(FULL)), (STUDY, protocol_story()))
    tables = [
        text for spec, story in stories for text in latex_files(assemble(spec, story.record())).values()
    ]
    tables.append(table_latex(small(row(r"\x_{%}$&#~^|<>", '"`', "<.001", "-1.0 ± 2.0")), "odd"))
    (tmp_path / "all.tex").write_text(DOCUMENT % "\n\\clearpage\n".join(tables))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert "Float too large" not in done.stdout
