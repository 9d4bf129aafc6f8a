"""What one evaluation found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """Metrics by name, and in words what could not be measured or needs care."""

    metrics: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __add__(self, other: Part) -> Part:
        return Part({**self.metrics, **other.metrics}, (*self.notes, *other.notes))
