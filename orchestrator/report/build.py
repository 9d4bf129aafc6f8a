"""Writes the report's files, each at once: a reader never meets half a file."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.contents import assemble
from orchestrator.report.figures import draw_figures
from orchestrator.report.latex import latex_files
from orchestrator.report.markdown import markdown_text
from orchestrator.report.page import page_html
from orchestrator.report.runs import run_urls
from orchestrator.report.spreadsheets import comparison_csv, table_csv, trials_csv
from orchestrator.study.spec import StudySpec
from orchestrator.tracking.whereabouts import recall


@dataclass(frozen=True)
class ReportFiles:
    """Where everything is."""

    answer: str
    """The report's first sentences; empty where there is none."""
    html: Path
    markdown: Path
    csvs: list[Path]
    tables: list[Path]
    """LaTeX."""
    figures: list[Path]


def write_report(
    spec: StudySpec, record: StudyRecord, study_dir: Path, refresh: int | None = None
) -> ReportFiles:
    """Write ``study_dir/report``: HTML page, Markdown, CSV and LaTeX tables, and figures (PNG and SVG).

    Works at any moment of a study, and again after it: what is there is replaced.

    Args:
        refresh: seconds after which a browser loads the page again.
    """
    folder = study_dir / "report"
    contents = assemble(spec, record)
    gallery = draw_figures(spec, record, study_dir)
    drawings, undrawn = gallery.drawings, gallery.undrawn
    urls = run_urls(spec, record, recall(study_dir))
    csvs = {
        "table.csv": table_csv(contents.main),
        **({"all_axes.csv": table_csv(contents.axes)} if contents.axes.rows else {}),
        "comparison.csv": comparison_csv(spec, contents),
        "trials.csv": trials_csv(spec, record),
        **{f"{name}.csv": table_csv(table) for name, table in contents.evaluations.items()},
        **{f"{name}.csv": table_csv(table) for name, table in contents.audits.tables.items()},
    }
    figures = [
        _write(folder / "figures" / f"{drawing.name}.{ending}", data)
        for drawing in drawings
        for ending, data in (("png", drawing.png), ("svg", drawing.svg.encode()))
    ]
    return ReportFiles(
        answer=" ".join(contents.answer),
        html=_write(folder / "index.html", page_html(contents, drawings, urls, undrawn, refresh).encode()),
        markdown=_write(folder / "report.md", markdown_text(contents, drawings, undrawn).encode()),
        csvs=[_write(folder / name, text.encode()) for name, text in csvs.items()],
        tables=[
            _write(folder / "latex" / f"{name}.tex", text.encode())
            for name, text in latex_files(contents).items()
        ],
        figures=figures,
    )


def _write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
