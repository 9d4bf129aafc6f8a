from __future__ import annotations

import pytest

from orchestrator.report.axes import axes_table, axis_columns, mean_ranks, ranks
from orchestrator.report.cells import Table

from .protocol_stories import STUDY, confirm_in, protocol_story, with_protocols
from .stories import SPEC, Story, whole_story


def cells(table: Table, arm: str) -> dict[str, str]:
    row = next(row for row in table.rows if row[0].text == arm)
    heads = [f"{c.group} {c.label}".strip() for c in table.columns]
    return dict(zip(heads, (cell.text for cell in row), strict=True))


@pytest.mark.parametrize(
    ("means", "lower", "expected"),
    [
        ({"a": 0.9, "b": 0.8, "c": 0.7}, False, {"a": 1, "b": 2, "c": 3}),
        ({"a": 0.9, "b": 0.8, "c": 0.7}, True, {"a": 3, "b": 2, "c": 1}),
        ({"a": 0.8, "b": 0.9, "c": 0.8, "d": 0.1}, False, {"a": 2.5, "b": 1, "c": 2.5, "d": 4}),
        ({"a": 0.5, "b": 0.5, "c": 0.5}, False, {"a": 2, "b": 2, "c": 2}),
        # The same three values summed in another order.
        ({"a": (0.1 + 0.2 + 0.3) / 3, "b": (0.3 + 0.2 + 0.1) / 3}, False, {"a": 1.5, "b": 1.5}),
        ({}, True, {}),
    ],
)
def test_ranks_begin_at_the_best_and_ties_share_them(
    means: dict[str, float], lower: bool, expected: dict[str, float]
) -> None:
    assert ranks(means, lower=lower) == expected


def test_all_axes_hold_a_column_of_each_protocol() -> None:
    table = axes_table(STUDY, protocol_story().record())
    assert cells(table, "hem") == {
        "arm": "hem",
        # .95 - .04 / 2 with luck of -.01, 0 and .01.
        "standard Accuracy": "93.00 ± 1.00",
        "standard AUROC near": "88.67 ± 0.33",
        "standard AUROC far": "96.00 ± 0.00",
        "standard ECE after TS": "1.23 ± 0.00",
        "long_tailed/plain Balanced accuracy": "71.00 ± 1.00",
        # Not those of the joint run, which stands before it.
        "continual/replay ACC": "73.33 ± 1.00",
        "continual/replay forgetting": "34.50 ± 0.00",
        "mean rank": "2.80",
    }


def test_the_mean_rank_weighs_axes_and_not_columns() -> None:
    story = protocol_story()
    for event in story.events:
        metrics = event.get("metrics", {})
        if event["event"] != "finished":
            continue
        if "hem" in event["key"] and "imbalance/balanced_accuracy" in metrics:
            metrics["imbalance/balanced_accuracy"] = 0.99
        if "cross_entropy" in event["key"]:
            metrics["ood/far/msp/auroc"] = 0.999
    record = story.record()
    found = mean_ranks(STUDY, record, axis_columns(STUDY, record))
    # Accuracy, OOD (near and far), calibration (all equal), long-tailed, continual (ACC and forgetting).
    assert found["cross_entropy"] == pytest.approx((2 + (2 + 1) / 2 + 2 + 3 + (2 + 2) / 2) / 5, rel=1e-12)
    assert found["logitnorm"] == pytest.approx((1 + (1 + 2) / 2 + 2 + 2 + (1 + 1) / 2) / 5, rel=1e-12)
    assert found["hem"] == pytest.approx((3 + (3 + 3) / 2 + 2 + 1 + (3 + 3) / 2) / 5, rel=1e-12)


def test_lower_is_better_in_calibration_and_forgetting() -> None:
    story = protocol_story()
    for event in story.events:
        if event["event"] == "finished":
            name = "calibration/ece_15_ts"
            if name in event["metrics"]:
                event["metrics"][name] = 0.01 if "hem" in event["key"] else 0.02
    notes = axes_table(STUDY, story.record()).notes
    assert notes[0] == (
        "No arm has the best mean in every column: logitnorm in accuracy, AUROC near, AUROC far, balanced "
        "accuracy, ACC, forgetting; hem in ECE after TS."
    )


def test_an_arm_that_is_best_everywhere_is_named() -> None:
    notes = axes_table(STUDY, protocol_story().record()).notes
    assert notes[0] == "The best mean in every column: logitnorm."
    assert "over 5 axes of equal weight, accuracy, OOD, calibration, long-tailed, continual" in notes[1]
    assert "OOD and continual: the mean rank of its two columns" in notes[1]
    assert "may not be distinguishable" in notes[2]


def test_an_arm_without_a_value_on_an_axis_has_no_mean_rank() -> None:
    story = Story(STUDY).opened()
    for arm in STUDY.arms:
        story.configured(arm, 0, {"lr": 0.1})
        confirm_in(story, arm, "standard")
    for arm in ("cross_entropy", "hem"):
        confirm_in(story, arm, "long_tailed/plain")
    table = axes_table(STUDY, story.record())
    assert [cells(table, arm)["mean rank"] for arm in STUDY.arms] == ["1.75", "n/a", "2.50"]
    # cross_entropy: 2 of 3 in accuracy and OOD, all alike in calibration, better than hem: (2+2+2+1)/4.
    found = mean_ranks(STUDY, story.record(), axis_columns(STUDY, story.record()))
    assert found["cross_entropy"] == pytest.approx(7 / 4, rel=1e-12)
    assert cells(table, "logitnorm")["long_tailed/plain Balanced accuracy"] == "n/a"
    # Nothing of the stream has finished: it is no axis yet.
    assert not [column for column in table.columns if column.group.startswith("continual")]


def test_a_study_of_one_protocol_has_no_such_table() -> None:
    assert axes_table(SPEC, whole_story().record()).rows == ()
    for entries in (("standard",), ("long_tailed",), ("long_tailed", "continual")):
        spec = with_protocols(*entries)
        assert axes_table(spec, protocol_story(spec).record()).rows == ()


def test_before_a_second_protocol_has_a_result_there_is_no_such_table() -> None:
    story = Story(STUDY).opened()
    story.configured("hem", 0, {"lr": 0.1})
    confirm_in(story, "hem", "standard")
    assert axes_table(STUDY, story.record()).rows == ()
    confirm_in(story, "hem", "continual/replay")
    assert len(axes_table(STUDY, story.record()).rows) == 3
