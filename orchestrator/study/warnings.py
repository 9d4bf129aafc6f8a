"""What a study may do but its author may not mean."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from orchestrator.study import terms
from orchestrator.study.spec import StudySpec
from workloads.catalogue import Value

FEWEST_RANKED = 5
"""Configurations whose perfect order has a two-sided p below .05: 2 / 5! = .017, but 2 / 4! = .083."""


def warnings(spec: StudySpec) -> list[str]:
    """What is allowed but may not be meant, in sentences."""
    return [
        *_weak_statistics(spec),
        *_weak_search(spec),
        *_budget(spec),
        *_audit(spec),
        *_unheard_rates(spec),
        *_password(spec),
    ]


def _weak_statistics(spec: StudySpec) -> Iterable[str]:
    n = len(spec.confirm.seeds)
    if n < 5:
        yield (
            f"confirm.seeds: {n} seed{'s' if n > 1 else ''}; the smallest p that an exact test can reach is "
            f"{min(1.0, 2 / 2**n):g}. Five or more are usual"
        )
    if len(spec.arms) == 1:
        yield "arms: only one, so there is nothing to compare"


def _weak_search(spec: StudySpec) -> Iterable[str]:
    search, n = spec.search, len(spec.search.seeds)
    counts = {name: terms.configurations(arm.space, search.trials) for name, arm in spec.arms.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        yield f"arms: unequal search, configurations at most: {shown}. Claims of a fair comparison need care"
    for name, arm in spec.arms.items():
        points = terms.space_size(arm.space)
        if search.sampler == "grid" and points is not None and points > search.trials:
            yield f"arms.{name}: the grid has {points} points, search.trials allows {search.trials} of them"
    if max(counts.values(), default=0) > 1 and n == 1:
        yield "search.seeds: one seed a configuration; the best of many single runs is partly luck"
    pruner = search.pruner
    threshold = pruner.params.get("p_threshold", 0.1)
    if pruner.name == "wilcoxon" and _number(threshold) <= 1 / 2**n:
        yield (
            f"search.pruner: wilcoxon can stop nothing with {n} seed(s) a configuration: "
            f"the smallest one-sided p is {1 / 2**n:g}, p_threshold {_number(threshold):g}"
        )
    waits = _number(pruner.params.get("n_startup_trials", 0))
    if pruner.name == "median" and waits >= max(counts.values(), default=0) * n > 1:
        yield "search.pruner: median waits for more trials than an arm gets, so nothing will be stopped"


def _budget(spec: StudySpec) -> Iterable[str]:
    budget = spec.budget
    for name in ("device_seconds", "wall_seconds"):
        if getattr(budget, name) is not None:
            yield (
                f"budget.{name}: where the search ends depends on the machine and on what else it does, so "
                "the study need not come out the same twice. budget.trials does not"
            )
    if budget.wall_seconds is not None and spec.search.repeats > 1:
        yield "budget.wall_seconds: first searches come first; repeats that get no time are given up"
    if 1 < spec.search.repeats < 3:
        yield "search.repeats: 2 give one difference, and no idea how large it usually is; take 3 or more"


def _audit(spec: StudySpec) -> Iterable[str]:
    audit, pruner = spec.audit, spec.search.pruner.name
    searched = [name for name, arm in spec.arms.items() if terms.space_size(arm.space) != 1]
    if (audit.pruned or audit.proxy) and not searched:
        yield "audit: no arm is searched, so there is nothing to audit"
        return
    if audit.pruned and pruner == "none":
        yield "audit.pruned: the pruner is none, so nothing is stopped early and there is nothing to audit"
    fixed = [name for name in spec.arms if name not in searched]
    if (audit.pruned or audit.proxy) and fixed:
        yield f"audit: nothing is searched, so there is nothing to audit, in {', '.join(fixed)}"
    if audit.proxy is not None and audit.proxy.configurations < FEWEST_RANKED:
        n = audit.proxy.configurations
        yield (
            f"audit.proxy.configurations: {n} of an arm cannot show an order: below {FEWEST_RANKED} even a "
            f"perfect one has a two-sided p above .05"
        )


def _unheard_rates(spec: StudySpec) -> Iterable[str]:
    """A learning rate of a protocol's own training that no arm will see."""
    own = [name for name, arm in spec.arms.items() if "lr" in arm.space]
    for name, each in spec.protocols.items():
        if each.training is not None and each.training.lr != spec.training.lr and own:
            arms = "every arm" if len(own) == len(spec.arms) else ", ".join(own)
            rate = f"protocols.{name}.training: lr {each.training.lr:g}"
            yield f"{rate} is not for arms that set their own: {arms}"


def _password(spec: StudySpec) -> Iterable[str]:
    try:
        password = urlsplit(spec.tracking.uri or "").password
    except ValueError:
        password = None
    if password:
        yield (
            "tracking.uri: holds a password, for everybody to read who sees this file or a submission of it. "
            "Give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
        )


def _number(value: Value) -> float:
    return float(value)
