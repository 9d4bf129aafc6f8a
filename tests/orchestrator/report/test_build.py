from __future__ import annotations

import csv
import dataclasses
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.build import ReportFiles, write_report
from orchestrator.report.summary import summary_text
from orchestrator.study.spec import StudySpec

from .protocol_stories import STUDY, protocol_story, write_streams
from .stories import FULL, SPEC, Story, confirm_metrics, whole_story, write_outputs

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Collects the cells of every table, and checks that tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.parts: list[str] = []
        """Headings inside what can be folded."""
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag in VOID:
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "h2":
            self.headings.append("")
        elif tag == "h3" and "summary" in self.open:
            self.parts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        elif "h2" in self.open:
            self.headings[-1] += data
        elif "h3" in self.open and "summary" in self.open:
            self.parts[-1] += data


@dataclasses.dataclass
class Built:
    spec: StudySpec
    record: StudyRecord
    study_dir: Path
    files: ReportFiles


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    study_dir = tmp_path_factory.mktemp("study")
    record = whole_story(FULL).record()
    write_outputs(FULL, record, study_dir)
    return Built(FULL, record, study_dir, write_report(FULL, record, study_dir))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def shown_of(row: dict[str, str]) -> list[str]:
    """A row of a CSV file as it is shown: without the digits beside its cells and the keys of its trials.

    A metric may be called mean itself: corruption/mean has its columns corruption/mean/mean and on.
    """
    return [
        value
        for name, value in row.items()
        if name != "trials" and (f"{name.rpartition('/')[0]}/n" not in row or f"{name}/n" in row)
    ]


def markdown_rows(path: Path) -> list[list[str]]:
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("*") for cell in line.strip("|").split(" | ")] for line in lines]


def test_every_file_is_there_and_no_temporary_one(built: Built) -> None:
    folder = built.study_dir / "report"
    files = built.files
    assert files.html == folder / "index.html"
    assert files.markdown == folder / "report.md"
    measured = ["per_set", "scores", "selective", "calibration", "geometry", "robustness"]
    names = ["table", "comparison", "trials", *measured]
    assert [p.name for p in files.csvs] == [f"{name}.csv" for name in names]
    assert [p.name for p in files.tables] == [
        f"{name}.tex" for name in ("table", "comparison", *measured, "chosen")
    ]
    assert {p.suffix for p in files.figures} == {".png", ".svg"}
    named = {files.html, files.markdown, *files.csvs, *files.tables, *files.figures}
    assert {p for p in folder.rglob("*") if p.is_file()} == named


def test_terminal_markdown_csv_and_html_show_the_same_digits(built: Built) -> None:
    page = Page(built.files.html.read_text())
    markdown = markdown_rows(built.files.markdown)
    text = summary_text(built.spec, built.record, built.study_dir)
    for row in read_csv(built.files.csvs[0]):
        shown = [row["arm"], row["n"], *(v for k, v in row.items() if f"{k}/mean" in row)]
        assert len(shown) == 16
        # On the page the table stands in two blocks, each beginning with the arm and n.
        assert shown[:9] in page.rows
        assert shown[:2] + shown[9:] in page.rows
        assert shown in markdown
        assert all(cell in text for cell in shown)


def test_the_comparison_is_the_same_in_every_format(built: Built) -> None:
    page = Page(built.files.html.read_text())
    markdown = markdown_rows(built.files.markdown)
    rows = read_csv(built.files.csvs[1])
    assert len(rows) == 26
    for row in rows:
        shown = list(row.values())[:13]
        # On the page each family has a table of its own.
        assert shown[1:] in page.rows
        assert [cell.replace("<", "\\<") for cell in shown] in markdown
    text = built.files.markdown.read_text().replace("\\<", "<")
    assert all(row["sentence"] in text for row in rows if row["family"] == "primary")


def test_every_evaluation_is_the_same_in_every_format(built: Built) -> None:
    page = Page(built.files.html.read_text())
    markdown = markdown_rows(built.files.markdown)
    for name in ("per_set", "scores", "selective", "calibration", "geometry", "robustness"):
        rows = read_csv(built.study_dir / "report" / f"{name}.csv")
        assert len(rows) >= 3
        for row in rows:
            shown = shown_of(row)
            assert shown in markdown
            on_page = [each for each in page.rows if each[: len(shown[:2])] == shown[:2]]
            assert all(any(cell in each for each in on_page) for cell in shown)


def test_a_studys_files_hold_only_what_was_measured(tmp_path: Path) -> None:
    story = Story().opened()
    for arm in SPEC.arms:
        story.configured(arm, 0, {"lr": 0.1})
        story.confirmed(arm, 0, 100, confirm_metrics(SPEC, 0.3, 0.1))
    files = write_report(SPEC, story.record(), tmp_path)
    assert "calibration.csv" in [path.name for path in files.csvs]
    assert "robustness.csv" not in [path.name for path in files.csvs]
    assert "Robustness" not in Page(files.html.read_text()).parts
    assert "Robustness" not in files.markdown.read_text()


def test_angles_are_given_in_full_in_radians(built: Built) -> None:
    for row in read_csv(built.study_dir / "report" / "geometry.csv"):
        mean, std = (math.degrees(float(row[f"geometry/w_inter/{part}"])) for part in ("mean", "std"))
        assert row["geometry/w_inter"] == f"{mean:.1f} ± {std:.1f}"


def test_full_precision_columns_give_the_shown_digits_when_rounded(built: Built) -> None:
    for row in read_csv(built.files.csvs[0]):
        mean, std = (
            float(row["ood/near/msp/fpr95_id_positive/mean"]),
            float(row["ood/near/msp/fpr95_id_positive/std"]),
        )
        assert row["ood/near/msp/fpr95_id_positive"] == f"{100 * mean:.1f} ± {100 * std:.1f}"
        assert row["ood/near/msp/fpr95_id_positive/n"] == "5"


def test_every_row_of_measured_cells_names_its_trials(built: Built) -> None:
    for name in ("table", "per_set", "geometry"):
        for row in read_csv(built.study_dir / "report" / f"{name}.csv"):
            assert row["trials"].split() == [f"{row['arm']}-confirm-1-{seed}" for seed in range(100, 105)]
    assert "trials" not in read_csv(built.files.csvs[1])[0]


def test_every_trial_is_in_the_trials_file(built: Built) -> None:
    rows = read_csv(built.files.csvs[2])
    assert [row["key"] for row in rows] == list(built.record.trials)
    failed = [row for row in rows if row["state"] == "failed"]
    assert {row["reason"] for row in failed} == {"the loss is NaN"}
    assert all(row["mu.scale"] == "" for row in rows if row["arm"] != "hem")


def test_the_page_nests_and_needs_nothing_beside_it(built: Built) -> None:
    text = built.files.html.read_text()
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object"}
    assert re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)) is None
    assert "@import" not in text


def test_the_page_has_its_parts_in_order(built: Built) -> None:
    assert Page(built.files.html.read_text()).headings == [
        "Answer",
        "Test results, msp score",
        "Paired comparison with cross_entropy",
        "Figures",
        "Further measurements",
        "Chosen parameters",
        "Budget",
        "Provenance",
        "Warnings",
        "Failures",
        "Runs",
    ]


def test_user_text_is_escaped_in_html_and_markdown(tmp_path: Path) -> None:
    spec = dataclasses.replace(SPEC, question='<script>alert("x")</script> | *bold*?')
    story = Story(spec).opened()
    story.configured("hem", 0, {"lr": 0.1})
    key = story.started("hem", "search", 0, 0)
    story.finished(key, "failed", {}, reason="<img src=x onerror=y>\n| broken | row")
    files = write_report(spec, story.record(), tmp_path)
    page = Page(files.html.read_text())
    assert not page.tags & {"script", "img"}
    markdown = files.markdown.read_text()
    assert "<script" not in re.sub(r"\\<", "", markdown)
    assert r"\<img src=x onerror=y\> \| broken \| row |" in markdown


def test_a_study_in_the_middle_of_its_search_has_a_report(tmp_path: Path) -> None:
    story = Story().opened()
    story.configured("hem", 0, {"mu.scale": 2000.0, "lr": 0.05})
    story.searched("hem", 0, 0, 0.3)
    story.started("hem", "search", 0, 1)
    files = write_report(SPEC, story.record(), tmp_path)
    text = files.html.read_text()
    assert "No confirm trial has finished yet" in text
    assert read_csv(files.csvs[0]) == []
    assert len(read_csv(files.csvs[2])) == 2
    assert [path.name for path in files.figures] == ["search-hem.png", "search-hem.svg"]


def test_a_study_that_was_never_opened_has_a_report(tmp_path: Path) -> None:
    files = write_report(SPEC, Story().record(), tmp_path)
    assert "The study was never opened." in files.html.read_text()


def test_a_failed_seed_and_missing_outputs_leave_a_whole_report(tmp_path: Path) -> None:
    story = whole_story()
    story.events[-2].update(state="failed", metrics={}, reason="the loss is NaN")
    files = write_report(SPEC, story.record(), tmp_path)
    page = Page(files.html.read_text())
    assert ["hem", "4 of 5 (1 failed)"] in [row[:2] for row in page.rows]
    text = files.html.read_text()
    assert "Scores of test images: in-distribution against every OOD set: not drawn" in text
    assert "cross_entropy seed 100 (trials/cross_entropy-confirm-1-100)" in text
    assert "and 8 more. The study&#39;s command makes them again" in text
    assert not re.search(r"\bnan\b", files.html.read_text())


def test_a_second_report_replaces_the_first(built: Built) -> None:
    before = {p: p.read_bytes() for p in (built.study_dir / "report").rglob("*") if p.is_file()}
    write_report(built.spec, built.record, built.study_dir)
    after = {p: p.read_bytes() for p in (built.study_dir / "report").rglob("*") if p.is_file()}
    assert after == before


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A study with several protocols."""
    study_dir = tmp_path_factory.mktemp("several")
    story = protocol_story()
    write_streams(story, study_dir)
    record = story.record()
    return Built(STUDY, record, study_dir, write_report(STUDY, record, study_dir))


def test_protocols_have_their_files_and_headings(several: Built) -> None:
    names = [path.name for path in several.files.csvs]
    assert {"all_axes.csv", "long_tailed.csv", "continual.csv", "continual-turned.csv", "cost.csv"} <= {
        *names
    }
    page = Page(several.files.html.read_text())
    assert page.open == []
    assert page.headings[:7] == [
        "Answer",
        "Test results, msp score",
        "All axes",
        "Paired comparison with cross_entropy",
        "Figures",
        "Further measurements",
        "Chosen parameters",
    ]
    assert page.parts[:3] == ["Long-tailed training", "Continual learning", "Continual learning: turned"]


def test_protocol_tables_are_the_same_in_every_format(several: Built) -> None:
    page = Page(several.files.html.read_text())
    markdown = markdown_rows(several.files.markdown)
    for name in ("all_axes", "long_tailed", "continual", "continual-turned", "cost"):
        for row in read_csv(several.study_dir / "report" / f"{name}.csv"):
            shown = shown_of(row)
            assert shown in markdown
            on_page = [each for each in page.rows if each[:2] == shown[:2]]
            assert all(any(cell in each for each in on_page) for cell in shown if cell)


def test_protocol_tables_give_every_digit(several: Built) -> None:
    for row in read_csv(several.study_dir / "report" / "long_tailed.csv"):
        if row["n"].startswith("not trained"):
            assert (row["arm"], row["method"]) == ("hem", "drw")
            assert row["imbalance/g_mean/mean"] == row["imbalance/g_mean/n"] == ""
            continue
        trials = several.record.arms[row["arm"]].confirms[f"long_tailed/{row['method']}"].values()
        mean = sum(trial.metrics["imbalance/g_mean"] for trial in trials) / 3
        assert float(row["imbalance/g_mean/mean"]) == pytest.approx(mean, rel=1e-12)
        assert row["imbalance/g_mean/n"] == "3"


def test_a_row_without_values_spans_the_page(several: Built) -> None:
    text = several.files.html.read_text()
    # n and the columns of each block: 5, 5 and 2 of long-tailed training.
    spans = [int(n) for n in re.findall(r'<td colspan="(\d+)" class="soft">not trained', text)]
    assert spans == [6, 6, 3]


def test_the_trials_file_has_what_each_protocol_comes_to(several: Built) -> None:
    (path,) = [path for path in several.files.csvs if path.name == "trials.csv"]
    found = {row["key"]: row for row in read_csv(path)}
    trial = found["hem-confirm-0-101-turned-naive"]
    # (.56 + .7 + .94) / 3
    assert float(trial["continual/domain_il/accuracy"]) == pytest.approx(2.2 / 3, rel=1e-12)
    assert trial["imbalance/balanced_accuracy"] == trial["continual/class_il/accuracy"] == ""
    assert trial["regime"] == "turned/naive"
