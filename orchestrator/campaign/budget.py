"""What a search has spent of its budget.

The number of trials is reckoned from results alone. A configuration is asked for only where the budget
covers all of its seeds. One in flight is charged all of them; one that is settled is charged one trial where
its first seed ended it, and else all, as its further seeds run side by side. A charge only falls when a
configuration is settled, so the order of arrival does not matter. The limit is never passed, and a rest
smaller than one configuration is left over.

Seconds are measured by a clock that nobody sets; a search that they end need not end at the same place twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.campaign.record import ArmRecord, ConfigurationRecord, StudyRecord
from orchestrator.study.spec import BudgetSpec, SearchSpec

Limit = Literal["trials", "device_seconds", "wall_seconds"]


@dataclass(frozen=True)
class Spending:
    """A limit that was reached."""

    limit: Limit
    allowed: float
    spent: float

    @property
    def fields(self) -> dict[str, Any]:
        """Of its event."""
        return {"limit": self.limit, "allowed": self.allowed, "spent": round(self.spent, 3)}


def end_reason(limit: str, allowed: float) -> str:
    """Why a configuration of a search that a limit has ended was not finished."""
    return f"the budget ended ({limit} {allowed:g})"


def charged_trials(search: SearchSpec, configurations: Iterable[ConfigurationRecord]) -> int:
    """Trials that configurations have taken of ``budget.trials``, or may still take."""
    return sum(_charge(search, configuration) for configuration in configurations)


def _charge(search: SearchSpec, configuration: ConfigurationRecord) -> int:
    if configuration.state == "running":
        return len(search.seeds)
    begun = len(configuration.trials)
    if not search.deterministic:
        return begun
    # The first seed runs alone; which others had begun by the time of a verdict is chance.
    return len(search.seeds) if begun > 1 else 1


class Meter:
    """The seconds that a study and its searches have spent.

    A trial that runs counts from its start in this session: what an interrupted session spent on trials that
    it did not end is not known.

    Args:
        record: kept up to date by others; its sessions before this one must be in it.
        monotonic: seconds from any origin, never running backwards.
    """

    def __init__(self, budget: BudgetSpec, record: StudyRecord, monotonic: Callable[[], float]) -> None:
        self._budget = budget
        self._record = record
        self._monotonic = monotonic
        self._began = monotonic()
        self._running: dict[tuple[str, int], dict[str, float]] = {}
        """By arm and repeat: keys of search trials, and when they started."""

    def started(self, arm: ArmRecord, key: str) -> None:
        self._running.setdefault((arm.name, arm.repeat), {})[key] = self._monotonic()

    def ended(self, arm: ArmRecord, key: str) -> None:
        self._running.get((arm.name, arm.repeat), {}).pop(key, None)

    @property
    def session_seconds(self) -> float:
        """How long this session has lasted."""
        return max(0.0, self._monotonic() - self._began)

    @property
    def wall_seconds(self) -> float:
        """How long the study's sessions have lasted together."""
        return self._record.earlier_seconds + self.session_seconds

    def device_seconds(self, arm: ArmRecord) -> float:
        """What a search has taken: trials that ended, failed attempts, and trials that still run."""
        now = self._monotonic()
        running = self._running.get((arm.name, arm.repeat), {}).values()
        return arm.search_seconds + sum(max(0.0, now - start) for start in running)

    def spending(self, arm: ArmRecord) -> Spending | None:
        """The limit of seconds that a search has reached, or None."""
        budget = self._budget
        if budget.wall_seconds is not None and self.wall_seconds >= budget.wall_seconds:
            return Spending("wall_seconds", budget.wall_seconds, self.wall_seconds)
        if budget.device_seconds is not None:
            spent = self.device_seconds(arm)
            if spent >= budget.device_seconds:
                return Spending("device_seconds", budget.device_seconds, spent)
        return None
