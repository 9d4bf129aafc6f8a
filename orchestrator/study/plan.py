"""What a study will do, in numbers: configurations, trials, time, and what its statistics can show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.study import power, repeats, terms
from orchestrator.study.regimes import Regime, main_regime, regimes
from orchestrator.study.spec import StudySpec
from workloads.catalogue import Term
from workloads.data.sizes import planned_sizes
from workloads.models.catalogue import MODELS

CPU_FLOPS = 50e9
"""Assumed speed of one CPU core, FLOP/s; the quickstart's small network reached 78e9 on an AMD EPYC."""
GPU_FLOPS = 100e12 * 0.1
"""Assumed speed of one GPU: 100 TFLOP/s, of which small networks reach a tenth."""
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class ArmPlan:
    """What one arm will do at most, its repeated searches counted."""

    name: str
    loss: str
    space: Mapping[str, Term]
    configurations: int
    search_trials: int
    confirm_trials: int
    audit_trials: int = 0


@dataclass(frozen=True)
class TimeEstimate:
    """How long it may take, and from what that was reckoned."""

    seconds: float
    trial_seconds: Mapping[str, float]
    """By arm."""
    side_by_side: int
    measured: bool
    """From trials that ran (True), or from operation counts and an assumed speed (False)."""
    flop: float
    """Floating-point operations of one trial, training and validation; 0 where unknown."""


@dataclass(frozen=True)
class Reach:
    """What a paired comparison with the baseline can show."""

    seeds: int
    smallest_p: float
    comparisons: int
    """Primary metrics times arms other than the baseline: Holm's first step divides alpha by this."""
    effect: float | None
    """Smallest Cohen's dz found with 80 % power at alpha .05; None below two seeds."""
    effect_holm: float | None
    """The same at Holm's first step."""
    seeds_for_one: int
    """Seeds that find dz = 1 with 80 % power at Holm's first step."""


@dataclass(frozen=True)
class StudyPlan:
    arms: tuple[ArmPlan, ...]
    search_trials: int
    confirm_trials: int
    time: TimeEstimate | None
    """None where the model or the data give no operation counts and nothing was measured."""
    reach: Reach
    audit_trials: int = 0


def make_plan(spec: StudySpec, cores: int, measured: Mapping[str, float] | None = None) -> StudyPlan:
    """The plan of a study on so many CPU cores; ``measured``: seconds a full trial took, by arm."""
    arms = tuple(_arm_plan(spec, name) for name in spec.arms)
    return StudyPlan(
        arms=arms,
        search_trials=sum(a.search_trials for a in arms),
        confirm_trials=sum(a.confirm_trials for a in arms),
        time=_time(spec, arms, cores, measured or {}),
        reach=_reach(spec),
        audit_trials=sum(a.audit_trials for a in arms),
    )


def _arm_plan(spec: StudySpec, name: str) -> ArmPlan:
    arm = spec.arms[name]
    configurations = _configurations(spec, name)
    seeds, times, allowed = len(spec.search.seeds), repeats.count(spec, name), spec.budget.trials
    # One point needs no search: it is confirmed as it is.
    search_trials = configurations * seeds if terms.space_size(arm.space) != 1 else 0
    if allowed is not None:
        search_trials = min(search_trials, allowed)
    confirm_trials = len(spec.confirm.seeds) * (len(regimes(spec)) + times - 1)
    audit_trials = audits_at_most(spec, name)
    return ArmPlan(
        name, arm.loss, arm.space, times * configurations, times * search_trials, confirm_trials, audit_trials
    )


def audits_at_most(spec: StudySpec, arm: str) -> int:
    """Audit trials of an arm where as much was pruned as can be."""
    space, pruned, proxy = spec.arms[arm].space, spec.audit.pruned or 0, spec.audit.proxy
    if terms.space_size(space) == 1:
        return 0
    configurations = _configurations(spec, arm)
    # The winner was not pruned.
    stopped = 0 if spec.search.pruner.name == "none" else min(pruned, configurations - 1)
    drawn = min(configurations, stopped + (proxy.configurations if proxy else 0))
    return drawn * len(spec.search.seeds)


def _configurations(spec: StudySpec, arm: str) -> int:
    """Configurations that a search can try at most."""
    space, seeds, allowed = spec.arms[arm].space, len(spec.search.seeds), spec.budget.trials
    most = terms.configurations(space, spec.search.trials)
    if allowed is None or terms.space_size(space) == 1:
        return most
    # As many as where each but the last ends with its first seed.
    return max(1, min(most, allowed - seeds + 1))


def trial_flop(spec: StudySpec) -> float:
    """Operations of one trial: two a multiply-accumulate, forward and backward three times the forward.

    Counts the training images in every epoch and the forward pass of the validation and noise images at
    every evaluation; 0 where the catalogues do not say.
    """
    macs = float(MODELS[spec.model.name].facts.get("macs", 0)) if spec.model.name in MODELS else 0.0
    sizes = planned_sizes(spec.data)
    if not macs or sizes is None:
        return 0.0
    noise = spec.noise.size * len(spec.noise.sigmas)
    training = spec.training
    evaluations = -(-training.epochs // training.evaluate_every)
    seen = sizes.num_train * training.augmentation.repeats * training.epochs
    return 2 * macs * (3 * seen + (sizes.num_validation + noise) * evaluations)


def _time(
    spec: StudySpec, arms: tuple[ArmPlan, ...], cores: int, measured: Mapping[str, float]
) -> TimeEstimate | None:
    flop = trial_flop(spec)
    resources, most = spec.resources, spec.execution.max_concurrent
    if resources.on_gpu:
        slots, speed = 1 / resources.most_gpu, GPU_FLOPS * min(1.0, resources.most_gpu)
    else:
        slots, speed = cores / resources.cpu, CPU_FLOPS * resources.cpu
    if most is not None:
        slots = min(slots, most)
    at_once = spec.search.parallel * len(spec.search.seeds)
    slots = min(slots, sum(repeats.count(spec, a.name) for a in arms) * at_once)
    side_by_side = max(1, int(slots))
    if not measured and not flop:
        return None
    typical = sum(measured.values()) / len(measured) if measured else flop / speed
    seconds = {a.name: measured.get(a.name, typical) for a in arms}
    # A confirm trial of another regime takes more or fewer steps than a standard one.
    shares = {name: _steps_share(spec, regime) for name, regime in regimes(spec).items()}
    again = shares[main_regime(spec)]
    confirm = {a.name: sum(shares.values()) + again * (repeats.count(spec, a.name) - 1) for a in arms}
    confirming = sum(len(spec.confirm.seeds) * confirm[a.name] * seconds[a.name] for a in arms)
    searching = sum(_search_seconds(spec, a, seconds[a.name]) for a in arms) / side_by_side
    if spec.budget.wall_seconds is not None:
        searching = min(searching, spec.budget.wall_seconds)
    auditing = sum(a.audit_trials * seconds[a.name] for a in arms)
    total = searching + (confirming + auditing) / side_by_side
    return TimeEstimate(total, seconds, side_by_side, bool(measured), flop)


def _search_seconds(spec: StudySpec, arm: ArmPlan, each: float) -> float:
    """Device seconds that an arm's searches may take."""
    seconds, allowed = arm.search_trials * each, spec.budget.device_seconds
    return seconds if allowed is None else min(seconds, repeats.count(spec, arm.name) * allowed)


def _steps_share(spec: StudySpec, regime: Regime) -> float:
    """Image passes of a regime's trial, as a multiple of a standard one's."""
    share = regime.training(spec).epochs / spec.training.epochs
    sizes = planned_sizes(spec.data)
    if regime.long_tailed is not None and sizes is not None:
        # Loads numpy, which plans of the standard protocol alone do without.
        from workloads.data.long_tail import long_tail_counts

        kept = long_tail_counts(sizes.train_counts, regime.long_tailed.profile, regime.long_tailed.factor)
        share *= sum(kept) / sizes.num_train
    if regime.long_tailed is not None and regime.long_tailed.method == "crt":
        share *= 1 + regime.long_tailed.crt_epochs / regime.training(spec).epochs
    if regime.continual is not None:
        batch, replayed = regime.training(spec).batch_size, regime.continual.replay_batch
        draws = {"replay": 1, "derpp": 2}.get(regime.continual.strategy, 0)
        share *= 1 + draws * (replayed or batch) / batch
        if regime.continual.stream != "split":
            share *= regime.continual.tasks
    return share


def _reach(spec: StudySpec) -> Reach:
    seeds = len(spec.confirm.seeds)
    comparisons = len(spec.report.primary) * (len(spec.arms) - 1)
    first_step = ALPHA / max(1, comparisons)
    enough = seeds >= 2
    return Reach(
        seeds=seeds,
        smallest_p=power.smallest_p(seeds),
        comparisons=comparisons,
        effect=power.detectable_effect(seeds, ALPHA, POWER) if enough else None,
        effect_holm=power.detectable_effect(seeds, first_step, POWER) if enough else None,
        seeds_for_one=next(n for n in range(2, 1000) if power.detectable_effect(n, first_step, POWER) <= 1),
    )
