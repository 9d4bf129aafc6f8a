"""How much selection varies: the winners of repeated searches, and what their spread is."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from pathlib import Path

import pytest

from orchestrator.report.build import write_report
from orchestrator.report.cautions import cautions, progress
from orchestrator.report.cells import Table
from orchestrator.report.contents import assemble
from orchestrator.report.selection import in_repeat, selection_tables, spread
from orchestrator.report.summary import summary_text
from orchestrator.study.spec import ArmSpec, StudySpec

from .stories import SPEC, Story, confirm_metrics, whole_story

REPEATED = dataclasses.replace(SPEC, search=dataclasses.replace(SPEC.search, repeats=3))
NEAR = {
    # By arm and repeat: near FPR95, the same in every repeat but for the winner.
    ("cross_entropy", 1): 0.42,
    ("cross_entropy", 2): 0.40,
    ("logitnorm", 1): 0.30,
    ("logitnorm", 2): 0.35,
    ("hem", 1): 0.41,
    ("hem", 2): 0.45,
}


def repeated_story(spec: StudySpec = REPEATED, *, without: tuple[str, int] | None = None) -> Story:
    """The whole story, and two further searches of each arm with one configuration each."""
    story = whole_story(spec)
    story.events.pop()
    for (arm, repeat), near in NEAR.items():
        if (arm, repeat) == without:
            story.add("unselected", arm=arm, repeat=repeat, reason="all failed")
            continue
        params = {"lr": 0.1 * repeat}
        where = {"arm": arm, "repeat": repeat, "number": 0}
        story.add("configured", **where, params=params)
        story.add("selected", **where, params=params, value=0.1, reason="best of 1")
        for seed in spec.confirm.seeds:
            key = f"{arm}-again-{repeat}-{seed}"
            story.add("started", key=key, stage="confirm", protocol="standard", seed=seed, attempt=1, **where)
            # Seeds 100 to 104 differ by -.02, -.01, 0, .01 and .02: a standard deviation of sqrt(.00025).
            story.finished(key, "complete", confirm_metrics(spec, near + 0.01 * (seed - 102), 0.06), 2.0)
    story.add("closed", reason="done")
    return story


def rows(table: Table) -> list[dict[str, str]]:
    heads = [f"{c.group} {c.label}".strip() for c in table.columns]
    return [dict(zip(heads, (cell.text for cell in row), strict=True)) for row in table.rows]


def test_the_parts_of_a_spread_are_as_by_hand() -> None:
    found = spread([[1.0, 3.0], [2.0, 6.0], [5.0, 5.0]])
    # Variances 2, 8 and 0; means 2, 4 and 5, whose variance is 7/3.
    assert found.within == pytest.approx(math.sqrt(10 / 3))
    assert found.between == pytest.approx(math.sqrt(7 / 3))
    assert found.total == pytest.approx(math.sqrt(17 / 3))
    assert found.winners == 3


def test_a_winner_with_more_seeds_weighs_more_within_and_as_much_between() -> None:
    # Variances 1 (two degrees of freedom) and 8 (one): 10/3. Means 2 and 6.
    found = spread([[1.0, 2.0, 3.0], [4.0, 8.0], []])
    assert found.within == pytest.approx(math.sqrt(10 / 3))
    assert found.between == pytest.approx(math.sqrt(8.0))
    assert found.winners == 2


def test_one_winner_or_one_seed_each_leaves_a_part_unknown() -> None:
    assert spread([[1.0, 2.0]]).between is None
    assert spread([[1.0], [2.0]]).within is None
    assert spread([[1.0, 2.0]]).total is None
    assert spread([[1.0], [2.0]]).total is None


def test_each_winner_has_a_row_with_its_parameters_and_its_own_means() -> None:
    tables = selection_tables(REPEATED, repeated_story().record())
    table = rows(tables["selection"])
    assert [(r["arm"], r["repeat"]) for r in table] == [
        (arm, str(repeat)) for arm in ("cross_entropy", "logitnorm", "hem") for repeat in range(3)
    ]
    again = next(r for r in table if (r["arm"], r["repeat"]) == ("logitnorm", "2"))
    assert again["parameters of the winner"] == "lr = 0.2"
    assert (again["configurations"], again["n"]) == ("1", "5")
    assert again["FPR95 (ID+) near"] == "35.0 ± 1.6"
    first = next(r for r in table if (r["arm"], r["repeat"]) == ("logitnorm", "0"))
    main = {r["arm"]: r for r in rows(assemble(REPEATED, repeated_story().record()).main)}
    assert first["FPR95 (ID+) near"] == main["logitnorm"]["FPR95 (ID+) near"].removesuffix("*")
    assert first["configurations"] == "8"


def test_the_table_of_the_spread_is_in_the_units_of_the_metric() -> None:
    story = repeated_story()
    found = {
        (r["arm"], r["metric"]): r
        for r in rows(selection_tables(REPEATED, story.record())["selection_variance"])
    }
    row = found["hem", "FPR95 (ID+) near"]
    values = [
        [t.metrics["ood/near/msp/fpr95_id_positive"] for t in search.confirm_trials]
        for search in story.record().arms["hem"].searches
    ]
    assert [len(v) for v in values] == [5, 5, 5]
    means = [sum(v) / 5 for v in values]
    within = sum(sum((x - m) ** 2 for x in v) / 4 for v, m in zip(values, means, strict=True)) / 3
    middle = sum(means) / 3
    between = sum((m - middle) ** 2 for m in means) / 2
    shown = [100 * math.sqrt(part) for part in (within, between, within + between)]
    columns = ("over the seeds of one winner", "between the winners' means", "both")
    assert [row[c] for c in columns] == [f"{value:.2f}" for value in shown]
    assert row["winners"] == "3"


def test_the_sign_of_a_difference_is_followed_through_the_repeats() -> None:
    table = rows(selection_tables(REPEATED, repeated_story().record())["selection_differences"])
    found = {(r["arm"], r["metric"]): r for r in table}
    logitnorm, hem = (found[arm, "FPR95 (ID+) near"] for arm in ("logitnorm", "hem"))
    # .30 - .42 and .35 - .40; .41 - .42 and .45 - .40.
    assert (logitnorm["repeat 1"], logitnorm["repeat 2"]) == ("-12.0", "-5.0")
    assert logitnorm["sign"] == "the same in every repeat"
    assert (hem["repeat 1"], hem["repeat 2"], hem["sign"]) == ("-1.0", "+5.0", "changes")
    assert ("cross_entropy", "FPR95 (ID+) near") not in found


def test_a_repeat_without_a_winner_is_said_and_left_out() -> None:
    record = repeated_story(without=("logitnorm", 1)).record()
    tables = selection_tables(REPEATED, record)
    lost = next(r for r in rows(tables["selection"]) if (r["arm"], r["repeat"]) == ("logitnorm", "1"))
    assert lost["parameters of the winner"] == "all failed"
    assert lost["FPR95 (ID+) near"] == "n/a"
    (spreads,) = [
        r
        for r in rows(tables["selection_variance"])
        if (r["arm"], r["metric"]) == ("logitnorm", "FPR95 (ID+) near")
    ]
    assert spreads["winners"] == "2"
    (row,) = [
        r
        for r in rows(tables["selection_differences"])
        if (r["arm"], r["metric"]) == ("logitnorm", "FPR95 (ID+) near")
    ]
    assert (row["repeat 1"], row["sign"]) == ("n/a", "the same in 2 of 3 repeats")
    assert "logitnorm, repeat 1: nothing could be selected (all failed)." in cautions(REPEATED, record)
    assert progress(REPEATED, record).startswith("Finished: 40 of 45 confirm trials, those of 3 searches")


def test_an_arm_with_nothing_to_search_is_compared_as_it_is_in_every_repeat() -> None:
    arms = {**SPEC.arms, "cross_entropy": ArmSpec("cross_entropy", "cross_entropy", {})}
    spec = dataclasses.replace(REPEATED, arms=arms)
    record = repeated_story().record()
    assert in_repeat(spec, record, 2).arms["cross_entropy"] is record.arms["cross_entropy"]
    assert in_repeat(spec, record, 2).arms["hem"].selection["params"] == {"lr": 0.2}
    tables = selection_tables(spec, record)
    assert {r["arm"] for r in rows(tables["selection"])} == {"logitnorm", "hem"}
    assert len(tables["selection_differences"].rows) == 4


def test_a_study_without_repeats_has_none_of_these_tables_and_says_that_the_search_ran_once() -> None:
    contents = assemble(SPEC, whole_story().record())
    assert not [name for name in contents.evaluations if name.startswith("selection")]
    assert any("the search was run once" in note for note in contents.main.notes)
    repeated = assemble(REPEATED, repeated_story().record())
    assert any("rests on the first of 3 searches" in note for note in repeated.main.notes)


def test_the_main_tables_of_a_study_with_repeats_are_those_of_its_first_searches() -> None:
    alone, repeated = assemble(SPEC, whole_story().record()), assemble(REPEATED, repeated_story().record())
    assert repeated.main.rows == alone.main.rows
    assert repeated.comparison.rows == alone.comparison.rows
    assert repeated.chosen.rows == alone.chosen.rows


def test_what_selection_varies_by_is_in_every_form_of_the_report(tmp_path: Path) -> None:
    record = repeated_story().record()
    files = write_report(REPEATED, record, tmp_path)
    for path in (files.html, files.markdown):
        text = path.read_text()
        for title in (
            "How much selection itself varies",
            "Spread within and between winners",
            "Difference to cross_entropy in each repeat",
        ):
            assert title in text
    assert {"selection.csv", "selection_variance.csv", "selection_differences.csv"} <= {
        path.name for path in files.csvs
    }
    table = list(csv.DictReader(io.StringIO((tmp_path / "report" / "selection.csv").read_text())))
    assert float(table[5]["ood/near/msp/fpr95_id_positive/mean"]) == pytest.approx(0.35)
    trials = list(csv.DictReader(io.StringIO((tmp_path / "report" / "trials.csv").read_text())))
    assert {t["repeat"] for t in trials if t["stage"] == "confirm"} == {"0", "1", "2"}
    text = summary_text(REPEATED, record, tmp_path)
    assert "Spread within and between winners" in text
    assert max(map(len, text.splitlines())) <= 100
