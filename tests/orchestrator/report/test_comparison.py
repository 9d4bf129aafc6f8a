from __future__ import annotations

import dataclasses

import pytest
from scipy import stats

from orchestrator.report.comparison import Comparison, compare, ordered_arms
from orchestrator.report.sentences import MANY, conclusions, sentence
from orchestrator.study.spec import ConfirmSpec, ReportSpec, StudySpec

from .protocol_stories import STUDY, protocol_story
from .stories import SPEC, Story, confirm_metrics, whole_story, with_arms

TWO = with_arms("cross_entropy", "logitnorm")
NEAR_ONLY = dataclasses.replace(TWO, report=ReportSpec(("ood/near/fpr95",)))


def confirmed(spec: StudySpec, **near: list[float]) -> Story:
    """Confirm trials whose near FPR95 is given for each arm, from the first seed on."""
    story = Story(spec).opened()
    for arm, values in near.items():
        story.configured(arm, 0, {"lr": 0.1})
        story.selected(arm, 0, {"lr": 0.1})
        for seed, value in zip(spec.confirm.seeds, values, strict=False):
            story.confirmed(arm, 0, seed, confirm_metrics(spec, value, 0.1))
    return story


def near_sentence(spec: StudySpec, story: Story) -> str:
    return sentence(compare(spec, story.record())[0], spec.report.confidence)


def find(comparisons: tuple[Comparison, ...], arm: str, metric: str) -> Comparison:
    return next(c for c in comparisons if c.arm == arm and c.metric.name == metric)


def test_the_baseline_comes_first_whatever_the_order_in_the_study() -> None:
    spec = dataclasses.replace(SPEC, baseline="hem")
    assert ordered_arms(spec) == ("hem", "cross_entropy", "logitnorm")
    assert ordered_arms(dataclasses.replace(SPEC, baseline=""))[0] == "cross_entropy"


def test_each_family_is_corrected_on_its_own() -> None:
    comparisons = compare(SPEC, whole_story().record())
    primary = [c for c in comparisons if c.family == "primary"]
    secondary = [c for c in comparisons if c.family == "secondary"]
    assert [c.family_size for c in primary] == [4] * 4
    assert [c.family_size for c in secondary] == [22] * 22
    smallest = min(primary, key=lambda c: c.test.p or 1)
    assert smallest.p_holm == pytest.approx(4 * (smallest.test.p or 0), rel=1e-12)


def test_the_p_value_of_a_study_is_that_of_scipy() -> None:
    record = whole_story().record()
    found = find(compare(SPEC, record), "logitnorm", "ood/near/msp/fpr95_id_positive")
    values = [
        [
            record.arms[arm].confirms["standard"][seed].metrics["ood/near/msp/fpr95_id_positive"]
            for seed in SPEC.confirm.seeds
        ]
        for arm in ("logitnorm", "cross_entropy")
    ]
    assert found.test.p == pytest.approx(stats.ttest_rel(*values).pvalue, rel=1e-9)
    assert found.verdict == "better"


def test_higher_is_better_for_auroc_and_worse_for_fpr95() -> None:
    story = confirmed(TWO, cross_entropy=[0.2, 0.21, 0.2, 0.19, 0.2], logitnorm=[0.5, 0.52, 0.51, 0.5, 0.49])
    comparisons = compare(TWO, story.record())
    fpr95 = find(comparisons, "logitnorm", "ood/near/msp/fpr95_id_positive")
    auroc = find(comparisons, "logitnorm", "ood/near/msp/auroc")
    assert fpr95.test.difference is not None
    assert fpr95.test.difference > 0
    assert auroc.test.difference is not None
    assert auroc.test.difference < 0
    assert (fpr95.verdict, auroc.verdict) == ("worse", "worse")


def test_a_clear_difference_is_told_with_size_interval_and_p() -> None:
    story = confirmed(
        NEAR_ONLY,
        cross_entropy=[0.40, 0.42, 0.41, 0.43, 0.40],
        logitnorm=[0.30, 0.30, 0.29, 0.31, 0.30],
    )
    # Differences -10 -12 -12 -12 -10: mean -11.2, standard error .4899, t(.975, 4) = 2.7764.
    assert near_sentence(NEAR_ONLY, story) == (
        "logitnorm rejects near OOD better than cross_entropy: FPR95 lower by 11.2 points "
        "(95 % interval 9.8 to 12.6, Holm p < .001, 5 paired seeds)"
    )


def test_an_unclear_difference_names_the_seeds_that_would_settle_it() -> None:
    story = confirmed(
        NEAR_ONLY,
        cross_entropy=[0.40, 0.42, 0.41, 0.43, 0.40],
        logitnorm=[0.39, 0.44, 0.40, 0.40, 0.41],
    )
    # Differences -1 +2 -1 -3 +1: mean -.4, standard deviation 1.949, dz .205; p = .67.
    assert near_sentence(NEAR_ONLY, story) == (
        "logitnorm and cross_entropy are not distinguishable in FPR95 on near OOD at 5 seeds "
        "(difference -0.4 points, 95 % interval -2.8 to +2.0, Holm p = .67; "
        "about 189 seeds would settle a difference of this size)"
    )


def test_seeds_that_are_left_out_are_counted() -> None:
    story = confirmed(
        NEAR_ONLY, cross_entropy=[0.40, 0.42, 0.41, 0.43, 0.40], logitnorm=[0.30, 0.31, 0.30, 0.32]
    )
    found = compare(NEAR_ONLY, story.record())[0]
    assert (found.test.n, found.left_out) == (4, 1)
    assert near_sentence(NEAR_ONLY, story).endswith("4 paired seeds, 1 left out)")


def test_one_pair_is_no_test() -> None:
    story = confirmed(NEAR_ONLY, cross_entropy=[0.40, 0.42], logitnorm=[0.30])
    assert near_sentence(NEAR_ONLY, story) == (
        "logitnorm against cross_entropy in FPR95 (ID+) near: no test, as 1 seed of 5 is complete in both "
        "(at least 2 are needed)"
    )
    assert compare(NEAR_ONLY, story.record())[0].verdict == "no test"


def test_identical_results_are_told_as_such() -> None:
    story = confirmed(NEAR_ONLY, cross_entropy=[0.0] * 5, logitnorm=[0.0] * 5)
    assert near_sentence(NEAR_ONLY, story) == (
        "logitnorm and cross_entropy are not distinguishable in FPR95 on near OOD at 5 seeds: "
        "the same value in both on every seed"
    )


def test_a_constant_difference_says_that_five_seeds_cannot_settle_it() -> None:
    story = confirmed(NEAR_ONLY, cross_entropy=[0.5] * 5, logitnorm=[0.25] * 5)
    assert near_sentence(NEAR_ONLY, story) == (
        "logitnorm and cross_entropy are not distinguishable in FPR95 on near OOD at 5 seeds "
        "(difference -25.0 points on every seed, Holm p = .062; sign flips cannot go below p = .062 here)"
    )


def test_a_constant_difference_over_eight_seeds_is_distinguishable() -> None:
    spec = dataclasses.replace(NEAR_ONLY, confirm=ConfirmSpec(tuple(range(100, 108))))
    story = confirmed(spec, cross_entropy=[0.5] * 8, logitnorm=[0.25] * 8)
    assert near_sentence(spec, story) == (
        "logitnorm rejects near OOD better than cross_entropy: FPR95 lower by 25.0 points "
        "(the same on every seed, so no interval and p from sign flips, Holm p = .008, 8 paired seeds)"
    )


def test_the_confidence_of_the_study_sets_interval_and_verdict() -> None:
    spec = dataclasses.replace(NEAR_ONLY, report=ReportSpec(("ood/near/fpr95",), confidence=0.5))
    story = confirmed(
        spec, cross_entropy=[0.40, 0.42, 0.41, 0.43, 0.40], logitnorm=[0.39, 0.41, 0.41, 0.44, 0.38]
    )
    assert "50 % interval" in near_sentence(spec, story)
    assert compare(spec, story.record())[0].verdict == "better"
    strict = dataclasses.replace(spec, report=ReportSpec(("ood/near/fpr95",)))
    assert compare(strict, story.record())[0].verdict == "not distinguishable"


def crowd(arms: int) -> tuple[StudySpec, Story]:
    """A baseline, one arm that clearly differs and ``arms`` that do not."""
    names = [f"arm_{i}" for i in range(arms)]
    every = ["cross_entropy", "winner", *names]
    spec = dataclasses.replace(
        NEAR_ONLY, arms={n: dataclasses.replace(SPEC.arms["cross_entropy"], name=n) for n in every}
    )
    base = [0.30, 0.31, 0.29, 0.32, 0.28]
    near = {"cross_entropy": base, "winner": [v - 0.2 + i / 1e3 for i, v in enumerate(base)]}
    for i, name in enumerate(names):
        near[name] = [v + (0.02 if (k + i) % 2 else -0.02) for k, v in enumerate(base)]
    return spec, confirmed(spec, **near)


def test_few_indistinguishable_arms_have_a_sentence_each() -> None:
    spec, story = crowd(MANY)
    found = conclusions(compare(spec, story.record())[: MANY + 1], 0.95)
    assert len(found) == MANY + 1
    assert found[0].startswith("winner rejects near OOD better than cross_entropy")
    assert found[1].startswith("arm_0 and cross_entropy are not distinguishable")


def test_many_indistinguishable_arms_share_one_and_never_hide_a_difference() -> None:
    spec, story = crowd(MANY + 1)
    primary = [c for c in compare(spec, story.record()) if c.family == "primary"]
    found = conclusions(primary, 0.95)
    assert len(found) == 2
    assert found[0].startswith("winner rejects near OOD better than cross_entropy")
    names = ", ".join(f"arm_{i}" for i in range(MANY + 1))
    assert found[1] == f"Not distinguishable from cross_entropy in FPR95 on near OOD at 5 seeds: {names}."


def test_seeds_are_paired_within_each_regime() -> None:
    story = protocol_story()
    for event in story.events:
        metrics = event.get("metrics", {})
        if event["event"] == "finished" and event["key"].startswith("hem") and "-plain" in event["key"]:
            seed = int(event["key"].split("-")[3])
            metrics["imbalance/balanced_accuracy"] = {100: 0.70, 101: 0.71, 102: 0.66}[seed]
    found = find(compare(STUDY, story.record()), "hem", "imbalance/balanced_accuracy")
    # The baseline has .74, .75 and .76: differences -.04, -.04 and -.10.
    assert found.test.seeds == (100, 101, 102)
    assert found.test.difference == pytest.approx(-0.06, abs=1e-12)
    assert found.test.std == pytest.approx(0.0012**0.5, rel=1e-9)
    assert found.family == "secondary"
    assert found.metric.title == "Balanced accuracy (long_tailed/plain)"


def test_the_secondary_family_has_the_headline_of_the_first_regime_of_each_protocol() -> None:
    names = {c.metric.name for c in compare(STUDY, protocol_story().record()) if c.family == "secondary"}
    further = {name for name in names if name.startswith(("imbalance", "continual", "turned", "long_tailed"))}
    # Of the stream that comes first after the joint run; nothing of the others.
    assert further == {
        "imbalance/balanced_accuracy",
        "continual/replay:continual/class_il/accuracy",
        "continual/replay:continual/class_il/forgetting",
    }


@pytest.mark.parametrize(
    ("name", "start"),
    [
        (
            "long_tailed/drw:imbalance/accuracy/few",
            "logitnorm classifies rare classes better than cross_entropy: accuracy on rare classes "
            "(long_tailed/drw) higher by 4.00 points (",
        ),
        (
            "continual/domain_il/forgetting",
            "logitnorm remembers earlier tasks better than cross_entropy: forgetting (turned/naive) lower "
            "by 2.00 points (",
        ),
        (
            "long_tailed/plain:ood/near/auroc",
            "logitnorm rejects near OOD better than cross_entropy: AUROC (long_tailed/plain) higher by "
            "0.67 points (",
        ),
    ],
)
def test_a_sentence_says_of_which_regime_it_is(name: str, start: str) -> None:
    # The sign flips of three equal differences come to .25, of two comparisons to .5.
    spec = dataclasses.replace(STUDY, report=ReportSpec((name,), confidence=0.4))
    record = protocol_story(spec).record()
    primary = [c for c in compare(spec, record) if c.family == "primary" and c.arm == "logitnorm"]
    assert sentence(primary[0], 0.4).startswith(start)


def test_what_is_not_distinguishable_says_of_which_regime_it_is() -> None:
    spec = dataclasses.replace(STUDY, report=ReportSpec(("long_tailed/drw:ood/near/auroc",)))
    found = [c for c in compare(spec, protocol_story(spec).record()) if c.family == "primary"]
    assert sentence(found[0], 0.95).startswith(
        "logitnorm and cross_entropy are not distinguishable in AUROC on near OOD (long_tailed/drw) at 3"
    )
