"""The study's answer in two sentences: who is better than the baseline, and what is not settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from orchestrator.report import numbers
from orchestrator.report.comparison import Comparison, Verdict
from orchestrator.report.sentences import where

MOST = 4
"""More arms than this are counted, not named."""


def answer(comparisons: Sequence[Comparison]) -> tuple[str, ...]:
    """Two sentences on the primary family, one where there is no more to say; none without comparisons.

    ``better`` is said only of what is distinguishable after Holm's correction.
    """
    if not comparisons:
        return ()
    if all(c.verdict == "no test" for c in comparisons):
        return (
            f"Nothing can be said: no arm has two seeds complete that {comparisons[0].baseline} has too.",
        )
    metrics = dict.fromkeys(where(c) for c in comparisons)
    first = _of_one(comparisons, *metrics) if len(metrics) == 1 else _of_several(comparisons, len(metrics))
    second = _rest(comparisons, several=len(metrics) > 1)
    return (first, second) if second else (first,)


def _of_one(comparisons: Sequence[Comparison], metric: str) -> str:
    baseline = comparisons[0].baseline
    better = [c for c in comparisons if c.verdict == "better"]
    if better:
        by = _named({c.arm: f"by {_size(c)}" for c in better})
        return f"Better than {baseline} in {metric}: {by}."
    different = [c for c in comparisons if c.verdict == "different"]
    if different:
        return (
            f"Different from {baseline} in {metric}: {_named({c.arm: f'by {_size(c)}' for c in different})}."
        )
    return f"No arm is distinguishably better than {baseline} in {metric}."


def _of_several(comparisons: Sequence[Comparison], metrics: int) -> str:
    baseline = comparisons[0].baseline
    better = _by_arm(comparisons, "better")
    everywhere = [arm for arm, found in better.items() if len(found) == metrics]
    all_of_them = "both" if metrics == 2 else f"all {metrics}"
    if everywhere:
        verb = "is" if len(everywhere) == 1 else "are"
        return f"{_listed(everywhere)} {verb} better than {baseline} in {all_of_them} primary metrics."
    if not better:
        return f"No arm is distinguishably better than {baseline} in any of the {metrics} primary metrics."
    return f"Better than {baseline}: {_places(better)}; no arm in {all_of_them} primary metrics."


def _rest(comparisons: Sequence[Comparison], *, several: bool) -> str:
    """Who is worse, what cannot be told, and what could not be tested."""
    worse = _by_arm(comparisons, "worse")
    alike = [c for c in comparisons if c.verdict == "not distinguishable"]
    untested = [c for c in comparisons if c.verdict == "no test"]
    parts = []
    if worse and several:
        parts.append(f"worse: {_places(worse)}")
    elif worse:
        parts.append(
            "worse: " + _named({c.arm: f"by {_size(c)}" for c in comparisons if c.verdict == "worse"})
        )
    if alike:
        seeds = _seeds(alike)
        who = (
            f"{len(alike)} of {numbers.counted(len(comparisons), 'comparison')}"
            if several
            else _listed([c.arm for c in alike])
        )
        parts.append(f"not distinguishable at {seeds}: {who}{_soonest(alike)}")
    if untested:
        parts.append(f"without a result to test: {_listed(list(dict.fromkeys(c.arm for c in untested)))}")
    said = "; ".join(parts)
    return said[:1].upper() + said[1:] + "." if said else ""


def _by_arm(comparisons: Iterable[Comparison], verdict: Verdict) -> dict[str, list[str]]:
    """The metrics in which each arm has the verdict; the arm with most of them first."""
    found: dict[str, list[str]] = {}
    for c in comparisons:
        if c.verdict == verdict:
            found.setdefault(c.arm, []).append(where(c))
    return dict(sorted(found.items(), key=lambda each: -len(each[1])))


def _places(found: Mapping[str, Sequence[str]]) -> str:
    shown = [f"{arm} in {_listed(metrics)}" for arm, metrics in list(found.items())[:MOST]]
    return ", ".join(shown + _more(len(found)))


def _named(details: Mapping[str, str]) -> str:
    shown = [f"{arm} ({detail})" for arm, detail in list(details.items())[:MOST]]
    return ", ".join(shown + _more(len(details)))


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:MOST], *_more(len(names))]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1].removeprefix('and ')}"


def _more(count: int) -> list[str]:
    return [f"and {count - MOST} more"] * (count > MOST)


def _size(c: Comparison) -> str:
    return f"{c.metric.show(abs(c.test.difference or 0.0))} {c.metric.unit}".strip()


def _soonest(comparisons: Iterable[Comparison]) -> str:
    """How many seeds the clearest of the differences would need."""
    needed = [c.seeds_needed for c in comparisons if c.seeds_needed is not None]
    if not needed:
        return ""
    return f" (about {numbers.counted(min(needed), 'seed')} would settle the clearest difference)"


def _seeds(comparisons: Iterable[Comparison]) -> str:
    counts = {c.test.n for c in comparisons}
    low, high = min(counts), max(counts)
    return numbers.counted(high, "seed") if low == high else f"{low} to {high} seeds"
