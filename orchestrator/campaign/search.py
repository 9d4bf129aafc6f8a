"""The search of one arm as it stands: which seed next, which configuration is settled, who wins.

A configuration runs over the search seeds. Its results are taken in a fixed order, seed by seed and epoch by
epoch, whatever the order of arrival: a later seed's reports wait until the seeds before it are through. So
its fate depends on results alone. It ends ``pruned`` where Optuna's pruner says so, or where it can no longer
win: even with a perfect value on every seed to come, its mean would stay behind the best.

In deterministic mode configuration n is asked for once configurations 0 .. n - ``search.parallel`` are
settled, and whatever is decided about n rests on exactly these, also where more are settled by then. So at
most ``search.parallel`` are in flight, none waits for a whole batch, and no decision depends on who was
faster.

``budget.trials`` keeps to that (see ``budget``): n is asked for, now or later, just where what those before
it have taken in the end leaves room for all of its seeds. Limits of seconds end a search where they find
it (:meth:`SearchProgress.end`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from orchestrator.campaign import stops
from orchestrator.campaign.budget import Spending, charged_trials, end_reason
from orchestrator.campaign.objective import Objective, meets_guard
from orchestrator.campaign.record import ArmRecord, ConfigurationRecord
from orchestrator.campaign.sampling import ArmSearch
from orchestrator.study.spec import Params, StudySpec
from orchestrator.study.terms import configurations as most_configurations


@dataclass(frozen=True)
class Verdict:
    """The end of a configuration."""

    arm: str
    number: int
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    reason: str
    repeat: int = 0


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


@dataclass(frozen=True)
class _Best:
    """The best of some complete configurations."""

    accuracy: float | None = None
    """Mean validation accuracy."""
    value: float | None = None

    def among(self, configuration: ConfigurationRecord) -> _Best:
        """The best where one more configuration has been settled."""
        if configuration.state != "complete":
            return self
        accuracy, value = _mean_of(configuration, "validation/accuracy"), configuration.value
        return _Best(
            accuracy if self.accuracy is None else max(self.accuracy, accuracy),
            value if self.value is None or value is None else min(self.value, value),
        )


class SearchProgress:
    """The progress of one arm's search, or of a repeat of it.

    Args:
        spec: the study as this repeat searches it.
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
        self._best = [_Best()]
        """By how many configurations had been told to Optuna: the best of these."""
        self._first_untold = 0
        self._first_open = 0
        """No configuration before it runs."""
        self._exhausted = False

    def rebuild(self) -> None:
        """Bring Optuna and the cursors to where the record is, in the order of the numbers."""
        for configuration in list(self.arm.configurations):
            self._tell_settled_before(configuration.number)
            self._search.restore(configuration.params)
            self._cursors.append(_Cursor())
            self.advance(configuration.number)
        if self.arm.spent is not None:
            self.end(end_reason(self.arm.spent["limit"], self.arm.spent["allowed"]))
        if self.is_over:
            self.tell_rest()

    # -- asking -------------------------------------------------------------------------------------

    @property
    def _complete_budget(self) -> bool:
        arm = self.arm
        if arm.spent is not None and (arm.configurations or not self._must_have_one):
            return True
        return arm.exhausted or len(arm.configurations) >= self._spec.search.trials

    @property
    def is_over(self) -> bool:
        """Nothing more may be asked for, and every configuration is settled."""
        return self._complete_budget and not self._running()

    def _running(self) -> list[ConfigurationRecord]:
        """The configurations that are not settled, without a look at the many that have long been."""
        configurations = self.arm.configurations
        while self._first_open < len(configurations) and configurations[self._first_open].state != "running":
            self._first_open += 1
        return [c for c in configurations[self._first_open :] if c.state == "running"]

    def is_settled(self, number: int) -> bool:
        return self.arm.configurations[number].state != "running"

    def next_seed(self) -> tuple[int, int] | None:
        """(number, seed) that should run next of the configurations in flight.

        The first seed goes alone; the others follow side by side once it is through and was good enough.
        """
        for configuration in self._running():
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
        if self._is_short_of_trials:
            return None
        running = self._running()
        window = self._spec.search.parallel
        if self._spec.search.deterministic:
            if any(c.number in self._seen(number) for c in running):
                return None
        elif len(running) >= window:
            return None
        self._tell_settled_before(number)
        params = self._search.ask()
        if params is None:
            self._exhausted = True
            return None
        self._cursors.append(_Cursor())
        return params

    def newly_exhausted(self) -> bool:
        """The space turned out to hold no more configurations, and the record does not know yet."""
        return self._exhausted and not self.arm.exhausted

    # -- the budget ---------------------------------------------------------------------------------

    @property
    def _is_short_of_trials(self) -> bool:
        """Whether the space holds a further configuration, and ``budget.trials`` no room for its seeds."""
        allowed, search, asked = self._spec.budget.trials, self._spec.search, self.arm.configurations
        if allowed is None or not asked:
            return False
        if len(asked) >= most_configurations(self._spec.arms[self.arm.name].space, search.trials):
            return False
        return charged_trials(search, asked) + len(search.seeds) > allowed

    def out_of_trials(self) -> Spending | None:
        """That ``budget.trials`` has ended the search, where it has and the record does not know yet."""
        allowed = self._spec.budget.trials
        if allowed is None or self._complete_budget or not self._is_short_of_trials or self._running():
            return None
        return Spending("trials", allowed, charged_trials(self._spec.search, self.arm.configurations))

    @property
    def _must_have_one(self) -> bool:
        """Whether the search goes on beyond its budget until one configuration is complete.

        Without one, an arm has nothing to confirm. A repeat may be given up where all searches end together.
        """
        spent = self.arm.spent
        return not (self.arm.repeat and spent is not None and spent["limit"] == "wall_seconds")

    def _is_kept(self) -> bool:
        """Whether what still runs is all that the arm can have: then no pruner stops it."""
        arm = self.arm
        return arm.spent is not None and all(c.state != "complete" for c in arm.configurations)

    def end(self, reason: str) -> None:
        """Settle what still runs; of a search without a complete configuration all but the first of it."""
        running = self._running()
        if self._must_have_one and all(c.state != "complete" for c in self.arm.configurations):
            running = running[1:]
        for configuration in running:
            self._verdict(configuration, "pruned", None, reason)

    def _tell_settled_before(self, number: int) -> None:
        """Pass on to Optuna the verdicts that the configuration ``number`` may rest on."""
        if self._spec.search.deterministic:
            self._tell(len(self._seen(number)))
        else:
            self._tell(number)

    def _seen(self, number: int) -> Collection[int]:
        """The configurations whose verdicts may bear on what becomes of ``number``."""
        if not self._spec.search.deterministic:
            return self._told
        return range(max(0, number + 1 - self._spec.search.parallel))

    def tell_rest(self) -> None:
        """Pass on what is left once the search is over; nothing is asked after that."""
        self._tell(len(self.arm.configurations))

    def _tell(self, end: int) -> None:
        """Pass on the verdicts of the configurations before number ``end``."""
        for configuration in self.arm.configurations[self._first_untold : end]:
            if configuration.state != "running" and configuration.number not in self._told:
                self._told.add(configuration.number)
                self._best.append(self._best[-1].among(configuration))
                self._search.tell(configuration.number, configuration.state, configuration.value)
        while self._first_untold in self._told:
            self._first_untold += 1

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
                    value = self._running_mean(cursor, number, trial.reports[epoch])
                    reason = stops.within(self._spec.search.pruner.name, epoch, trial.seed, seeds)
                    self._verdict(configuration, "pruned", value, reason)
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
        if pruner.name in ("none", "wilcoxon") or epoch >= epochs or self._is_kept():
            return False
        step = cursor.seed_index * epochs + epoch - 1
        self._search.report(number, step, self._running_mean(cursor, number, metrics))
        return epoch >= max(1, pruner.warmup_epochs) and self._should_prune(number)

    def _behind_after(self, cursor: _Cursor, number: int) -> str:
        """Why a configuration does not get its remaining seeds, or an empty string."""
        pruner, epochs, seeds = self._spec.search.pruner, self._spec.training.epochs, self._spec.search.seeds
        best = self._best_seen(number).value
        if best is not None and sum(cursor.finals) / len(seeds) > best:
            return f"cannot win any more after {cursor.seed_index} of {len(seeds)} seeds"
        if pruner.name == "none" or self._is_kept():
            return ""
        if pruner.name == "wilcoxon":
            self._search.report(number, cursor.seed_index - 1, cursor.finals[-1])
        else:
            mean = sum(cursor.finals) / len(cursor.finals)
            self._search.report(number, cursor.seed_index * epochs - 1, mean)
        return stops.after(pruner.name, cursor.seed_index, seeds) if self._should_prune(number) else ""

    def _should_prune(self, number: int) -> bool:
        return self._search.should_prune(number, self._seen(number))

    def _running_mean(self, cursor: _Cursor, number: int, metrics: Mapping[str, float]) -> float:
        """The best guess of a configuration's value within a seed: the mean with this one so far."""
        return (sum(cursor.finals) + self._value(number, metrics)) / (len(cursor.finals) + 1)

    def _value(self, number: int, metrics: Mapping[str, float]) -> float:
        threshold = self._objective.threshold(self._best_seen(number).accuracy)
        return self._objective.value(metrics, threshold)

    def _best_seen(self, number: int) -> _Best:
        """The best of the configurations whose verdicts may bear on ``number``.

        These have been told, and in deterministic mode in the order of their numbers: so it is the best of
        the first so many that were told.
        """
        return self._best[len(self._seen(number))]

    def _verdict(
        self,
        configuration: ConfigurationRecord,
        state: Literal["complete", "pruned", "failed"],
        value: float | None,
        reason: str,
    ) -> None:
        self._cursors[configuration.number].decided = True
        if configuration.state == "running":
            number, repeat = configuration.number, self.arm.repeat
            self._settle(Verdict(self.arm.name, number, state, value, reason, repeat))

    # -- choosing -----------------------------------------------------------------------------------

    def winner(self) -> Winner | None:
        """The best complete configuration, all judged by one and the same guard; None: there is none."""
        complete = [c for c in self.arm.configurations if c.state == "complete"]
        accuracies = (_mean_of(c, "validation/accuracy") for c in complete)
        threshold = self._objective.threshold(max(accuracies, default=None))
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
        spent = self.arm.spent
        ended = "" if spent is None else end_reason(spent["limit"], spent["allowed"])
        if ended and "failed" not in states:
            return f"{ended} before a configuration was complete"
        failed = states.count("failed")
        first = next((c.reason for c in self.arm.configurations if c.state == "failed"), "")
        why = f"no configuration ran to its end ({failed} of {len(states)} failed; the first: {first})"
        return f"{why}; {ended}" if ended else why


def _mean_of(configuration: ConfigurationRecord, metric: str) -> float:
    values = [t.metrics[metric] for t in configuration.trials.values() if t.state == "complete"]
    return sum(values) / len(values)
