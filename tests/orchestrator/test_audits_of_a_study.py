"""What a study may say of audits, what its author is told about it, and what it will cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from orchestrator.campaign.record import StudyRecord
from orchestrator.errors import StudyInvalid
from orchestrator.report.plan_text import plan_text
from orchestrator.report.status_text import status_text
from orchestrator.study.changes import changes
from orchestrator.study.dump import to_yaml
from orchestrator.study.loader import parse_study
from orchestrator.study.plan import audits_at_most, make_plan
from orchestrator.study.resolve import trial_config
from orchestrator.study.spec import AuditSpec, BudgetSpec, ProxySpec, PrunerSpec, StudySpec
from orchestrator.study.warnings import warnings
from tests.orchestrator.simulation import study

from .bad_studies import GOOD
from .report.audit_stories import AUDITED, audited_story, searched_story

SEARCHED = GOOD.replace("  cross_entropy: {lr: 0.1}\n", "  cross_entropy: {lr: {choice: [0.05, 0.1]}}\n")


def parsed(audit: str, text: str = SEARCHED) -> StudySpec:
    return parse_study(text + f"audit: {audit}\n", "study.yaml")


def refused(audit: str, text: str = SEARCHED) -> str:
    with pytest.raises(StudyInvalid) as found:
        parsed(audit, text)
    (problem,) = found.value.problems
    return str(problem)


@pytest.mark.parametrize(
    ("text", "audit"),
    [
        ("{}", AuditSpec()),
        ("{pruned: 5, proxy: true}", AuditSpec(5, ProxySpec(10))),
        ("{proxy: false}", AuditSpec()),
        ("{pruned: null, proxy: null}", AuditSpec()),
        ("{proxy: {configurations: 5}}", AuditSpec(None, ProxySpec(5))),
        ("{proxy: {}}", AuditSpec(None, ProxySpec(10))),
    ],
)
def test_both_audits_are_optional_and_the_proxy_s_has_a_setting(text: str, audit: AuditSpec) -> None:
    spec = parsed(text)
    assert spec.audit == audit
    assert parse_study(to_yaml(spec), "again.yaml").audit == audit
    assert parse_study(SEARCHED, "study.yaml").audit == AuditSpec()


@pytest.mark.parametrize(
    ("audit", "says"),
    [
        ("{pruned: 0}", "audit.pruned: must be at least 1; got 0"),
        ("{pruned: -2}", "audit.pruned: must be at least 1; got -2"),
        ("{pruned: five}", "audit.pruned: must be a number; got 'five'"),
        ("{pruned: 2.5}", "audit.pruned: must be a whole number; got 2.5"),
        ("{pruned: true}", "audit.pruned: must be a number; got true"),
        ("{prunned: 2}", "audit.prunned: unknown key. Did you mean 'pruned'?"),
        ("{proxy: 5}", "audit.proxy: must be true, false or its settings; got 5. Write {configurations: K}"),
        ("{proxy: near}", "audit.proxy: must be true, false or its settings; got 'near'"),
        ("{proxy: {configurations: 0}}", "audit.proxy.configurations: must be at least 1; got 0"),
        ("{proxy: {size: 3}}", "audit.proxy.size: unknown key"),
        ("5", "audit: must be a mapping of keys to values; got 5"),
    ],
)
def test_what_is_no_audit_is_refused_with_its_place(audit: str, says: str) -> None:
    assert f"study.yaml:22: {says}" in refused(audit)


def test_the_proxy_audit_needs_real_ood_sets_and_their_evaluation() -> None:
    without = SEARCHED.replace("  near_ood: [held_out]\n  far_ood: [uniform, blobs]\n", "")
    without += "report: {primary: [test/accuracy]}\n"
    assert "audit.proxy: compares noise with real OOD sets, and data.near_ood and data.far_ood are empty" in (
        refused("{proxy: true}", without)
    )
    assert parsed("{pruned: 2}", without).audit.pruned == 2
    unmeasured = SEARCHED + "evaluate: [calibration]\nreport: {primary: [test/accuracy]}\n"
    assert "audit.proxy: needs the evaluation ood, which is not asked for. Add ood" in refused(
        "{proxy: true}", unmeasured
    )


def about_audits(spec: StudySpec) -> list[str]:
    return [warning for warning in warnings(spec) if warning.startswith("audit")]


def test_an_audit_of_nothing_is_warned_of() -> None:
    assert about_audits(parsed("{pruned: 2, proxy: true}")) == []
    unpruned = SEARCHED.replace("trials: 4", "trials: 4\n  pruner: none")
    (said,) = about_audits(parsed("{pruned: 2, proxy: true}", unpruned))
    assert said.startswith("audit.pruned: the pruner is none, so nothing is stopped early")
    assert about_audits(parsed("{proxy: true}", unpruned)) == []
    (said,) = about_audits(parsed("{pruned: 2}", GOOD))
    assert said == "audit: nothing is searched, so there is nothing to audit, in cross_entropy"
    fixed = GOOD.replace("tau: {choice: [0.04, 0.1]}", "tau: 0.04")
    assert about_audits(parsed("{pruned: 2, proxy: true}", fixed)) == [
        "audit: no arm is searched, so there is nothing to audit"
    ]
    (said,) = about_audits(parsed("{proxy: {configurations: 4}}"))
    assert "4 of an arm cannot show an order" in said
    assert about_audits(parsed("{proxy: {configurations: 5}}")) == []


def test_audits_may_be_added_changed_and_taken_away_later() -> None:
    with_audits = dataclasses.replace(study(), audit=AuditSpec(2, ProxySpec(3)))
    assert changes(study(), with_audits) == []
    assert changes(with_audits, study()) == []


def test_an_audit_trial_is_its_search_trial_with_the_test_opened_and_real_ood_measured() -> None:
    spec = dataclasses.replace(study(), audit=AuditSpec(2, ProxySpec(3)))
    params = {"tau": 0.1, "lr": 0.2}
    searched, audited, confirmed = (
        trial_config(spec, "logitnorm", params, 1, stage, "da7a") for stage in ("search", "audit", "confirm")
    )
    assert dataclasses.replace(audited, stage="search", evaluation=searched.evaluation) == searched
    assert (searched.evaluation.measures, audited.evaluation.measures) == ((), ("ood",))
    assert audited.evaluation.ood == searched.evaluation.ood
    assert confirmed.evaluation == spec.evaluation
    assert len({each.key for each in (searched, audited, confirmed)}) == 3
    # Which audit draws a configuration changes nothing of its trial.
    other = dataclasses.replace(spec, audit=AuditSpec(None, ProxySpec(9)))
    assert trial_config(other, "logitnorm", params, 1, "audit", "da7a").key == audited.key


def test_the_plan_counts_audit_trials_and_their_time() -> None:
    # Three arms of eight configurations on two seeds, three confirm seeds.
    plain = make_plan(study(), cores=1, measured={"hem": 2.0})
    spec = dataclasses.replace(study(), audit=AuditSpec(2, ProxySpec(3)))
    plan = make_plan(spec, cores=1, measured={"hem": 2.0})
    assert [arm.audit_trials for arm in plan.arms] == [10, 10, 10]
    assert (plan.audit_trials, plan.search_trials, plan.confirm_trials) == (30, 48, 9)
    assert plain.time is not None
    assert plan.time is not None
    assert plan.time.seconds == pytest.approx(plain.time.seconds + 30 * 2.0)
    text = " ".join(plan_text(spec, plan, []).split())
    assert "audit trials together cross_entropy 8 16 3 10 29" in text
    assert "all 24 48 9 30 87" in text
    assert "at most 2 of those that the pruner stopped, run to the end, and 3 of all, measured" in text
    assert "Audit" not in plan_text(study(), plain, []).split("The complete study")[0]


@pytest.mark.parametrize(
    ("audit", "pruner", "budget", "trials"),
    [
        # All but the winner may have been stopped; no configuration is audited twice.
        (AuditSpec(50), "median", None, 7 * 2),
        (AuditSpec(50, ProxySpec(50)), "median", None, 8 * 2),
        (AuditSpec(3, ProxySpec(2)), "none", None, 2 * 2),
        # With room for five trials at most four configurations begin.
        (AuditSpec(50), "median", 5, 3 * 2),
    ],
)
def test_no_more_is_planned_than_can_be_audited(
    audit: AuditSpec, pruner: Literal["median", "none"], budget: int | None, trials: int
) -> None:
    spec = study(audit=audit, budget=BudgetSpec(trials=budget))
    spec = dataclasses.replace(spec, search=dataclasses.replace(spec.search, pruner=PrunerSpec(pruner)))
    assert audits_at_most(spec, "hem") == trials
    assert make_plan(spec, cores=1).arms[2].audit_trials == trials


def test_status_counts_audits_once_they_are_drawn() -> None:
    def shown(record: StudyRecord, spec: StudySpec = AUDITED) -> dict[str, str]:
        text = status_text(spec, record, Path("runs/digits"), running=False, written=0.0, now=0.0)
        lines = [line for line in text.splitlines() if line.strip()]
        # An arm has a second line, below the table.
        return {line.split()[0]: line for line in reversed(lines)}

    before = shown(searched_story().record())
    assert before["arm"].endswith("audited")
    assert before["logitnorm"].endswith("0 of 12")
    assert before["Study"] == "Study digits: stopped"
    after = shown(audited_story().record())
    assert after["logitnorm"].endswith("12 of 12")
    assert after["Study"] == "Study digits: done"
    quiet = dataclasses.replace(AUDITED, audit=AuditSpec())
    assert shown(searched_story().record(), quiet)["arm"].endswith("confirmed")
    again = dataclasses.replace(AUDITED, search=dataclasses.replace(AUDITED.search, repeats=2))
    assert shown(searched_story().record(), again)["logitnorm,"].endswith("not audited")
