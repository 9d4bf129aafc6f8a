from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.report.answer import answer
from orchestrator.report.comparison import Comparison, Verdict, compare
from orchestrator.report.readings import describe
from orchestrator.report.statistics import PairedTest

from .stories import SPEC, whole_story

NEAR = replace(describe("ood/near/msp/fpr95_id_positive", "msp"), name="near")
ACCURACY = replace(describe("test/accuracy", "msp"), name="accuracy")


def comparison(arm: str, verdict: Verdict, difference: float = -0.05, **changes: object) -> Comparison:
    """In near FPR95, at five seeds."""
    test = PairedTest((1, 2, 3, 4, 5), difference, 0.1, None, None, 0.5, 0.5, 0.06, -0.5)
    made = Comparison("primary", 1, arm, "ce", NEAR, 5, test, 0.5, verdict, 40)
    return replace(made, **changes)  # type: ignore[arg-type]


def test_one_metric_says_who_is_better_by_how_much_and_who_is_not() -> None:
    said = answer(
        [
            comparison("a", "better", -0.121),
            comparison("b", "worse", 0.03),
            comparison("c", "not distinguishable"),
            comparison("d", "not distinguishable", seeds_needed=17),
        ]
    )
    assert said == (
        "Better than ce in FPR95 on near OOD: a (by 12.1 points).",
        "Worse: b (by 3.0 points); not distinguishable at 5 seeds: c and d (about 17 seeds would settle the "
        "clearest difference).",
    )


def test_no_winner_is_said_first() -> None:
    said = answer([comparison("a", "not distinguishable", seeds_needed=None)])
    assert said == (
        "No arm is distinguishably better than ce in FPR95 on near OOD.",
        "Not distinguishable at 5 seeds: a.",
    )


def test_a_single_winner_needs_one_sentence() -> None:
    assert answer([comparison("a", "better", -0.1)]) == (
        "Better than ce in FPR95 on near OOD: a (by 10.0 points).",
    )


@pytest.mark.parametrize(
    ("verdicts", "first"),
    [
        (("better", "better"), "a is better than ce in both primary metrics."),
        (
            ("better", "worse"),
            "Better than ce: a in FPR95 on near OOD; no arm in both primary metrics.",
        ),
        (
            ("worse", "not distinguishable"),
            "No arm is distinguishably better than ce in any of the 2 primary metrics.",
        ),
    ],
)
def test_several_metrics_say_where_an_arm_is_better(verdicts: tuple[Verdict, Verdict], first: str) -> None:
    near, accuracy = verdicts
    said = answer([comparison("a", near), comparison("a", accuracy, metric=ACCURACY)])
    assert said[0] == first


def test_the_second_sentence_counts_over_several_metrics() -> None:
    said = answer(
        [
            comparison("a", "better"),
            comparison("a", "worse", metric=ACCURACY),
            comparison("b", "not distinguishable", seeds_needed=None),
            comparison("b", "not distinguishable", metric=ACCURACY, seeds_needed=99),
        ]
    )
    assert said[1] == (
        "Worse: a in accuracy; not distinguishable at 5 seeds: 2 of 4 comparisons (about 99 seeds would "
        "settle the clearest difference)."
    )


def test_arms_beyond_the_fourth_are_counted_the_one_best_in_most_metrics_first() -> None:
    arms = [f"a{n}" for n in range(6)]
    said = answer([comparison(arm, "better") for arm in arms] + [comparison("a5", "better", metric=ACCURACY)])
    assert said[0] == "a5 is better than ce in both primary metrics."
    places = answer(
        [comparison(arm, "better") for arm in arms] + [comparison("a0", "worse", metric=ACCURACY)]
    )[0]
    assert "a3 in FPR95 on near OOD, and 2 more; no arm" in places
    assert "a4" not in places
    shown = answer([comparison(arm, "not distinguishable", seeds_needed=None) for arm in arms])
    assert shown[1] == "Not distinguishable at 5 seeds: a0, a1, a2, a3 and 2 more."


def test_seeds_that_differ_are_given_as_a_range() -> None:
    fewer = PairedTest((1, 2, 3), -0.1, 0.1, None, None, 0.5, 0.5, 0.06, -0.5)
    said = answer(
        [comparison("a", "not distinguishable"), comparison("b", "not distinguishable", test=fewer)]
    )
    assert "at 3 to 5 seeds: a and b" in said[1]


def test_an_arm_without_a_result_is_named() -> None:
    said = answer([comparison("a", "better"), comparison("b", "no test")])
    assert said[1] == "Without a result to test: b."
    assert answer([comparison("b", "no test")]) == (
        "Nothing can be said: no arm has two seeds complete that ce has too.",
    )
    assert answer([]) == ()


def test_a_whole_study_is_answered_in_two_sentences() -> None:
    primary = [c for c in compare(SPEC, whole_story().record()) if c.family == "primary"]
    first, second = answer(primary)
    assert (
        first == "Better than cross_entropy: logitnorm in FPR95 on near OOD; no arm in both primary metrics."
    )
    assert second.startswith("Not distinguishable at 5 seeds: 3 of 4 comparisons (about ")
