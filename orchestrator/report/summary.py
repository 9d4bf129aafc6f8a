"""What the terminal shows at the end of a study."""

from __future__ import annotations

from pathlib import Path

from orchestrator.campaign.record import StudyRecord
from orchestrator.report import numbers
from orchestrator.report.comparison import ordered_arms
from orchestrator.report.contents import Contents, assemble
from orchestrator.report.protocol_tables import compact, table_entries
from orchestrator.report.text import paragraph, table_text
from orchestrator.study import terms
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec


def summary_text(spec: StudySpec, record: StudyRecord, study_dir: Path) -> str:
    """The report in plain text, at most 100 columns wide.

    Only the distinguishable comparisons of the secondary family are shown; the files hold all of them.
    """
    contents = assemble(spec, record)
    parts = [
        _head(contents),
        _answer(contents),
        _section(contents.main.title, table_text(contents.main, stars=True)),
        *_axes(contents),
        _section(contents.comparison.title, _comparison(contents)),
        *_selection(contents),
        *_protocols(spec, contents),
        *_audits(contents),
        _section(contents.chosen.title, _chosen(spec, contents)),
        _section(contents.budget.title, table_text(contents.budget, notes=False)),
    ]
    if contents.warnings:
        parts.append(_section("Warnings", "\n".join(paragraph(w, bullet="! ") for w in contents.warnings)))
    if contents.failures.rows:
        parts.append(_section(contents.failures.title, table_text(contents.failures)))
    page = study_dir / "report" / "index.html"
    if page.is_file():
        parts.append(f"Report: {page}")
    return "\n\n".join(parts) + "\n"


def _head(contents: Contents) -> str:
    lines = [contents.title, *([paragraph(contents.question)] if contents.question else [])]
    return "\n".join([*lines, contents.progress])


def _answer(contents: Contents) -> str:
    if not contents.answer:
        return _section("Answer", paragraph(contents.comparison.empty))
    lines = [paragraph(text, bullet="* ") for text in contents.answers]
    return _section("Answer", "\n".join([paragraph(" ".join(contents.answer)), "", *lines]))


def _axes(contents: Contents) -> list[str]:
    return [_section(contents.axes.title, table_text(contents.axes))] if contents.axes.rows else []


def _protocols(spec: StudySpec, contents: Contents) -> list[str]:
    """The tables of the protocols with the columns that there is room for."""
    found = []
    for name, entry in table_entries(spec).items():
        table = contents.evaluations.get(name)
        if table is not None:
            first = next(regime for regime in regimes(spec).values() if regime.entry == entry)
            text = table_text(compact(spec, table, first), keys=3, notes=False)
            more = paragraph(f"  The report's files have all columns ({name}.csv) and say what each means.")
            found.append(_section(table.title, f"{text}\n{more}"))
    return found


def _selection(contents: Contents) -> list[str]:
    """What repeated searches show; each winner's row is left to the files."""
    names = ("selection_variance", "selection_differences")
    found = [contents.evaluations[name] for name in names if name in contents.evaluations]
    return [_section(table.title, table_text(table, notes=table is found[0])) for table in found]


def _audits(contents: Contents) -> list[str]:
    """What the audits say; their tables are left to the files."""
    if not contents.audits.sentences:
        return []
    lines = [paragraph(text, bullet="* ") for text in contents.audits.sentences]
    return [_section("Audits of the method", "\n".join(lines))]


def _chosen(spec: StudySpec, contents: Contents) -> str:
    """What the search chose; an arm of a single configuration had nothing to choose."""
    arms = ordered_arms(spec)
    rows = zip(arms, contents.chosen.rows, strict=True)
    searched = tuple(r for arm, r in rows if terms.space_size(spec.arms[arm].space) != 1)
    alone = len(arms) - len(searched)
    left_out = f"{numbers.counted(alone, 'arm')} of a single configuration, with nothing to choose."
    if not searched:
        return paragraph(left_out)
    text = table_text(contents.chosen.keep(searched).without("why"))
    return f"{text}\n{paragraph('  And ' + left_out)}" if alone else text


def _comparison(contents: Contents) -> str:
    pairs = list(zip(contents.comparisons, contents.comparison.rows, strict=True))
    shown = tuple(row for c, row in pairs if c.family == "primary" or c.distinguishable)
    hidden = len(pairs) - len(shown)
    # The checks are left to the files, so that the table fits in one block.
    table = contents.comparison.keep(shown).without("family", "bootstrap", "p", "sign-flip p", "seeds needed")
    text = table_text(table, keys=2, notes=False)
    if hidden:
        what = numbers.counted(hidden, "further comparison")
        text += "\n" + paragraph(
            f"  {what} of the secondary family without a distinguishable difference: see the report."
        )
    return text


def _section(title: str, body: str) -> str:
    return f"{title}\n{'=' * len(title)}\n{body}"
