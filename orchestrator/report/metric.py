"""One metric of a trial, and how people read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.report import numbers

Better = Literal["lower", "higher", "neither"]


@dataclass(frozen=True)
class Metric:
    """One metric of a trial, and how people read it."""

    name: str
    """As it stands in ``TrialRecord.metrics``; with a regime and a colon before it where it needs one."""
    group: str
    """Column heading, shared by neighbours (``FPR95, ID positive``)."""
    label: str
    """Column heading below the group (``near``)."""
    noun: str
    """In a sentence: ``FPR95``."""
    claim: str
    """In a sentence, before "better than": ``rejects near OOD``."""
    better: Better
    scale: float = 100.0
    """Shown values are the metric times this: 100 for rates."""
    decimals: int = 2
    unit: str = "points"
    """Of a difference, after scaling."""
    regime: str = ""
    """Where it is of another regime than the report's main one."""

    @property
    def title(self) -> str:
        return f"{self.group} {self.label}".strip() + self.place

    @property
    def place(self) -> str:
        """`` (long_tailed/drw)``, or nothing for a metric of the main regime."""
        return f" ({self.regime})" if self.regime else ""

    def show(self, value: float | None) -> str:
        return numbers.fixed(None if value is None else value * self.scale, self.decimals)

    def show_mean_std(self, mean: float | None, std: float | None) -> str:
        scaled = [None if value is None else value * self.scale for value in (mean, std)]
        return numbers.mean_std(scaled[0], scaled[1], self.decimals)

    def show_difference(self, value: float | None) -> str:
        """With its sign and without its unit."""
        return numbers.fixed(None if value is None else value * self.scale, self.decimals, signed=True)


def rate(group: str, better: Better, decimals: int = 2, *, noun: str = "", claim: str = "") -> Metric:
    """A share in 0..1, shown in percent; its name is still to be set."""
    return Metric("", group, "", noun or group, claim, better, decimals=decimals)


def plain(group: str, better: Better = "neither", decimals: int = 4, unit: str = "") -> Metric:
    """A number that is shown as it is; its name is still to be set."""
    return Metric("", group, "", group, "", better, scale=1.0, decimals=decimals, unit=unit)
