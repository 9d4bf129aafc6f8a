from __future__ import annotations

import dataclasses

import pytest

from orchestrator.report.metrics import describe, primary_metrics, resolve, secondary_metrics, table_metrics
from orchestrator.study.spec import ReportSpec
from workloads.contract import DataConfig

from .stories import SPEC


def test_a_declared_ood_name_means_the_headline_score() -> None:
    assert resolve("ood/near/fpr95", "msp") == "ood/msp/near/fpr95"
    assert resolve("ood/energy/near/fpr95", "msp") == "ood/energy/near/fpr95"
    assert resolve("calibration/ece", "msp") == "calibration/ece"


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("ood/near/fpr95", "lower"),
        ("ood/far/fpr95_ood_positive", "lower"),
        ("ood/far/auroc", "higher"),
        ("ood/far/aupr_in", "higher"),
        ("ood/far/aupr_out", "higher"),
        ("test/accuracy", "higher"),
        ("calibration/ece", "lower"),
        ("calibration/nll_ts", "lower"),
        ("calibration/brier", "lower"),
        ("calibration/temperature", "neither"),
        ("noise/fpr95", "lower"),
        ("made/up", "neither"),
    ],
)
def test_every_metric_knows_its_better_direction(name: str, better: str) -> None:
    assert describe(name, "msp").better == better


def test_another_score_is_named() -> None:
    assert describe("ood/energy/near/auroc", "msp").noun == "AUROC by energy"
    assert describe("ood/msp/near/auroc", "msp").noun == "AUROC"


def test_rates_are_shown_in_percent_and_nats_are_not() -> None:
    assert describe("ood/near/fpr95", "msp").show_mean_std(0.1234, 0.0123) == "12.3 ± 1.2"
    assert describe("test/accuracy", "msp").show_difference(0.0123) == "+1.23"
    assert describe("calibration/nll", "msp").show(0.1234) == "0.123"


def test_the_families_share_no_metric_and_cover_the_table() -> None:
    primary = {metric.name for metric in primary_metrics(SPEC)}
    secondary = {metric.name for metric in secondary_metrics(SPEC)}
    assert primary == {"ood/msp/near/fpr95", "ood/msp/far/fpr95"}
    assert not primary & secondary
    assert primary | secondary == {m.name for m in table_metrics(SPEC)} - {"calibration/temperature"}


def test_a_study_without_far_sets_has_no_far_columns() -> None:
    spec = dataclasses.replace(
        SPEC, data=DataConfig("digits", near_ood=("held_out",)), report=ReportSpec(("ood/near/fpr95",))
    )
    assert not [metric.name for metric in table_metrics(spec) if "/far/" in metric.name]


def test_a_primary_metric_outside_the_usual_columns_gets_its_own() -> None:
    spec = dataclasses.replace(SPEC, report=ReportSpec(("ood/blobs/auroc",)))
    assert table_metrics(spec)[-1].name == "ood/msp/blobs/auroc"
