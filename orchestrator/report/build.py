"""Writes the report's files, each at once: a reader never meets half a file."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.contents import assemble
from orchestrator.report.figures import draw_figures
from orchestrator.report.markdown import markdown_text
from orchestrator.report.page import page_html
from orchestrator.report.spreadsheets import comparison_csv, table_csv, trials_csv
from orchestrator.study.spec import StudySpec


@dataclass(frozen=True)
class ReportFiles:
    """Where everything is."""

    html: Path
    markdown: Path
    csvs: list[Path]
    figures: list[Path]


def write_report(spec: StudySpec, record: StudyRecord, study_dir: Path) -> ReportFiles:
    """Write ``study_dir/report``: HTML page, Markdown, CSV files and figures (PNG and SVG).

    Works at any moment of a study, and again after it: what is there is replaced.
    """
    folder = study_dir / "report"
    contents = assemble(spec, record)
    drawings = draw_figures(spec, record, study_dir)
    csvs = {
        "table.csv": table_csv(contents.main),
        **({"all_axes.csv": table_csv(contents.axes)} if contents.axes.rows else {}),
        "comparison.csv": comparison_csv(spec, contents),
        "trials.csv": trials_csv(spec, record),
        **{f"{name}.csv": table_csv(table) for name, table in contents.evaluations.items()},
    }
    figures = [
        _write(folder / "figures" / f"{drawing.name}.{ending}", data)
        for drawing in drawings
        for ending, data in (("png", drawing.png), ("svg", drawing.svg.encode()))
    ]
    return ReportFiles(
        html=_write(folder / "index.html", page_html(contents, drawings).encode()),
        markdown=_write(folder / "report.md", markdown_text(contents, drawings).encode()),
        csvs=[_write(folder / name, text.encode()) for name, text in csvs.items()],
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
