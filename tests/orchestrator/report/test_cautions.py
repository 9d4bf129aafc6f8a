from __future__ import annotations

import dataclasses
import math

import pytest

from orchestrator.report.cautions import cautions, edge, is_finished, progress
from orchestrator.study.spec import ConfirmSpec, ReportSpec
from workloads.catalogue import Term, Value

from .protocol_stories import REASON, STUDY, confirm_in, protocol_story
from .stories import SPEC, Story, confirm_metrics, whole_story, with_arms


@pytest.mark.parametrize(
    ("kind", "values", "value", "expected"),
    [
        ("uniform", (0.0, 1.0), 0.015, "lower"),
        ("uniform", (0.0, 1.0), 0.03, ""),
        ("uniform", (0.0, 1.0), 0.985, "upper"),
        # 1.1 is 1.4 % of the way from 1 to 1000 in logarithm, and .01 % on a linear scale.
        ("log_uniform", (1.0, 1000.0), 1.1, "lower"),
        ("log_uniform", (1.0, 1000.0), 15.0, ""),
        ("log_uniform", (1.0, 1000.0), 900.0, "upper"),
        ("int_uniform", (1, 8), 8, "upper"),
        ("grid", (0.4, 0.1, 0.2), 0.1, "lower"),
        ("grid", (0.4, 0.1, 0.2), 0.2, ""),
        ("grid", (0.1, 0.2), 0.2, ""),
        ("choice", (0.1, 0.2, 0.3), 0.3, ""),
        ("grid", ("a", "b", "c"), "c", ""),
        ("fixed", (0.1,), 0.1, ""),
    ],
)
def test_the_edge_of_a_search_range_is_recognised(
    kind: str, values: tuple[Value, ...], value: Value, expected: str
) -> None:
    term = Term(kind, values)  # type: ignore[arg-type]
    assert edge(term, value) == expected


def test_a_clean_study_with_five_seeds_has_no_warning_but_its_failures() -> None:
    found = cautions(SPEC, whole_story().record())
    assert found == tuple(f"{arm}: 1 search trial failed." for arm in SPEC.arms)


def test_a_failed_confirm_trial_is_a_warning() -> None:
    story = Story(with_arms("hem")).opened()
    story.configured("hem", 0, {"lr": 0.1})
    for seed in SPEC.confirm.seeds[:4]:
        story.confirmed("hem", 0, seed, confirm_metrics(SPEC, 0.3, 0.1))
    story.finished(story.started("hem", "confirm", 0, 104), "failed", {}, reason="the loss is NaN")
    found = " ".join(cautions(story.spec, story.record()))
    assert "hem: 1 confirm trial failed (seed 104)" in found
    assert "Fewer than 5 complete seeds (hem 4)" in found
    assert "cannot go below p = .12" in found


def test_a_temperature_at_the_end_of_its_range_is_a_warning() -> None:
    story = Story(with_arms("hem")).opened()
    story.configured("hem", 0, {"lr": 0.1})
    for seed in SPEC.confirm.seeds:
        metrics = confirm_metrics(SPEC, 0.3, 0.1)
        bound = {"calibration/temperature_at_bound": float(seed < 102)}
        story.confirmed("hem", 0, seed, {**metrics, **bound})
    found = [c for c in cautions(story.spec, story.record()) if "T*" in c]
    assert len(found) == 1
    assert "hem: T* is at the end of its range at 2 of 5 seeds" in found[0]


def test_three_seeds_are_called_few() -> None:
    spec = dataclasses.replace(SPEC, confirm=ConfirmSpec((100, 101, 102)))
    found = " ".join(cautions(spec, whole_story(spec).record()))
    assert "Fewer than 5 complete seeds (cross_entropy 3, logitnorm 3, hem 3)" in found
    assert "p = .25" in found


@pytest.mark.parametrize(("rate", "shown"), [(0.0, "0 %"), (1.0, "100 %")])
def test_a_saturated_noise_metric_is_a_warning(rate: float, shown: str) -> None:
    story = Story(with_arms("hem")).opened()
    for number in range(3):
        story.configured("hem", number, {"mu.scale": 800.0, "lr": 0.1})
        for seed in (0, 1):
            story.searched("hem", number, seed, rate if number else 0.4)
        story.add("settled", arm="hem", number=number, state="complete", value=0.0, reason="")
    story.selected("hem", 2, {"mu.scale": 800.0, "lr": 0.1})
    found = " ".join(cautions(story.spec, story.record()))
    assert f"hem: the noise metric is saturated (FPR95 {shown} on every search seed in 2 config" in found
    assert ("says little here" in found) == (rate == 1.0)


def test_a_parameter_at_the_edge_is_a_warning_with_its_range() -> None:
    story = Story(with_arms("logitnorm")).opened()
    story.configured("logitnorm", 0, {"tau": 9.9, "lr": 0.1})
    story.selected("logitnorm", 0, {"tau": 9.9, "lr": 0.1})
    found = cautions(story.spec, story.record())
    assert (
        "logitnorm: the chosen tau = 9.9 lies at the upper end of its search range (0.01 to 10); "
        "a better value may lie beyond."
    ) in found


def test_an_unmet_guard_is_a_warning() -> None:
    story = Story(with_arms("hem")).opened()
    story.configured("hem", 0, {"lr": 0.1})
    story.selected("hem", 0, {"lr": 0.1}, 1.3)
    assert any("accuracy guard" in text for text in cautions(story.spec, story.record()))


def test_a_metric_that_is_not_finite_is_a_warning() -> None:
    story = whole_story(with_arms("cross_entropy", "hem"))
    story.events[-2]["metrics"]["calibration/ece_15"] = math.nan
    found = cautions(story.spec, story.record())
    assert "hem: ECE before TS is missing or not finite at seed 104 and is left out." in found


def test_an_unfinished_study_is_provisional() -> None:
    assert cautions(SPEC, Story().opened().record())[0] == (
        "Not finished: 0 of 15 confirm trials complete: what is shown is provisional."
    )


def test_sets_that_differ_in_compression_or_repeat_training_images_are_named() -> None:
    story = whole_story()
    opened = next(event for event in story.events if event["event"] == "opened")
    opened["data"]["sets"] = {
        "train": {"kind": "train", "encoding": "jpeg"},
        "test": {"kind": "test", "encoding": "jpeg", "duplicates_of_train": 2},
        "held_out": {"kind": "near", "encoding": "jpeg", "duplicates_of_train": 0},
        "patches": {"kind": "far", "encoding": "png", "duplicates_of_train": 0},
        "blobs": {"kind": "far", "encoding": "synthetic"},
    }
    found = cautions(SPEC, story.record())
    (compression,) = [text for text in found if "compressed" in text]
    assert "not compressed like the jpeg training images: patches (png)." in compression
    assert "test: 2 images with exactly the pixels of a training image; counted, not left out." in found
    assert not any(text.startswith("held_out") for text in found)


def test_what_trials_say_of_themselves_stands_once_whatever_its_numbers() -> None:
    story = whole_story()
    ends = [e for e in story.events if e["event"] == "finished" and e["metrics"].get("test/accuracy")]
    by_arm = {arm: [e for e in ends if story.record().trials[e["key"]].arm == arm] for arm in SPEC.arms}
    for index, event in enumerate(by_arm["hem"]):
        event["notes"] = [f"score vim: got -2.{index} on the training images"]
    by_arm["logitnorm"][1]["notes"] = ["score cosine: needs a cosine head"]
    found = [text for text in cautions(SPEC, story.record()) if "score" in text]
    first, second = (by_arm["hem"][0], by_arm["logitnorm"][1])
    seed = story.record().trials[second["key"]].seed
    assert first["notes"] == ["score vim: got -2.0 on the training images"]
    assert sorted(found) == [
        "hem: score vim: got -2.0 on the training images (every seed; the numbers are the first one's).",
        f"logitnorm: score cosine: needs a cosine head (seed {seed}).",
    ]


def test_regimes_that_an_arm_is_not_trained_in_are_named_with_the_reason() -> None:
    story = protocol_story()
    story.add("skipped", arm="logitnorm", regime="turned/naive", reason="it needs counts")
    story.add("skipped", arm="hem", regime="turned/naive", reason=REASON)
    found = cautions(STUDY, story.record())
    assert f"hem: not trained in long_tailed/drw, turned/naive: {REASON}." in found
    assert "logitnorm: not trained in turned/naive: it needs counts." in found


def test_progress_counts_the_trials_of_all_regimes_but_those_left_out() -> None:
    # Three arms in six regimes on three seeds, less hem's three in long_tailed/drw.
    assert progress(STUDY, protocol_story().record()) == (
        "Finished: 51 of 51 confirm trials in 6 regimes complete"
    )
    story = Story(STUDY).opened()
    for arm in STUDY.arms:
        story.configured(arm, 0, {"lr": 0.1})
        confirm_in(story, arm, "standard")
    confirm_in(story, "hem", "turned/naive", (100,))
    assert progress(STUDY, story.record()) == ("Not finished: 10 of 54 confirm trials in 6 regimes complete")
    assert not is_finished(STUDY, story.record())


def test_a_trial_that_failed_says_in_which_regime() -> None:
    story = protocol_story()
    keys = [e["key"] for e in story.events if e["event"] == "started" and e["regime"] == "long_tailed/drw"]
    for event in story.events:
        if event["event"] == "finished" and event["key"] in keys[:2]:
            event.update(state="failed", metrics={}, reason="the loss is NaN")
    found = " ".join(cautions(STUDY, story.record()))
    assert "cross_entropy: 2 confirm trials failed in long_tailed/drw (seed 100, 101)" in found
    assert "Finished: 49 of 51" not in found
    assert is_finished(STUDY, story.record())


def test_few_seeds_are_told_of_all_regimes() -> None:
    found = " ".join(cautions(STUDY, protocol_story(skip=False).record()))
    assert "(cross_entropy 3, logitnorm 3, hem 3 in every regime)" in found
    found = " ".join(cautions(STUDY, protocol_story().record()))
    assert "; cross_entropy 3, logitnorm 3 in long_tailed/drw)" in found
    story = Story(STUDY).opened()
    story.configured("hem", 0, {"lr": 0.1})
    for n, regime in enumerate(("standard", "long_tailed/plain", "continual/joint"), 1):
        confirm_in(story, "hem", regime, STUDY.confirm.seeds[:n])
    found = " ".join(cautions(STUDY, story.record()))
    assert "(hem 1 to 3 in 3 of 6 regimes): intervals are wide, and at 1 the sign-flip" in found


def test_a_metric_of_another_regime_is_missed_there() -> None:
    primary = ReportSpec(("ood/near/fpr95", "long_tailed/drw:imbalance/worst_class"))
    spec = dataclasses.replace(STUDY, report=primary)
    story = protocol_story(spec)
    for event in story.events:
        if event["event"] == "finished" and event["key"] == "logitnorm-confirm-0-101-long_tailed-drw":
            del event["metrics"]["imbalance/worst_class"]
    found = cautions(spec, story.record())
    assert (
        "logitnorm: worst class (long_tailed/drw) is missing or not finite at seed 101 and is left out."
        in found
    )
    assert len([text for text in found if "not finite" in text]) == 1


def test_a_temperature_at_its_bound_is_counted_in_each_regime() -> None:
    story = protocol_story()
    for event in story.events:
        key = event.get("key", "") if event["event"] == "finished" else ""
        if key == "hem-confirm-0-100" or (key.startswith("hem") and key.endswith("plain")):
            event["metrics"]["calibration/temperature_at_bound"] = 1.0
    (found,) = [text for text in cautions(STUDY, story.record()) if "T*" in text]
    assert found.startswith(
        "hem: T* is at the end of its range at 1 of 3 seeds in standard, 3 of 3 seeds in long_tailed/plain,"
    )


def test_notes_that_arms_and_regimes_share_stand_once() -> None:
    story = protocol_story()
    for event in story.events:
        if event["event"] != "finished":
            continue
        if "long_tailed" in event["key"]:
            event["notes"] = ["classes are cut into thirds"]
        if event["key"] in ("hem-confirm-0-101", "hem-confirm-0-102-turned-naive"):
            event["notes"] = ["got -2.5"]
    found = cautions(STUDY, story.record())
    assert [text for text in found if "thirds" in text] == [
        "cross_entropy, logitnorm, hem: classes are cut into thirds (every seed in long_tailed)."
    ]
    assert "hem: got -2.5 (seed 101 in standard; seed 102 in turned)." in found
    for event in story.events:
        if event["event"] == "finished" and event["key"].endswith("drw"):
            event["notes"] = []
    assert [text for text in cautions(STUDY, story.record()) if "thirds" in text] == [
        # hem has no trials with drw: plain is all that it has of the entry.
        "cross_entropy, logitnorm: classes are cut into thirds (every seed in long_tailed/plain).",
        "hem: classes are cut into thirds (every seed in long_tailed).",
    ]
