"""Figures from interleaved rounds: what ran in one round saw the same machine."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def interleave(ways: Mapping[str, Callable[[], Any]], rounds: int) -> list[dict[str, Any]]:
    """A B, B A, A B ...: what each way returned, by round; ``load`` is the load average before the round."""
    found = []
    order = list(ways)
    for number in range(rounds):
        results: dict[str, Any] = {"load": os.getloadavg()[0]}
        for name in order if number % 2 == 0 else order[::-1]:
            results[name] = ways[name]()
        found.append(results)
    return found


@dataclass(frozen=True)
class Figure:
    """One line of the benchmark: a figure of every round."""

    goal: str
    """M1 ... M12, or the name of another figure."""
    what: str
    unit: str
    values: Sequence[float]
    """By round."""
    wanted: str = ""
    """The goal, in words."""
    counts: bool | None = True
    """Whether accuracy, AUROC and FPR95 are those of the peer; None: not measured."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def record(self) -> dict[str, Any]:
        return {
            "goal": self.goal,
            "what": self.what,
            "unit": self.unit,
            "rounds": list(self.values),
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "wanted": self.wanted,
            "counts": self.counts,
            **self.facts,
        }


def line(figure: Figure) -> str:
    """``M1  what  median (min to max over the rounds) unit  goal``."""
    spread = f"{figure.median:9.3g} ({min(figure.values):.3g} to {max(figure.values):.3g})"
    verdict = {True: "", False: "  DOES NOT COUNT: see parity", None: "  parity not measured"}[figure.counts]
    wanted = f"  goal {figure.wanted}" if figure.wanted else ""
    return f"{figure.goal:<7}{figure.what:<62}{spread:<30}{figure.unit:<6}{wanted}{verdict}"
