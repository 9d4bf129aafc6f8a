from __future__ import annotations

import dataclasses
import math

import pytest

from orchestrator.report.metrics import (
    headings,
    primary_metrics,
    reading,
    secondary_metrics,
    table_metrics,
)
from orchestrator.report.readings import describe
from orchestrator.study.metric_names import metric_names, resolve
from orchestrator.study.spec import ReportSpec
from workloads.contract import DataConfig

from .protocol_stories import STUDY, with_protocols
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
        ("train/forward_passes", "neither"),
        ("train/skipped", "neither"),
        ("imbalance/g_mean", "higher"),
        ("imbalance/ece_15/few", "lower"),
        ("imbalance/recall/3", "higher"),
        ("imbalance/train_images/3", "neither"),
        ("continual/class_il/forgetting", "lower"),
        ("continual/class_il/masked/forgetting_mammoth", "lower"),
        ("continual/task_il/bwt", "higher"),
        ("continual/task_il/fwt", "higher"),
        ("continual/domain_il/after_3/ece_15_ts", "lower"),
        ("continual/domain_il/after_3/auroc_near", "higher"),
        ("long_tailed/drw:imbalance/worst_class", "higher"),
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
        ("train/stressed", "images stressed", None),
        ("imbalance/balanced_accuracy", "Balanced accuracy", "balanced accuracy"),
        ("imbalance/accuracy/few", "accuracy by class size few", "accuracy on rare classes"),
        ("imbalance/accuracy/none", "imbalance/accuracy/none", None),
        ("imbalance/recall/7", "recall class 7", "recall of class 7"),
        ("long_tailed/drw:imbalance/worst_class", "worst class (long_tailed/drw)", None),
        ("own/drw:test/accuracy", "Accuracy (own/drw)", "accuracy"),
        ("continual/class_il/accuracy", "ACC class-IL", "average accuracy after the last task"),
        ("continual/class_il/masked/accuracy", "masked ACC class-IL", None),
        ("continual/class_il/after_1/accuracy", "ACC after 1 task class-IL", "average accuracy after 1 task"),
        ("continual/domain_il/after_2/ece_10", "ECE before TS after 2 tasks domain-IL", "ECE after 2 tasks"),
        ("continual/task_il/forgetting_avalanche", "forgetting, first - last task-IL", None),
        ("continual/made_up/accuracy", "continual/made_up/accuracy", None),
        ("continual/class_il/after_x/accuracy", "continual/class_il/after_x/accuracy", None),
        # A score's own colon is no regime's.
        ("ood/near/energy:T=0.1/auroc", "AUROC by energy:T=0.1 near", None),
        ("calibration/bins/15/of", "calibration/bins/15/of", None),
        ("loss/saturated", "loss/saturated", None),
    ],
)
def test_a_metric_is_called_by_its_name_in_the_field(name: str, title: str, noun: str | None) -> None:
    assert describe(name, "msp").title == title
    assert noun is None or describe(name, "msp").noun == noun
    assert describe(name, "msp").name == name


def test_a_metric_with_a_better_direction_has_a_claim_for_its_sentence() -> None:
    for name in (*metric_names(FULL), *metric_names(STUDY)):
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


def test_differences_of_accuracies_along_a_stream_are_points() -> None:
    metric = describe("continual/class_il/forgetting", "msp")
    assert (metric.show_difference(-0.0123), metric.unit) == ("-1.23", "points")


def test_the_headings_are_the_main_regime_and_the_first_of_each_further_protocol() -> None:
    assert [regime.name for regime in headings(STUDY)] == [
        "standard",
        "long_tailed/plain",
        "continual/replay",
    ]
    assert [regime.name for regime in headings(SPEC)] == ["standard"]
    spec = with_protocols("turned", "long_tailed")
    assert [regime.name for regime in headings(spec)] == ["turned/naive", "long_tailed/plain"]


def test_a_joint_run_is_a_heading_only_where_there_is_no_other_stream() -> None:
    spec = with_protocols("standard", "continual")
    joint = dataclasses.replace(spec.protocols["continual"], variants=("joint",))
    spec = dataclasses.replace(spec, protocols={**spec.protocols, "continual": joint})
    assert [regime.name for regime in headings(spec)] == ["standard", "continual/joint"]
    names = [metric.name for metric in secondary_metrics(spec) if "continual" in metric.name]
    assert names == ["continual/class_il/accuracy"]


@pytest.mark.parametrize(
    ("name", "regime"),
    [
        ("test/accuracy", ""),
        ("standard:test/accuracy", ""),
        ("imbalance/g_mean", "long_tailed/plain"),
        ("long_tailed/drw:imbalance/g_mean", "long_tailed/drw"),
        ("continual/domain_il/accuracy", "turned/naive"),
    ],
)
def test_only_a_metric_of_another_regime_than_the_main_one_says_which(name: str, regime: str) -> None:
    assert reading(name, STUDY).regime == regime
