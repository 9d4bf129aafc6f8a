"""What a reader should know before believing the tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from orchestrator.campaign.objective import meets_guard
from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.report import numbers
from orchestrator.report.bookkeeping import chosen_configuration, last_metrics
from orchestrator.report.comparison import arm_record, confirm_trials, ordered_arms
from orchestrator.report.metrics import table_metrics
from orchestrator.report.statistics import smallest_sign_flip_p
from orchestrator.study.spec import StudySpec
from workloads.catalogue import Term, Value

FEW_SEEDS = 5

EDGE = 0.02
"""Share of a search range, at each end, that counts as its edge."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def cautions(spec: StudySpec, record: StudyRecord) -> tuple[str, ...]:
    """One sentence each, ordered by how much they weigh."""
    found = [] if is_finished(spec, record) else [f"{progress(spec, record)}: what is shown is provisional."]
    for arm in ordered_arms(spec):
        found += _failed(spec, record, arm)
    found += _few_seeds(spec, record)
    for arm in ordered_arms(spec):
        found += _not_finite(spec, record, arm)
        found += _unguarded(spec, record, arm)
        found += _at_edge(spec, record, arm)
        found += _saturated(record, arm)
        found += _temperature_at_bound(spec, record, arm)
        found += _notes(spec, record, arm)
    found += _data(record)
    return tuple(found)


def is_finished(spec: StudySpec, record: StudyRecord) -> bool:
    """Every confirm trial has ended, or its arm has nothing to confirm."""
    return all(
        bool(arm_record(record, arm).failure)
        or sum(t.state != "running" for t in confirm_trials(spec, record, arm).values())
        == len(spec.confirm.seeds)
        for arm in spec.arms
    )


def progress(spec: StudySpec, record: StudyRecord) -> str:
    """``Finished: 15 of 15 confirm trials complete``."""
    trials = [trial for arm in spec.arms for trial in confirm_trials(spec, record, arm).values()]
    complete = sum(trial.state == "complete" for trial in trials)
    planned = len(spec.arms) * len(spec.confirm.seeds)
    state = "Finished" if is_finished(spec, record) else "Not finished"
    return f"{state}: {complete} of {numbers.counted(planned, 'confirm trial')} complete"


def _data(record: StudyRecord) -> list[str]:
    """What the test sets have besides their content that a network could tell them by, or has seen."""
    sets = record.sessions[-1].get("data", {}).get("sets", {}) if record.sessions else {}
    known = sets.get("train", {}).get("encoding")
    real = {name: each for name, each in sets.items() if each["kind"] in ("near", "far")}
    other = [
        f"{name} ({each['encoding']})"
        for name, each in real.items()
        if each.get("encoding") not in (None, known, "synthetic")
    ]
    found = []
    if other and known not in (None, "synthetic"):
        found.append(
            f"OOD sets that were not compressed like the {known} training images: {', '.join(other)}. "
            "Traces of the compression alone may tell them apart."
        )
    found += [
        f"{name}: {numbers.counted(int(each['duplicates_of_train']), 'image')} with exactly the pixels of a "
        "training image; counted, not left out."
        for name, each in sets.items()
        if each.get("duplicates_of_train")
    ]
    return found


def _failed(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    entry = arm_record(record, arm)
    found = [f"{arm}: nothing could be selected ({entry.failure})."] if entry.failure else []
    confirm = [t.seed for t in confirm_trials(spec, record, arm).values() if t.state == "failed"]
    search = [t for c in entry.configurations for t in c.trials.values() if t.state == "failed"]
    if confirm:
        seeds = ", ".join(str(seed) for seed in confirm)
        found.append(
            f"{arm}: {numbers.counted(len(confirm), 'confirm trial')} failed (seed {seeds}); its means stand "
            "on the others, which may flatter it."
        )
    if search:
        found.append(f"{arm}: {numbers.counted(len(search), 'search trial')} failed.")
    return found


def _temperature_at_bound(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    complete = [t for t in confirm_trials(spec, record, arm).values() if t.state == "complete"]
    bound = sum(t.metrics.get("calibration/temperature_at_bound", 0.0) == 1.0 for t in complete)
    if not bound:
        return []
    return [
        f"{arm}: T* is at the end of its range at {bound} of {numbers.counted(len(complete), 'seed')}, "
        "because the validation images have no best temperature (all are classified correctly, say); its "
        "mean, and what is given after temperature scaling, say little."
    ]


def _notes(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    """What the confirm trials said of themselves; sentences that differ in their numbers alone stand once."""
    said: dict[str, dict[int, str]] = {}
    for seed, trial in confirm_trials(spec, record, arm).items():
        for note in trial.notes:
            said.setdefault(_NUMBER.sub("#", note), {})[seed] = note
    found = []
    for notes in said.values():
        text = next(iter(notes.values()))
        where = "every seed" if len(notes) == len(spec.confirm.seeds) else f"seed {_listed(notes)}"
        if len(set(notes.values())) > 1:
            where += "; the numbers are the first one's"
        found.append(f"{arm}: {text} ({where}).")
    return found


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _few_seeds(spec: StudySpec, record: StudyRecord) -> list[str]:
    complete = {
        arm: sum(t.state == "complete" for t in confirm_trials(spec, record, arm).values())
        for arm in ordered_arms(spec)
    }
    few = {arm: n for arm, n in complete.items() if 0 < n < FEW_SEEDS}
    if not few:
        return []
    named = ", ".join(f"{arm} {n}" for arm, n in few.items())
    least = min(few.values())
    floor = numbers.p_equals(smallest_sign_flip_p(least))
    return [
        f"Fewer than {FEW_SEEDS} complete seeds ({named}): intervals are wide, and at {least} the sign-flip "
        f"test cannot go below p {floor}."
    ]


def _not_finite(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    found = []
    complete = [t for t in confirm_trials(spec, record, arm).values() if t.state == "complete"]
    for metric in table_metrics(spec):
        bad = [t.seed for t in complete if not math.isfinite(t.metrics.get(metric.name, math.nan))]
        if bad:
            seeds = ", ".join(str(seed) for seed in bad)
            found.append(f"{arm}: {metric.title} is missing or not finite at seed {seeds} and is left out.")
    return found


def _unguarded(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    value = arm_record(record, arm).selection.get("value")
    if value is None or meets_guard(value, len(spec.search.seeds)):
        return []
    return [f"{arm}: no configuration met the accuracy guard; the least bad one was confirmed."]


def _at_edge(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    chosen = chosen_configuration(record, arm)
    if chosen is None:
        return []
    found = []
    for name, term in spec.arms[arm].space.items():
        end = edge(term, chosen.params[name]) if name in chosen.params else ""
        if end:
            found.append(
                f"{arm}: the chosen {name} = {numbers.parameter(chosen.params[name])} lies at the {end} end "
                f"of its search range ({_range(term)}); a better value may lie beyond."
            )
    return found


def edge(term: Term, value: Value) -> str:
    """``lower`` or ``upper`` where the value lies at that end of what was searched, else nothing."""
    if term.kind in ("fixed", "choice") or isinstance(value, bool | str):
        return ""
    points = sorted(float(v) for v in term.values if not isinstance(v, bool | str))
    # Of two grid values each is an end: saying so would tell nothing.
    if len(points) < (3 if term.kind == "grid" else 2) or points[0] == points[-1]:
        return ""
    low, high, at = points[0], points[-1], float(value)
    if term.kind == "grid":
        return "lower" if at == low else "upper" if at == high else ""
    if term.kind == "log_uniform":
        low, high, at = math.log(low), math.log(high), math.log(at)
    share = (at - low) / (high - low)
    return "lower" if share <= EDGE else "upper" if share >= 1 - EDGE else ""


def _saturated(record: StudyRecord, arm: str) -> list[str]:
    chosen = chosen_configuration(record, arm)
    rate = None if chosen is None else _noise_rate(chosen.trials.values())
    if rate not in (0.0, 1.0):
        return []
    tied = sum(
        c.state == "complete" and _noise_rate(c.trials.values()) == rate
        for c in arm_record(record, arm).configurations
    )
    if tied < 2 and rate == 1.0:
        return []
    sentence = (
        f"{arm}: the noise metric is saturated (FPR95 {100 * (rate or 0):.0f} % on every search seed in "
        f"{numbers.counted(max(tied, 1), 'configuration')}); ties were broken by AUROC."
    )
    if rate == 1.0:
        sentence += " All noise is accepted: as a guide to real OOD images it says little here."
    return [sentence]


def _noise_rate(trials: Iterable[TrialRecord]) -> float | None:
    """The noise FPR95 that all finished seeds have in common, if they have one."""
    values = {last_metrics(t).get("noise/fpr95", math.nan) for t in trials if t.state == "complete"}
    return values.pop() if len(values) == 1 else None


def _range(term: Term) -> str:
    points = [numbers.parameter(value) for value in term.values]
    return ", ".join(points) if term.kind == "grid" else " to ".join(points)
