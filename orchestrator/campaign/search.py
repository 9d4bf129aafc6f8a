"""The search of one arm as it stands: which seed next, which configuration is settled, who wins.

A configuration runs over the search seeds. Its results are taken in a fixed order, seed by seed and epoch by
epoch, whatever the order of arrival: a later seed's reports wait until the seeds before it are through. So
its fate depends on results alone. It ends ``pruned`` where Optuna's pruner says so, or where it can no longer
win: even with a perfect value on every seed to come, its mean would stay behind the best.

In deterministic mode configuration n is asked for once configurations 0 .. n - ``search.parallel`` are
settled, and whatever is decided about n rests on exactly these, also where more are settled by then. So at
most ``search.parallel`` are in flight, none waits for a whole batch, and no decision depends on who was
faster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.campaign.objective import Objective, meets_guard
from orchestrator.campaign.record import ArmRecord, ConfigurationRecord
from orchestrator.campaign.sampling import ArmSearch
from orchestrator.study.spec import Params, StudySpec


@dataclass(frozen=True)
class Verdict:
    """The end of a configuration."""

    arm: str
    number: int
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    reason: str


@dataclass(frozen=True)
class Winner:
    number: int
    value: float
    reason: str


@dataclass
class _Cursor:
    """How far a configuration's results have been taken in."""

    seed_index: int = 0
    epochs_taken: int = 0
    finals: tuple[float, ...] = ()
    """Objective of each seed that is through."""
    decided: bool = False


class SearchProgress:
    """The progress of one arm's search.

    Args:
        settle: told every verdict once; must apply it to the record.
    """

    def __init__(
        self,
        spec: StudySpec,
        arm: ArmRecord,
        search: ArmSearch,
        objective: Objective,
        settle: Callable[[Verdict], None],
    ) -> None:
        self.arm = arm
        self._spec = spec
        self._search = search
        self._objective = objective
        self._settle = settle
        self._cursors: list[_Cursor] = []
        self._told: set[int] = set()
        self._exhausted = False

    def rebuild(self) -> None:
        """Bring Optuna and the cursors to where the record is, in the order of the numbers."""
        for configuration in list(self.arm.configurations):
            self._tell_settled_before(configuration.number)
            self._search.restore(configuration.params)
            self._cursors.append(_Cursor())
            self.advance(configuration.number)
        if self.is_over:
            self.tell_rest()

    # -- asking -------------------------------------------------------------------------------------

    @property
    def _complete_budget(self) -> bool:
        return self.arm.exhausted or len(self.arm.configurations) >= self._spec.search.trials

    @property
    def is_over(self) -> bool:
        """All of the budget is spent, and every configuration is settled."""
        return self._complete_budget and all(c.state != "running" for c in self.arm.configurations)

    def is_settled(self, number: int) -> bool:
        return self.arm.configurations[number].state != "running"

    def next_seed(self) -> tuple[int, int] | None:
        """(number, seed) that should run next of the configurations in flight.

        The first seed goes alone; the others follow side by side once it is through and was good enough.
        """
        for configuration in self.arm.configurations:
            if configuration.state == "running":
                first_is_through = self._cursors[configuration.number].seed_index > 0
                seeds = self._spec.search.seeds
                for seed in seeds if first_is_through else seeds[:1]:
                    if seed not in configuration.trials:
                        return configuration.number, seed
        return None

    def ask(self) -> Params | None:
        """The next configuration of this arm, or None while none may start."""
        if self._complete_budget or self._exhausted:
            return None
        number = len(self.arm.configurations)
        running = [c for c in self.arm.configurations if c.state == "running"]
        window = self._spec.search.parallel
        if self._spec.search.deterministic:
            if any(c.number in self._seen(number) for c in running):
                return None
        elif len(running) >= window:
            return None
        self._tell_settled_before(number)
        params = self._search.ask([c.params for c in self.arm.configurations])
        if params is None:
            self._exhausted = True
            return None
        self._cursors.append(_Cursor())
        return params

    def newly_exhausted(self) -> bool:
        """The space turned out to hold no more configurations, and the record does not know yet."""
        return self._exhausted and not self.arm.exhausted

    def _tell_settled_before(self, number: int) -> None:
        """Pass on to Optuna the verdicts that the configuration ``number`` may rest on."""
        if self._spec.search.deterministic:
            self._tell(self.arm.configurations[: len(self._seen(number))])
        else:
            self._tell(self.arm.configurations[:number])

    def _seen(self, number: int) -> Collection[int]:
        """The configurations whose verdicts may bear on what becomes of ``number``."""
        if not self._spec.search.deterministic:
            return self._told
        return range(max(0, number + 1 - self._spec.search.parallel))

    def tell_rest(self) -> None:
        """Pass on what is left once the search is over; nothing is asked after that."""
        self._tell(self.arm.configurations)

    def _tell(self, configurations: list[ConfigurationRecord]) -> None:
        for configuration in configurations:
            if configuration.state != "running" and configuration.number not in self._told:
                self._told.add(configuration.number)
                self._search.tell(configuration.number, configuration.state, configuration.value)

    # -- taking results in --------------------------------------------------------------------------

    def advance(self, number: int) -> None:
        """Take in what is new of a configuration, in order, and settle it where its fate is decided."""
        configuration = self.arm.configurations[number]
        cursor = self._cursors[number]
        seeds = self._spec.search.seeds
        while not cursor.decided:
            trial = configuration.trials.get(seeds[cursor.seed_index])
            if trial is None:
                return
            for epoch in sorted(trial.reports)[cursor.epochs_taken :]:
                cursor.epochs_taken += 1
                if self._behind_at(cursor, number, epoch, trial.reports[epoch]):
                    reason = f"stopped by the {self._spec.search.pruner.name} pruner at epoch {epoch}"
                    if len(seeds) > 1:
                        reason += f" of seed {trial.seed}"
                    self._verdict(
                        configuration,
                        "pruned",
                        self._running_mean(cursor, number, trial.reports[epoch]),
                        reason,
                    )
                    return
            if trial.state == "failed":
                self._verdict(configuration, "failed", None, f"seed {trial.seed}: {trial.reason}")
                return
            if trial.state != "complete":
                return
            cursor.finals += (self._value(number, trial.metrics),)
            cursor.seed_index += 1
            cursor.epochs_taken = 0
            mean = sum(cursor.finals) / len(cursor.finals)
            if cursor.seed_index == len(seeds):
                self._verdict(configuration, "complete", mean, "")
                return
            behind = self._behind_after(cursor, number)
            if behind:
                self._verdict(configuration, "pruned", mean, behind)
                return

    def _behind_at(self, cursor: _Cursor, number: int, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Report an epoch to Optuna; whether its pruner would stop the configuration here."""
        pruner, epochs = self._spec.search.pruner, self._spec.training.epochs
        if pruner.name in ("none", "wilcoxon") or epoch >= epochs:
            return False
        step = cursor.seed_index * epochs + epoch - 1
        self._search.report(number, step, self._running_mean(cursor, number, metrics))
        return epoch >= max(1, pruner.warmup_epochs) and self._should_prune(number)

    def _behind_after(self, cursor: _Cursor, number: int) -> str:
        """Why a configuration does not get its remaining seeds, or an empty string."""
        pruner, epochs, seeds = self._spec.search.pruner, self._spec.training.epochs, self._spec.search.seeds
        through = f"after {cursor.seed_index} of {len(seeds)} seeds"
        best = self._best_seen(number)
        if best is not None and sum(cursor.finals) / len(seeds) > best:
            return f"cannot win any more {through}"
        if pruner.name == "none":
            return ""
        if pruner.name == "wilcoxon":
            self._search.report(number, cursor.seed_index - 1, cursor.finals[-1])
        else:
            mean = sum(cursor.finals) / len(cursor.finals)
            self._search.report(number, cursor.seed_index * epochs - 1, mean)
        return f"stopped by the {pruner.name} pruner {through}" if self._should_prune(number) else ""

    def _should_prune(self, number: int) -> bool:
        return self._search.should_prune(number, self._seen(number))

    def _running_mean(self, cursor: _Cursor, number: int, metrics: Mapping[str, float]) -> float:
        """The best guess of a configuration's value within a seed: the mean with this one so far."""
        return (sum(cursor.finals) + self._value(number, metrics)) / (len(cursor.finals) + 1)

    def _value(self, number: int, metrics: Mapping[str, float]) -> float:
        best = self._best_accuracy(self._seen(number))
        return self._objective.value(metrics, self._objective.threshold(best))

    def _best_seen(self, number: int) -> float | None:
        seen = self._seen(number)
        values = [c.value for c in self.arm.configurations if c.number in seen and c.state == "complete"]
        return min((v for v in values if v is not None), default=None)

    def _best_accuracy(self, among: Collection[int]) -> float | None:
        return max(
            (
                _mean_of(c, "validation/accuracy")
                for c in self.arm.configurations
                if c.number in among and c.state == "complete"
            ),
            default=None,
        )

    def _verdict(
        self,
        configuration: ConfigurationRecord,
        state: Literal["complete", "pruned", "failed"],
        value: float | None,
        reason: str,
    ) -> None:
        self._cursors[configuration.number].decided = True
        if configuration.state == "running":
            self._settle(Verdict(self.arm.name, configuration.number, state, value, reason))

    # -- choosing -----------------------------------------------------------------------------------

    def winner(self) -> Winner | None:
        """The best complete configuration, all judged by one and the same guard; None: there is none."""
        complete = [c for c in self.arm.configurations if c.state == "complete"]
        threshold = self._objective.threshold(self._best_accuracy({c.number for c in complete}))
        ranked = []
        for c in complete:
            values = [self._objective.value(t.metrics, threshold) for t in c.trials.values()]
            ranked.append((sum(values) / len(values), c.number))
        if not ranked:
            return None
        value, number = min(ranked)
        reason = f"best of {len(complete)} complete configurations (accuracy guard {threshold:.4f})"
        if not meets_guard(value, len(self._spec.search.seeds)):
            reason += "; it does not meet the guard, none does"
        return Winner(number, value, reason)

    def why_no_winner(self) -> str:
        states = [c.state for c in self.arm.configurations]
        failed = states.count("failed")
        first = next((c.reason for c in self.arm.configurations if c.state == "failed"), "")
        return f"no configuration ran to its end ({failed} of {len(states)} failed; the first: {first})"


def _mean_of(configuration: ConfigurationRecord, metric: str) -> float:
    values = [t.metrics[metric] for t in configuration.trials.values() if t.state == "complete"]
    return sum(values) / len(values)
