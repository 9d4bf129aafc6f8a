"""How noise orders as real OOD does: which points are compared, against hand computation."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence

import pytest

from orchestrator.report.agreement import agreement
from orchestrator.report.proxy_audit import (
    Reading,
    arm_mean,
    configurations,
    proxy_readings,
    targets,
    trials,
)
from orchestrator.study.spec import AuditSpec, ProxySpec
from workloads.contract import DataConfig

from .audit_stories import AUDITED, AUDITS, audited, audited_story, searched_story
from .stories import Story


def found(story: Story) -> dict[tuple[str, str], Reading]:
    return {(r.level, r.target): r for r in proxy_readings(story.spec, story.record())}


def tau_b(points: Sequence[tuple[float, float]]) -> float:
    signs = [
        (math.copysign(1, a - c) * (a != c), math.copysign(1, b - d) * (b != d))
        for (a, b), (c, d) in itertools.combinations(points, 2)
    ]
    untied = math.sqrt(sum(p != 0 for p, _ in signs) * sum(q != 0 for _, q in signs))
    return sum(p * q for p, q in signs) / untied


def test_a_configuration_is_the_mean_over_its_search_seeds() -> None:
    record = audited_story().record()
    shown = {p.number: p for p in configurations(AUDITED, record, "logitnorm", "near")}
    assert set(shown) == {0, 1, 2, 3, 4, 5}
    assert [shown[2].noise, shown[2].real] == pytest.approx([0.15, 0.35])
    assert [shown[4].noise, shown[4].real] == pytest.approx([0.40, 0.55])


def test_each_side_and_each_set_is_compared_and_a_lone_set_once() -> None:
    assert targets(AUDITED) == ("near", "far", "patches", "blobs")
    only_near = dataclasses.replace(AUDITED, data=DataConfig("digits", near_ood=("held_out",)))
    assert targets(only_near) == ("near",)


def test_noise_orders_the_configurations_of_an_arm_as_by_hand() -> None:
    readings = found(audited_story())
    far = readings["logitnorm", "far"]
    assert (far.order.n, far.zeros, far.unit) == (6, 0, "configuration")
    assert far.order.tau == pytest.approx(1.0)
    # arctanh(1 - 2/30) less 1.95996 * sqrt(.437 / 2).
    assert far.order.low == pytest.approx(math.tanh(math.atanh(14 / 15) - 1.959964 * math.sqrt(0.2185)))
    # Of 15 pairs two are in disorder: 1 and 2, 3 and 4.
    assert readings["logitnorm", "near"].order.tau == pytest.approx(11 / 15)


def test_an_arm_whose_noise_is_saturated_orders_nothing() -> None:
    reading = found(audited_story())["cross_entropy", "near"]
    assert (reading.order.n, reading.order.tau, reading.zeros) == (6, None, 6)


def test_all_trials_are_those_of_the_drawn_configurations_and_the_confirm_trials() -> None:
    story = audited_story()
    record = story.record()
    points = [p for arm in AUDITED.arms for p in trials(AUDITED, record, arm, "near")]
    assert len(points) == 12 + 2 + 12 + 2
    # By hand, from the tables of the story.
    by_hand = [(0.0, 0.40 + 0.01 * number) for number in range(6) for _ in (0, 1)]
    by_hand += [(0.0, 0.45), (0.02, 0.45), (0.20, 0.30), (0.22, 0.30)]
    for *seeds, near, _ in AUDITS.values():
        by_hand += [(rates[1], near + 0.01 - 0.02 * seed) for seed, rates in enumerate(seeds)]
    assert sorted((round(p.noise, 9), round(p.real, 9)) for p in points) == sorted(
        (round(a, 9), round(b, 9)) for a, b in by_hand
    )
    reading = found(story)["all trials", "near"]
    assert (reading.order.n, reading.order.groups, reading.zeros) == (28, 12, 13)
    assert reading.order.tau == pytest.approx(tau_b(by_hand))
    # The winner's confirm trials count together with its audit trials.
    groups = [(p.arm, p.number) for p in points]
    x, y = [p.noise for p in points], [p.real for p in points]
    assert reading.order == agreement(x, y, 0.95, groups)


def test_arms_are_compared_by_the_means_over_their_confirm_seeds() -> None:
    story = audited_story()
    record = story.record()
    mean = arm_mean(AUDITED, record, "logitnorm", "near")
    assert mean is not None
    assert (mean.arm, mean.number) == ("logitnorm", 1)
    assert [mean.noise, mean.real] == pytest.approx([0.21, 0.30])
    reading = found(story)["arm means", "near"]
    assert reading.order.n == 2
    assert reading.order.tau == pytest.approx(-1.0)
    assert reading.order.low is None


def test_only_configurations_that_the_proxy_audit_drew_count_and_only_complete_ones() -> None:
    pruned_alone = dataclasses.replace(AUDITED, audit=AuditSpec(pruned=5))
    assert proxy_readings(pruned_alone, audited_story().record()) == []
    few = dataclasses.replace(AUDITED, audit=AuditSpec(pruned=5, proxy=ProxySpec(3)))
    reading = {(r.level, r.target): r for r in proxy_readings(few, audited_story().record())}
    assert reading["logitnorm", "near"].order.n == 3
    story = searched_story()
    for number in (0, 1, 2):
        audited(story, "logitnorm", number, 0, (0.5, 0.1 * number), 0.5, 0.5)
    audited(story, "logitnorm", 0, 1, (0.5, 0.1), 0.5, 0.5)
    assert ("logitnorm", "near") not in found(story), "one point is no order"
    assert found(story)["all trials", "near"].order.n == 4 + 4


def test_levels_come_arm_by_arm_and_the_whole_last() -> None:
    levels = [r.level for r in proxy_readings(AUDITED, audited_story().record()) if r.target == "far"]
    assert levels == ["cross_entropy", "logitnorm", "all trials", "arm means"]
