"""A comparison in one plain sentence."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.report import numbers
from orchestrator.report.comparison import Comparison
from orchestrator.report.statistics import LARGEST_SEED_COUNT

MANY = 8
"""More indistinguishable comparisons than this are told together, metric by metric."""


def conclusions(comparisons: Sequence[Comparison], confidence: float) -> tuple[str, ...]:
    """What a family of comparisons shows, in sentences: what can be told apart never drowns in the rest."""
    alike = [c for c in comparisons if c.test.n >= 2 and not c.distinguishable]
    if len(alike) <= MANY:
        return tuple(sentence(c, confidence) + "." for c in comparisons)
    told = tuple(sentence(c, confidence) + "." for c in comparisons if c not in alike)
    groups: dict[str, list[str]] = {}
    for c in alike:
        head = f"Not distinguishable from {c.baseline} in {where(c)} at {numbers.counted(c.test.n, 'seed')}"
        groups.setdefault(head, []).append(c.arm)
    return told + tuple(f"{head}: {', '.join(arms)}." for head, arms in groups.items())


def sentence(comparison: Comparison, confidence: float) -> str:
    """What the comparison shows, how much and how surely, without a full stop."""
    if comparison.test.n < 2:
        return _untested(comparison)
    if comparison.distinguishable:
        return _distinguishable(comparison, confidence)
    return _indistinguishable(comparison, confidence)


def interval(comparison: Comparison, *, magnitude: bool = False) -> str:
    """``-16.5 to -8.1``; as a magnitude ``8.1 to 16.5``."""
    low, high = comparison.test.low, comparison.test.high
    if low is None or high is None:
        return numbers.MISSING
    if magnitude and (comparison.test.difference or 0) < 0:
        low, high = -high, -low
    show = comparison.metric.show if magnitude else comparison.metric.show_difference
    return f"{show(low)} to {show(high)}"


def bootstrap_text(comparison: Comparison) -> str:
    """The bootstrap interval as :func:`interval` shows the t interval."""
    ends = comparison.test.bootstrap
    if ends is None:
        return numbers.MISSING
    return " to ".join(comparison.metric.show_difference(end) for end in ends)


def needed_text(comparison: Comparison) -> str:
    """Seeds that would settle a difference of this size: ``38``, ``>10,000``; nothing where it is settled."""
    if comparison.distinguishable or comparison.test.dz in (None, 0):
        return ""
    if comparison.seeds_needed is None:
        return f">{LARGEST_SEED_COUNT:,}"
    return f"{comparison.seeds_needed:,}"


def _distinguishable(comparison: Comparison, confidence: float) -> str:
    metric, test = comparison.metric, comparison.test
    difference = test.difference or 0.0
    direction = "lower" if difference < 0 else "higher"
    if comparison.verdict == "different":
        head = f"{comparison.arm} differs from {comparison.baseline}: {metric.noun}{metric.place} {direction}"
    else:
        claim = f"{metric.claim} {comparison.verdict} than"
        head = f"{comparison.arm} {claim} {comparison.baseline}: {metric.noun}{metric.place} {direction}"
    details = [f"Holm p {numbers.p_equals(comparison.p_holm)}", _pairs(comparison)]
    if test.degenerate:
        details.insert(0, "the same on every seed, so no interval and p from sign flips")
    else:
        details.insert(0, f"{numbers.percent(confidence)} interval {interval(comparison, magnitude=True)}")
    return f"{head} by {_with_unit(comparison, metric.show(abs(difference)))} ({', '.join(details)})"


def _indistinguishable(comparison: Comparison, confidence: float) -> str:
    metric, test = comparison.metric, comparison.test
    head = (
        f"{comparison.arm} and {comparison.baseline} are not distinguishable in {where(comparison)} "
        f"at {numbers.counted(test.n, 'seed')}"
    )
    left_out = f", {comparison.left_out} left out" if comparison.left_out else ""
    if test.degenerate and test.difference == 0:
        return f"{head}{left_out}: the same value in both on every seed"
    difference = f"difference {_with_unit(comparison, metric.show_difference(test.difference))}"
    p = f"Holm p {numbers.p_equals(comparison.p_holm)}"
    if test.degenerate:
        floor = f"sign flips cannot go below p {numbers.p_equals(test.p_smallest)} here"
        return f"{head}{left_out} ({difference} on every seed, {p}; {floor})"
    range_ = f"{numbers.percent(confidence)} interval {interval(comparison)}"
    return f"{head}{left_out} ({difference}, {range_}, {p}{_needed(comparison)})"


def where(comparison: Comparison) -> str:
    """``FPR95 on near OOD``, with the regime where it is not the main one."""
    metric = comparison.metric
    rejected = metric.claim.removeprefix("rejects ")
    what = metric.noun if rejected == metric.claim else f"{metric.noun} on {rejected}"
    return what + metric.place


def _needed(comparison: Comparison) -> str:
    if comparison.test.dz in (None, 0):
        return ""
    if comparison.seeds_needed is None:
        return f"; more than {LARGEST_SEED_COUNT:,} seeds would be needed to settle a difference of this size"
    return f"; about {comparison.seeds_needed:,} seeds would settle a difference of this size"


def _untested(comparison: Comparison) -> str:
    head = f"{comparison.arm} against {comparison.baseline} in {comparison.metric.title}: no test"
    done = numbers.counted(comparison.test.n, "seed")
    verb = "is" if comparison.test.n == 1 else "are"
    return f"{head}, as {done} of {comparison.planned} {verb} complete in both (at least 2 are needed)"


def _pairs(comparison: Comparison) -> str:
    text = numbers.counted(comparison.test.n, "paired seed")
    return f"{text}, {comparison.left_out} left out" if comparison.left_out else text


def _with_unit(comparison: Comparison, text: str) -> str:
    return f"{text} {comparison.metric.unit}".strip()
