"""One arm's search space, sampled and pruned by Optuna.

Every question to Optuna is answered as a function of (what has been told, number of the question): the
sampler is seeded anew for each question. So a search that is rebuilt from the ledger goes on exactly as it
would have gone on.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import warnings
from collections.abc import Collection, Container, Mapping
from typing import Any, cast

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.study.spec import ArmSpec, Params, PrunerSpec, SearchSpec
from orchestrator.study.terms import space_size
from workloads.catalogue import Term, Value

optuna.logging.set_verbosity(optuna.logging.ERROR)

_DUPLICATES = 20
"""Questions in a row that may bring nothing new before a space counts as exhausted."""


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:4], "big")


def _distribution(term: Term) -> BaseDistribution:
    if term.kind in ("grid", "choice"):
        return CategoricalDistribution(term.values)
    low, high = (float(v) for v in term.values)
    if term.kind == "int_uniform":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=term.kind == "log_uniform")


def make_pruner(spec: PrunerSpec, epochs: int, seeds: int) -> optuna.pruners.BasePruner:
    """The Optuna pruner of a study; its steps run over the seeds: step = seed index x epochs + epoch - 1.

    ``wilcoxon`` is the exception: its step is the seed index.
    """
    params = dict(spec.params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match spec.name:
            case "median":
                return optuna.pruners.MedianPruner(**params)
            case "successive_halving":
                return optuna.pruners.SuccessiveHalvingPruner(**params)
            case "hyperband":
                return optuna.pruners.HyperbandPruner(max_resource=epochs * seeds, **params)
            case "wilcoxon":
                return optuna.pruners.WilcoxonPruner(**params)
            case _:
                return optuna.pruners.NopPruner()


class _SeenTrials:
    """An Optuna study as a pruner may see it: some of its trials."""

    def __init__(self, study: optuna.Study, shown: set[int]) -> None:
        self._full = study
        self._shown = shown
        """Trial ids."""

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        return [t for t in self._full.get_trials(deepcopy, states) if t._trial_id in self._shown]

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.get_trials()

    @property
    def best_trial(self) -> FrozenTrial:
        complete = self.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not complete:
            raise ValueError("No trials are completed yet.")
        return min(complete, key=lambda t: (t.value if t.value is not None else math.inf, t.number))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._full, name)


class _ArmTPE(TPESampler):
    """TPE that knows the space. Optuna's own finds it anew for every question, from all trials so far."""

    def __init__(self, space: Mapping[str, BaseDistribution], *, seed: int, n_startup_trials: int) -> None:
        super().__init__(seed=seed, n_startup_trials=n_startup_trials)
        # Sorted as Optuna's own, which draws in this order.
        self._known = {name: d for name, d in sorted(space.items()) if not d.single()}

    def infer_relative_search_space(self, study: Any, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._known)


class ArmSearch:
    """The search of one arm. Configurations are numbered 0, 1, ... as they are asked for."""

    def __init__(
        self,
        study_name: str,
        arm: ArmSpec,
        search: SearchSpec,
        pruner: optuna.pruners.BasePruner,
        storage: JournalStorage,
    ) -> None:
        self._arm = arm
        self._search = search
        self._name = f"{study_name}/{arm.name}"
        self._fixed = {n: t.values[0] for n, t in arm.space.items() if t.kind == "fixed"}
        self._free = {n: _distribution(t) for n, t in arm.space.items() if t.kind != "fixed"}
        self._study = optuna.create_study(
            study_name=self._name, storage=storage, direction="minimize", pruner=pruner
        )
        self._trials: list[int] = []
        """Optuna's trial ids, by configuration number."""
        self._points: set[frozenset[tuple[str, Value]]] = set()
        """The free parameters of the configurations so far."""
        self._grid = self._grid_points() if search.sampler == "grid" else []

    def _grid_points(self) -> list[dict[str, Value]]:
        names = [n for n, t in self._arm.space.items() if t.kind != "fixed"]
        axes = [_axis(self._arm.space[n]) for n in names]
        points = [dict(zip(names, values, strict=True)) for values in itertools.product(*axes)]
        if len(points) > self._search.trials:
            random.Random(_seed("grid", self._search.sampler_seed, self._name)).shuffle(points)
        return points

    def ask(self) -> Params | None:
        """The parameters of the next configuration, all of the arm's space; None: nothing new is left."""
        number = len(self._trials)
        if self._search.sampler == "grid":
            if number >= len(self._grid):
                return None
            free: Mapping[str, Value] = self._grid[number]
            self._create(free)
            return {**self._fixed, **free}
        size = space_size(self._arm.space)
        if size is not None and number >= size:
            return None
        for attempt in range(_DUPLICATES):
            self._study.sampler = self._sampler(number, attempt)
            trial = self._study.ask(self._free)
            point = _point(trial.params)
            if point not in self._points:
                self._points.add(point)
                self._trials.append(trial._trial_id)
                return {**self._fixed, **trial.params}
            self._study.tell(trial, state=TrialState.FAIL)
        return None

    def restore(self, params: Params) -> None:
        """Take in the next configuration as the ledger has it, without asking the sampler."""
        self._create({n: params[n] for n in self._free})

    def _create(self, free: Mapping[str, Value]) -> None:
        template = FrozenTrial(
            number=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=None,
            datetime_complete=None,
            params=dict(free),
            distributions={n: self._free[n] for n in free},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=-1,
        )
        storage = self._study._storage
        self._points.add(_point(free))
        self._trials.append(storage.create_new_trial(self._study._study_id, template_trial=template))

    def _sampler(self, number: int, attempt: int) -> BaseSampler:
        seed = _seed("ask", self._search.sampler_seed, self._name, number, attempt)
        if self._search.sampler == "random":
            return RandomSampler(seed=seed)
        startup = min(10, max(3, self._search.trials // 3))
        return _ArmTPE(self._free, seed=seed, n_startup_trials=startup)

    def report(self, number: int, step: int, value: float) -> None:
        """An intermediate value of a running configuration."""
        self._study._storage.set_trial_intermediate_value(self._trials[number], step, value)

    def should_prune(self, number: int, seen: Collection[int]) -> bool:
        """Whether Optuna's pruner would stop this configuration after its last report.

        Args:
            seen: the configurations that it is compared with.
        """
        self._study._thread_local.cached_all_trials = None
        trial = self._study._storage.get_trial(self._trials[number])
        view = _SeenTrials(self._study, {self._trials[n] for n in (*seen, number)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return bool(self._study.pruner.prune(cast(optuna.Study, view), trial))

    def tell(self, number: int, state: str, value: float | None) -> None:
        """The end of a configuration: state ``complete``, ``pruned`` or ``failed``."""
        trial = self._study._storage.get_trial(self._trials[number])
        if state == "complete":
            self._study.tell(trial.number, value)
        else:
            self._study.tell(trial.number, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)


def _point(free: Mapping[str, Value]) -> frozenset[tuple[str, Value]]:
    return frozenset(free.items())


def _axis(term: Term) -> list[Value]:
    if term.kind == "int_uniform":
        return list(range(int(term.values[0]), int(term.values[1]) + 1))
    return list(term.values)
