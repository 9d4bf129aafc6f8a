from __future__ import annotations

import dataclasses
import math

import pytest

from orchestrator.report.metrics import primary_metrics, secondary_metrics, table_metrics
from orchestrator.report.readings import describe
from orchestrator.study.metric_names import metric_names, resolve
from orchestrator.study.spec import ReportSpec
from workloads.contract import DataConfig

from .stories import FULL, SPEC


def test_a_declared_ood_name_means_the_headline_score() -> None:
    assert resolve("ood/near/fpr95", SPEC) == "ood/near/msp/fpr95_id_positive"
    assert resolve("ood/near/energy/fpr95", SPEC) == "ood/near/energy/fpr95_id_positive"
    assert resolve("calibration/ece_15", SPEC) == "calibration/ece_15"


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("ood/near/msp/fpr95_id_positive", "lower"),
        ("ood/far/msp/fpr95_ood_positive", "lower"),
        ("ood/far/msp/auroc", "higher"),
        ("ood/far/msp/aupr_in", "higher"),
        ("ood/far/msp/aupr_out", "higher"),
        ("test/accuracy", "higher"),
        ("calibration/ece_15", "lower"),
        ("calibration/nll_ts", "lower"),
        ("calibration/brier", "lower"),
        ("calibration/temperature", "neither"),
        ("calibration/ece_classwise_10_ts", "lower"),
        ("calibration/ks", "lower"),
        ("calibration/confidence/blobs", "neither"),
        ("ood/far/msp/oscr", "higher"),
        ("ood/blobs/msp/tied_fraction", "neither"),
        ("selective/msp/e_aurc", "lower"),
        ("selective/msp/failure_auroc", "higher"),
        ("selective/msp/failure_fpr95", "lower"),
        ("tuned/odin/epsilon", "neither"),
        ("geometry/nc4", "neither"),
        ("geometry/logit_norm_std/near", "neither"),
        ("robustness/clean", "higher"),
        ("robustness/pgd/scaled_ce/eps_0.5", "higher"),
        ("robustness/corruption/severity_5", "higher"),
        ("robustness/dar_star/mean", "higher"),
        ("noise/fpr95", "lower"),
        ("noise/logit_norm", "neither"),
        ("train/loss", "neither"),
        ("made/up", "neither"),
    ],
)
def test_every_metric_knows_its_better_direction(name: str, better: str) -> None:
    assert describe(name, "msp").better == better


def test_another_score_is_named() -> None:
    assert describe("ood/near/energy/auroc", "msp").noun == "AUROC by energy"
    assert describe("ood/near/msp/auroc", "msp").noun == "AUROC"


@pytest.mark.parametrize(
    ("name", "title", "noun"),
    [
        ("ood/far/msp/oscr", "OSCR far", "OSCR"),
        ("selective/knn/aurc", "AURC by knn", "AURC by knn"),
        (
            "calibration/ece_classwise_15_ts",
            "class-wise ECE after TS",
            "class-wise ECE after temperature scaling",
        ),
        ("calibration/confidence_ts/near", "confidence, near OOD after TS", None),
        ("calibration/temperature_at_bound", "T* at its bound", None),
        ("geometry/wc_inter", "angle, degrees WC-Inter", "WC-Inter"),
        ("geometry/nc2_w_equiangular", "neural collapse NC2 W angles", "NC2 W angles"),
        ("geometry/logit_norm_std/id_train", "logit norm, std ID train", None),
        ("robustness/worst/eps_0.5", "worst-case accuracy at epsilon 0.5/255", None),
        ("robustness/fgsm/scaled_ce/eps_8", "accuracy under fgsm, scaled_ce 8/255", None),
        (
            "robustness/autoattack/eps_8",
            "AutoAttack, at epsilon 8/255",
            "accuracy under AutoAttack, epsilon 8/255",
        ),
        ("robustness/corruption/jpeg_compression", "accuracy under corruptions jpeg compression", None),
        ("robustness/dar_star/novel", "DAR* (reconstructed) novel", "DAR* (reconstructed), novel"),
        ("tuned/energy-T_tuned/T", "T of energy-T_tuned", None),
        ("validation/logit_norm", "logit norm validation", None),
        ("calibration/bins/15/of", "calibration/bins/15/of", None),
        ("loss/saturated", "loss/saturated", None),
    ],
)
def test_a_metric_is_called_by_its_name_in_the_field(name: str, title: str, noun: str | None) -> None:
    assert describe(name, "msp").title == title
    assert noun is None or describe(name, "msp").noun == noun
    assert describe(name, "msp").name == name


def test_a_metric_with_a_better_direction_has_a_claim_for_its_sentence() -> None:
    for name in metric_names(FULL):
        metric = describe(name, "msp")
        assert metric.better != "neither", name
        assert metric.claim, name


def test_angles_are_shown_in_degrees() -> None:
    metric = describe("geometry/w_inter", "msp")
    assert metric.show_mean_std(math.pi / 2, math.pi / 180) == "90.0 ± 1.0"
    assert metric.unit == "degrees"


def test_rates_are_shown_in_percent_and_nats_are_not() -> None:
    assert describe("ood/near/msp/fpr95_id_positive", "msp").show_mean_std(0.1234, 0.0123) == "12.3 ± 1.2"
    assert describe("test/accuracy", "msp").show_difference(0.0123) == "+1.23"
    assert describe("calibration/nll", "msp").show(0.1234) == "0.123"


def test_the_families_share_no_metric_and_cover_the_table() -> None:
    primary = {metric.name for metric in primary_metrics(SPEC)}
    secondary = {metric.name for metric in secondary_metrics(SPEC)}
    assert primary == {"ood/near/msp/fpr95_id_positive", "ood/far/msp/fpr95_id_positive"}
    assert not primary & secondary
    assert primary | secondary == {m.name for m in table_metrics(SPEC)} - {"calibration/temperature"}


def test_a_study_without_far_sets_has_no_far_columns() -> None:
    spec = dataclasses.replace(
        SPEC, data=DataConfig("digits", near_ood=("held_out",)), report=ReportSpec(("ood/near/fpr95",))
    )
    assert not [metric.name for metric in table_metrics(spec) if "/far/" in metric.name]


def test_a_primary_metric_outside_the_usual_columns_gets_its_own() -> None:
    spec = dataclasses.replace(SPEC, report=ReportSpec(("ood/blobs/auroc",)))
    assert table_metrics(spec)[-1].name == "ood/blobs/msp/auroc"
