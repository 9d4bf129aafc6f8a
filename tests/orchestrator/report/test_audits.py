"""What a reader is told of the audits: sentences, tables, figures, and numbers for MLflow."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest

from orchestrator.report.agreement import Agreement
from orchestrator.report.audit import (
    Audits,
    assemble_audits,
    audit_summaries,
    proxy_sentences,
    pruning_sentences,
)
from orchestrator.report.audit_panels import audit_figures
from orchestrator.report.audit_tables import verdict
from orchestrator.report.build import write_report
from orchestrator.report.canvas import style
from orchestrator.report.cells import Table
from orchestrator.report.contents import assemble
from orchestrator.report.proxy_audit import Reading
from orchestrator.report.pruning_audit import pruning_audit
from orchestrator.report.summary import summary_text
from orchestrator.study.spec import ArmSpec, AuditSpec, StudySpec
from workloads.catalogue import Term

from .audit_stories import AUDITED, audited_story, searched_story
from .stories import SPEC, Story, whole_story


def rows(table: Table) -> list[dict[str, str]]:
    heads = [f"{c.group} {c.label}".strip() for c in table.columns]
    return [dict(zip(heads, (cell.text for cell in row), strict=True)) for row in table.rows]


def said(story: Story, spec: StudySpec = AUDITED) -> str:
    return " | ".join(assemble_audits(spec, story.record()).sentences)


def reading(order: Agreement, zeros: int = 0) -> Reading:
    return Reading("logitnorm", "configuration", "far", order, zeros)


def test_what_pruning_lost_is_said_with_its_interval_and_what_it_saved() -> None:
    text = said(audited_story())
    assert (
        "logitnorm: of 3 configurations that the pruner stopped, 3 drawn at random were run to the end; 1 "
        "would have been better than the chosen one (95 % interval of the share 0.8 % to 90.6 %), the best "
        "by 6.00 points of FPR95. Pruning saved 40 epochs (about 4.0 s of busy time), and this audit took "
        "12.0 s."
    ) in text
    assert (
        "logitnorm: values at the end of seed 0 (where half of the audited had been stopped) order "
        "configurations as the final ones do: tau +1.00, 95 % interval +0.17 to +1.00, 5 audited and "
        "completed configurations."
    ) in text
    assert "cross_entropy: its pruner stopped no configuration: there is no pruning to audit." in text


def test_an_order_is_claimed_where_the_interval_does_not_hold_zero_and_only_there() -> None:
    text = said(audited_story())
    assert (
        "The noise FPR95 orders the configurations of logitnorm as real far OOD does: tau +1.00, 95 % "
        "interval +0.65 to +1.00, 6 configurations."
    ) in text
    assert "configurations of logitnorm as real near OOD does: tau +0.73, 95 % interval +0.02" in text
    assert "It is not shown that the noise FPR95 orders the trials of all arms as real near OOD does" in text
    assert (
        "cross_entropy: the noise FPR95 is 0 in 6 of 6 configurations; among these it orders nothing" in text
    )
    assert "is the same for all of the configurations of cross_entropy: nothing to order." in text
    assert "the arms (means over the confirm seeds) as real near OOD does cannot be told from fewer" in text


@pytest.mark.parametrize(
    ("order", "begins", "word"),
    [
        (Agreement(12, 12, 0.4, 0.001, 0.7), "The noise FPR95 orders the configurations of", "yes"),
        (Agreement(12, 12, 0.4, 0.0, 0.7), "It is not shown that", "not shown"),
        (Agreement(12, 12, -0.4, -0.7, 0.0), "It is not shown that", "not shown"),
        (Agreement(12, 12, -0.4, -0.7, -0.001), "The noise FPR95 orders the configurations of", "opposite"),
        (Agreement(4, 4, 1.0), "Whether the noise FPR95 orders", "too few"),
        (Agreement(9, 9, None), "The noise FPR95, or that of real far OOD, is the same", "all tied"),
    ],
)
def test_no_claim_is_made_where_the_interval_holds_zero(order: Agreement, begins: str, word: str) -> None:
    (sentence,) = proxy_sentences(AUDITED, [reading(order)])
    assert sentence.startswith(begins)
    assert ("AGAINST real far OOD" in sentence) == (word == "opposite")
    assert verdict(order) == word


@pytest.mark.parametrize(
    ("low", "high", "claim"),
    [(0.1, 0.9, True), (-0.1, 0.9, False), (-0.9, -0.1, False)],
)
def test_the_early_order_is_claimed_by_the_same_rule(low: float, high: float, claim: bool) -> None:
    story = audited_story()
    audit = pruning_audit(AUDITED, story.record(), "logitnorm")
    assert audit is not None
    changed = dataclasses.replace(audit, order=Agreement(9, 9, (low + high) / 2, low, high))
    _, sentence = pruning_sentences(AUDITED, story.record(), changed)
    assert (
        ") order configurations as the final ones do" in sentence and "not shown" not in sentence
    ) == claim
    assert ("AGAINST" in sentence) == (high < 0)


def test_before_and_while_they_run_the_audits_say_so() -> None:
    opened = Story(AUDITED).opened()
    assert said(opened).startswith(
        "Audits begin when everything is chosen; still searching: cross_entropy, log"
    )
    text = said(searched_story())
    assert text.startswith("0 of 24 audit trials have ended: what is shown is provisional.")
    assert "logitnorm: of 3 configurations that the pruner stopped none has been audited yet." in text
    assert "What" not in said(audited_story()).split(" | ")[0]
    assert "provisional" not in said(audited_story())


def test_a_study_without_audits_says_nothing_of_them() -> None:
    story = whole_story()
    assert assemble_audits(story.spec, story.record()) == Audits()
    assert assemble(story.spec, story.record()).audits == Audits()
    with style():
        assert audit_figures(story.spec, story.record()) == ()


def test_an_arm_that_failed_or_is_not_searched_is_named() -> None:
    story = Story(AUDITED).opened()
    story.add("unselected", arm="logitnorm", reason="all failed")
    story.add("unselected", arm="cross_entropy", reason="all failed")
    assert "logitnorm: not audited, as nothing could be selected." in said(story)
    fixed = ArmSpec("cross_entropy", "cross_entropy", {"lr": Term("fixed", (0.1,))})
    spec = dataclasses.replace(AUDITED, arms={**AUDITED.arms, "cross_entropy": fixed})
    assert "Nothing is searched, so there is nothing to audit, in cross_entropy." in said(
        audited_story(), spec
    )


def test_an_audited_configuration_that_failed_is_named() -> None:
    story = searched_story()
    key = story.started("logitnorm", "audit", 3, 0)
    story.finished(key, "failed", {}, 1.0, "lost")
    assert "logitnorm: 1 audited configuration left out, as a trial of it failed (no. 3)." in said(story)


def test_the_tables_hold_what_the_audits_found() -> None:
    tables = assemble_audits(AUDITED, audited_story().record()).tables
    assert list(tables) == ["audit_pruning", "audit_proxy", "audit_configurations"]
    pruning = rows(tables["audit_pruning"])[1]
    assert pruning["configurations audited"] == "3 of 3"
    assert (pruning["of the audited better than chosen"], pruning["of the audited regret, points"]) == (
        "1 of 3",
        "6.00",
    )
    assert (pruning["saved epochs"], pruning["saved time"], pruning["audit took"]) == (
        "40",
        "4.0 s",
        "12.0 s",
    )
    proxy = {(r["over"], r["real OOD"]): r for r in rows(tables["audit_proxy"])}
    assert proxy["configurations of logitnorm", "far"]["95 % interval"] == "+0.65 to +1.00"
    assert proxy["configurations of logitnorm", "far"]["same order?"] == "yes"
    assert proxy["all trials", "near"]["noise FPR95 = 0"] == "13"
    configurations = {(r["arm"], r["no."]): r for r in rows(tables["audit_configurations"])}
    assert len(configurations) == 12
    two = configurations["logitnorm", "2"]
    assert (two["drawn for"], two["stopped at"]) == ("pruned and proxy", "epoch 5 of seed 0")
    assert (two["noise FPR95 then"], two["noise FPR95 at the end"]) == ("90.0", "15.0")
    assert (two["real FPR95 near"], two["real FPR95 far"], two["better than chosen"]) == (
        "35.0",
        "7.5",
        "yes",
    )
    zero = configurations["logitnorm", "0"]
    assert (zero["drawn for"], zero["stopped at"], zero["noise FPR95 then"]) == ("proxy", "complete", "n/a")
    ruled_out = configurations["logitnorm", "5"]
    assert (ruled_out["stopped at"], ruled_out["better than chosen"]) == ("pruned", "")


def test_the_figures_show_what_was_audited() -> None:
    with style():
        pruning, proxy = audit_figures(AUDITED, audited_story().record())
        assert audit_figures(AUDITED, searched_story().record()) == ()
    assert (pruning.name, proxy.name) == ("audit-pruning", "audit-proxy")
    # Of the three audited ones of logitnorm one lies below the line; cross_entropy has nothing to show.
    assert "logitnorm" in pruning.svg
    assert "cross_entropy" not in pruning.svg
    assert "far OOD FPR95" in proxy.svg
    assert "cross_entropy" in proxy.svg


def test_page_markdown_and_spreadsheets_have_the_audits_and_the_rest_is_as_without(tmp_path: Path) -> None:
    story = audited_story()
    files = write_report(AUDITED, story.record(), tmp_path)
    page, text = files.html.read_text(), files.markdown.read_text()
    for words in ("Audits of the method", "Audit of pruning", "Audit of the proxy", "Audited configurations"):
        assert words in page
        assert words in text
    assert "nothing that was chosen, and no other table, rests on them" in page
    with (tmp_path / "report" / "audit_proxy.csv").open() as file:
        assert {row["real OOD"] for row in csv.DictReader(file)} == {"near", "far", "patches", "blobs"}
    with (tmp_path / "report" / "trials.csv").open() as file:
        stages = [row["stage"] for row in csv.DictReader(file)]
    assert stages.count("audit") == 24
    quiet = dataclasses.replace(AUDITED, audit=AuditSpec())
    without = assemble(quiet, searched_story(quiet).record())
    contents = assemble(AUDITED, story.record())
    assert contents.main == without.main
    assert contents.comparison == without.comparison
    assert contents.budget == without.budget
    assert assemble(quiet, story.record()).audits == Audits()


def test_the_terminal_says_what_the_audits_found(tmp_path: Path) -> None:
    text = " ".join(summary_text(AUDITED, audited_story().record(), tmp_path).split())
    assert "Audits of the method" in text
    assert "orders the configurations of logitnorm as real far OOD does: tau +1.00" in text
    assert "Audits" not in summary_text(SPEC, whole_story().record(), tmp_path)


def test_the_numbers_for_mlflow_are_those_of_the_tables() -> None:
    summaries = audit_summaries(AUDITED, audited_story().record())
    assert set(summaries) == set(AUDITED.arms), "each arm has an audit run, and nothing else has"
    own = summaries["logitnorm"]
    assert own["audit/pruned/audited"] == 3
    assert own["audit/pruned/better"] == 1
    assert own["audit/pruned/regret"] == pytest.approx(0.06)
    assert own["audit/proxy/configurations"] == 6
    assert own["audit/proxy/far/tau"] == pytest.approx(1.0)
    assert own["audit/proxy/far/tau_low"] == pytest.approx(0.645, abs=1e-3)
    assert "audit/proxy/near/tau" not in summaries["cross_entropy"], "all tied"
    assert summaries["cross_entropy"]["audit/pruned/stopped"] == 0
