from __future__ import annotations

import dataclasses
import re
from html import unescape
from pathlib import Path

import pytest

from orchestrator.report.build import write_report
from orchestrator.report.canvas import Drawing
from orchestrator.report.cells import Cell, Source
from orchestrator.report.contents import assemble
from orchestrator.report.page import FEW, MANY, anchor, behind, href, page_html, sections
from orchestrator.study.spec import ReportSpec
from orchestrator.tracking.whereabouts import Whereabouts, note

from .protocol_stories import STUDY, protocol_story
from .stories import SPEC, Story, whole_story

HEM = Source("hem", "continual/replay", ("k1", "k2"))


def drawing(name: str, section: str) -> Drawing:
    return Drawing(name, f"Title of {name}", "A caption.", 100, "<svg></svg>", b"", section)


@pytest.fixture(scope="module")
def page() -> str:
    several = [drawing(f"f{n}", "Search") for n in range(MANY + 1)] + [drawing("g", "Calibration")]
    return page_html(
        assemble(STUDY, protocol_story().record()), several, undrawn=["Scores: not drawn, as ..."]
    )


def test_a_cell_leads_to_the_server_or_else_to_the_runs_on_the_page() -> None:
    assert href({("hem", "continual/replay"): "http://x/#/y"}, HEM) == "http://x/#/y"
    assert (
        href({("hem", "standard"): "http://x/#/y"}, HEM) == "#runs-hem-continual-replay" == f"#{anchor(HEM)}"
    )
    assert href({}, None) == href({}, Source("hem", "standard")) == ""
    assert behind(HEM) == "2 trials of hem, continual/replay: k1 k2"


def test_every_link_on_the_page_has_a_target(page: str) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(ids)
    assert {"results", "axes", "comparison", "figures", "budget", "provenance", "runs", "warnings"} <= links
    assert {f"runs-{arm}-long_tailed-plain" for arm in STUDY.arms} <= links


def test_every_measured_cell_names_its_trials(page: str) -> None:
    row = next(line for line in page.splitlines() if '<th scope="row">hem</th>' in line)
    cells = re.findall(r'<td class="num">(.*?)</td>', row)
    assert cells
    assert all('title="3 trials of hem, standard: hem-confirm-0-100 hem-' in cell for cell in cells)


def test_with_a_server_cells_and_arms_lead_there(tmp_path: Path) -> None:
    note(tmp_path, Whereabouts("http://mlflow.example", "3"))
    # Nothing searched and nothing measured but accuracy: few figures to draw.
    evaluation = dataclasses.replace(SPEC.evaluation, measures=())
    spec = dataclasses.replace(SPEC, evaluation=evaluation, report=ReportSpec(("test/accuracy",)))
    story = Story(spec).opened()
    for arm in spec.arms:
        story.configured(arm, 0, {"lr": 0.1})
        for seed in spec.confirm.seeds:
            story.confirmed(arm, 0, seed, {"test/accuracy": 0.9 + seed / 10_000})
    files = write_report(spec, story.record(), tmp_path)
    text = files.html.read_text()
    urls = [unescape(url) for url in re.findall(r'href="(http[^"]+)"', text)]
    assert len(set(urls)) == 3
    assert all(
        "/#/experiments/3/runs?workflowType=machine_learning&searchFilter=tags.%60orchestrate.arm%60" in url
        for url in urls
    )
    # The accuracy of each arm, and its row in the table of runs.
    assert len(urls) == 6
    assert re.search(r'<tr id="runs-hem-standard"><th scope="row"><a href="http', text)


def test_many_figures_of_one_kind_are_folded_and_few_are_not(page: str) -> None:
    folds = re.findall(r"<details( open)?>\s*<summary>(.+?) <span", page)
    opened = {name: bool(state) for state, name in folds}
    assert opened["Search"] is False
    assert opened["Calibration"] is True
    assert f"({MANY + 1} figures)" in page
    assert "(1 figure)" in page
    assert opened["Each primary comparison"] is (
        len(assemble(STUDY, protocol_story().record()).answers) <= FEW
    )


def test_what_could_not_be_drawn_is_said_under_the_figures(page: str) -> None:
    assert "<li>Scores: not drawn, as ...</li>" in page


def test_the_answer_is_two_sentences_before_all_else(page: str) -> None:
    answer = page[page.index('<h2 id="answer">') : page.index("<details")]
    assert len(re.findall(r"<p>.+?</p>", answer)) == 2
    assert page.index('id="answer"') < page.index("<nav") < page.index('id="results"')


def test_sections_keep_the_order_in_which_figures_were_drawn() -> None:
    several = [drawing("a", "One"), drawing("b", "Two"), drawing("c", "One")]
    assert [(name, [d.name for d in each]) for name, each in sections(several)] == [
        ("One", ["a", "c"]),
        ("Two", ["b"]),
    ]


def test_an_arm_named_like_markup_stays_text() -> None:
    contents = assemble(SPEC, whole_story().record())
    row = (Cell("<b>x</b>", source=Source("a", "standard")), *contents.runs.rows[0][1:])
    runs = contents.runs.keep((row,))
    text = page_html(dataclasses.replace(contents, runs=runs), [], {("a", "standard"): 'http://x/?"<'})
    assert "<b>x</b>" not in text
    assert 'href="http://x/?&#34;&lt;"' in text
