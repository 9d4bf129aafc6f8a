from __future__ import annotations

import dataclasses
import math
import statistics

import pytest

from orchestrator.report.cells import Table
from orchestrator.report.contents import assemble
from orchestrator.report.evaluation_tables import (
    calibration_table,
    geometry_table,
    robustness_table,
    strongest_attack,
)
from orchestrator.report.measured import values
from orchestrator.study.spec import StudySpec
from workloads.contract import EvaluationConfig, RobustnessConfig

from .stories import FULL, SPEC, Story, confirm_metrics, whole_story
from .test_tables import column


def one_trial(spec: StudySpec = FULL) -> Story:
    """The baseline with one complete confirm trial, so that every cell is a value of :mod:`.stories`."""
    story = Story(spec).opened()
    story.configured("cross_entropy", 0, {"lr": 0.1})
    story.confirmed("cross_entropy", 0, 100, confirm_metrics(spec, 0.3, 0.1, 0.97))
    return story


def cell(table: Table, group: str, label: str) -> str:
    return column(table, group, label)[0]


def test_calibration_stands_before_and_after_temperature_scaling() -> None:
    table = calibration_table(FULL, one_trial().record())
    assert cell(table, "ECE", "before TS") == "4.10"
    assert cell(table, "ECE", "after TS") == "1.23"
    assert cell(table, "adaptive ECE", "before TS") == "4.30"
    assert cell(table, "class-wise ECE", "after TS") == "0.33"
    assert cell(table, "KS", "before TS") == "3.90"
    assert cell(table, "NLL", "before TS") == "0.120"
    assert cell(table, "Brier", "after TS") == "0.0150"
    assert cell(table, "T*", "") == "1.700"


def test_the_errors_are_those_of_the_studys_number_of_bins() -> None:
    story = one_trial()
    story.events[-1]["metrics"]["calibration/ece_10"] = 0.5
    assert cell(calibration_table(FULL, story.record()), "ECE", "before TS") == "4.10"


def test_confidence_on_far_ood_is_the_mean_over_the_far_sets() -> None:
    # 0.6 on patches, 0.7 on blobs
    table = calibration_table(FULL, one_trial().record())
    assert cell(table, "confidence, far OOD", "before TS") == "65.0"
    assert cell(table, "confidence, far OOD", "after TS") == "58.5"
    assert cell(table, "confidence, near OOD", "before TS") == "80.0"
    assert cell(table, "confidence, ID test", "before TS") == "99.0"


def test_the_mean_over_sets_is_taken_seed_by_seed() -> None:
    story = whole_story(FULL)
    record = story.record()
    found = [
        (t.metrics["calibration/confidence/patches"] + t.metrics["calibration/confidence/blobs"]) / 2
        for t in record.arms["hem"].confirms["standard"].values()
    ]
    assert list(values(FULL, record, "hem", "calibration/confidence/far").values()) == pytest.approx(found)


def test_a_seed_without_one_of_the_sets_has_no_mean_over_them() -> None:
    story = whole_story(FULL)
    del story.events[-2]["metrics"]["calibration/confidence/blobs"]
    record = story.record()
    assert list(values(FULL, record, "hem", "calibration/confidence/far")) == [100, 101, 102, 103]
    texts = column(calibration_table(FULL, record), "confidence, far OOD", "before TS")
    assert [text.endswith("(n = 4)") for text in texts] == [False, False, True]


def test_angles_are_shown_in_degrees_and_kept_in_radians() -> None:
    table = geometry_table(FULL, one_trial().record())
    # 1.6 + 0.3 / 100 radians
    assert cell(table, "angle, degrees", "W-Inter") == f"{math.degrees(1.603):.1f}" == "91.8"
    index = next(i for i, c in enumerate(table.columns) if c.label == "W-Inter")
    summary = table.rows[0][index].summary
    assert summary is not None
    assert summary.mean == pytest.approx(1.603)


def test_the_even_angle_is_that_of_the_number_of_classes() -> None:
    story = one_trial()
    # 96.4 degrees for ten classes: Papyan, Han and Donoho 2020
    assert "arccos(-1/9) = 96.4 degrees" in " ".join(geometry_table(FULL, story.record()).notes)
    story.events[0]["data"]["num_classes"] = 3
    assert "arccos(-1/2) = 120.0 degrees" in " ".join(geometry_table(FULL, story.record()).notes)
    del story.events[0]["data"]["num_classes"]
    assert "arccos" not in " ".join(geometry_table(FULL, story.record()).notes)


def test_collapse_and_logit_norms_have_their_columns() -> None:
    table = geometry_table(FULL, one_trial().record())
    assert cell(table, "neural collapse", "NC1") == "0.123"
    assert cell(table, "neural collapse", "NC4, %") == "0.70"
    assert cell(table, "logit norm, mean", "ID test") == "12.000"
    # 8 on patches, 6 on blobs
    assert cell(table, "logit norm, mean", "far OOD") == "7.000"


def test_a_measure_that_one_arm_lacks_is_missing_there_and_one_that_all_lack_has_no_column() -> None:
    story = whole_story(FULL)
    for event in story.events:
        if event["event"] == "finished":
            event["metrics"].pop("geometry/nc3", None)
            if event["key"].startswith("hem-confirm"):
                event["metrics"].pop("geometry/nc1", None)
    table = geometry_table(FULL, story.record())
    assert column(table, "neural collapse", "NC1")[2] == "n/a"
    assert "NC3" not in [c.label for c in table.columns]


def test_robustness_falls_with_epsilon_and_names_the_strongest_attack() -> None:
    table = robustness_table(FULL, one_trial().record())
    worst = "worst-case accuracy at epsilon"
    assert [cell(table, worst, label) for label in ("0 (clean)", "2/255", "8/255")] == [
        "97.0",
        "64.0",
        "16.0",
    ]
    assert cell(table, "strongest attack alone, at epsilon", "8/255") == "pgd dlr"
    assert cell(table, "accuracy under corruptions", "mean") == "81.0"
    assert cell(table, "DAR* (reconstructed)", "novel") == "65.0"
    assert any("not checked against its authors' code" in note for note in table.notes)


def test_attacks_of_equal_strength_are_all_named() -> None:
    story = one_trial()
    metrics = story.events[-1]["metrics"]
    metrics["robustness/pgd/ce/eps_8"] = metrics["robustness/pgd/dlr/eps_8"]
    assert strongest_attack(FULL, story.record(), "cross_entropy", 8.0) == "pgd ce, pgd dlr"
    for name in metrics:
        if name.endswith("eps_8"):
            metrics[name] = 0.0
    assert strongest_attack(FULL, story.record(), "cross_entropy", 8.0) == "all alike"
    assert strongest_attack(FULL, story.record(), "hem", 8.0) == "n/a"


def test_the_strongest_attack_is_that_of_the_mean_over_the_seeds() -> None:
    story = Story(FULL).opened()
    story.configured("hem", 0, {"lr": 0.1})
    for seed, (ce, dlr) in zip((100, 101), ((0.1, 0.0), (0.1, 0.3)), strict=True):
        metrics = {"robustness/pgd/ce/eps_2": ce, "robustness/pgd/dlr/eps_2": dlr}
        story.confirmed("hem", 0, seed, metrics)
    assert statistics.mean((0.0, 0.3)) > 0.1
    assert strongest_attack(FULL, story.record(), "hem", 2.0) == "pgd ce"


def test_autoattack_has_its_columns_where_it_was_run() -> None:
    story = one_trial()
    assert "AutoAttack, at epsilon" not in {c.group for c in robustness_table(FULL, story.record()).columns}
    story.events[-1]["metrics"]["robustness/autoattack/eps_8"] = 0.125
    table = robustness_table(FULL, story.record())
    assert cell(table, "AutoAttack, at epsilon", "8/255") == "12.5"
    # Beside the others, in their order.
    groups = list(dict.fromkeys(c.group for c in table.columns))
    assert groups.index("strongest attack alone, at epsilon") < groups.index("AutoAttack, at epsilon")


def test_without_attacks_only_corruptions_and_dar_are_shown() -> None:
    robust = RobustnessConfig(attacks=())
    spec = dataclasses.replace(FULL, evaluation=dataclasses.replace(FULL.evaluation, robustness=robust))
    story = one_trial(spec)
    metrics = story.events[-1]["metrics"]
    for name in [n for n in metrics if "eps_" in n or n == "robustness/clean"]:
        del metrics[name]
    table = robustness_table(spec, story.record())
    assert {c.group for c in table.columns[2:]} == {"accuracy under corruptions", "DAR* (reconstructed)"}
    assert "AutoAttack" not in " ".join(table.notes)


@pytest.mark.parametrize(
    ("measures", "expected"),
    [
        ((), []),
        (("ood",), ["per_set", "scores", "selective"]),
        (("calibration",), ["calibration"]),
        (("geometry", "robustness"), ["geometry", "robustness"]),
    ],
)
def test_what_was_not_measured_has_no_table(measures: tuple[str, ...], expected: list[str]) -> None:
    evaluation = EvaluationConfig(measures, robustness=FULL.evaluation.robustness)  # type: ignore[arg-type]
    spec = dataclasses.replace(SPEC, evaluation=evaluation)
    assert list(assemble(spec, whole_story(spec).record()).evaluations) == expected
