"""What a reader should know before believing the tables."""

from __future__ import annotations

import math
from collections.abc import Iterable

from orchestrator.campaign.objective import meets_guard
from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.campaign.standing import confirms_planned, searches
from orchestrator.report import numbers
from orchestrator.report.bookkeeping import chosen_configuration, last_metrics
from orchestrator.report.budget import unequal_spending
from orchestrator.report.comparison import all_confirm_trials, arm_record, confirm_trials, ordered_arms
from orchestrator.report.measured import complete_count
from orchestrator.report.metrics import table_metrics
from orchestrator.report.origins import unlike
from orchestrator.report.statistics import smallest_sign_flip_p
from orchestrator.report.trial_notes import trial_notes
from orchestrator.study.regimes import regimes, split_name
from orchestrator.study.spec import StudySpec
from workloads.catalogue import Term, Value

FEW_SEEDS = 5

MOST_KINDS = 2
"""More kinds of regime than this, by their numbers of seeds, are told as ranges."""
EDGE = 0.02
"""Share of a search range, at each end, that counts as its edge."""


def cautions(spec: StudySpec, record: StudyRecord) -> tuple[str, ...]:
    """One sentence each, ordered by how much they weigh."""
    found = [] if is_finished(spec, record) else [f"{progress(spec, record)}: what is shown is provisional."]
    for arm in ordered_arms(spec):
        found += _failed(spec, record, arm)
    for arm in ordered_arms(spec):
        found += _skipped(spec, record, arm)
    found += unequal_spending(spec, record)
    found += _unlike(spec, record)
    found += _few_seeds(spec, record)
    for arm in ordered_arms(spec):
        found += _not_finite(spec, record, arm)
        found += _unguarded(spec, record, arm)
        found += _at_edge(spec, record, arm)
        found += _saturated(record, arm)
        found += _temperature_at_bound(spec, record, arm)
    found += trial_notes(spec, record)
    found += _data(record)
    return tuple(found)


def is_finished(spec: StudySpec, record: StudyRecord) -> bool:
    """Every confirm trial of every regime has ended, or its arm has nothing to confirm."""
    first = all(
        bool(arm_record(record, arm).failure)
        or sum(t.state != "running" for t in all_confirm_trials(spec, record, arm)) >= planned
        for arm, planned in _planned(spec, record).items()
    )
    return first and all(
        bool(arm.failure)
        or sum(t.state != "running" for t in arm.confirm_trials) >= confirms_planned(spec, record, arm)
        for arm in _repeats(spec, record)
    )


def progress(spec: StudySpec, record: StudyRecord) -> str:
    """``Finished: 15 of 15 confirm trials complete``, of all regimes."""
    again = _repeats(spec, record)
    trials = [trial for arm in spec.arms for trial in all_confirm_trials(spec, record, arm)]
    trials += [trial for arm in again for trial in arm.confirm_trials]
    complete = sum(trial.state == "complete" for trial in trials)
    planned = sum(_planned(spec, record).values())
    planned += sum(confirms_planned(spec, record, arm) for arm in again)
    state = "Finished" if is_finished(spec, record) else "Not finished"
    count = numbers.counted(planned, "confirm trial")
    several = f" in {len(regimes(spec))} regimes" if len(regimes(spec)) > 1 else ""
    repeated = f", those of {spec.search.repeats} searches an arm," if again else ""
    return f"{state}: {complete} of {count}{several}{repeated} complete"


def _repeats(spec: StudySpec, record: StudyRecord) -> list[ArmRecord]:
    """The searches beside the first ones."""
    return [arm for arm in searches(spec, record) if arm.repeat]


def _planned(spec: StudySpec, record: StudyRecord) -> dict[str, int]:
    """How many confirm trials each arm is to have; what it cannot be trained in does not count."""
    seeds = len(spec.confirm.seeds)
    return {arm: arm_record(record, arm).confirm_planned(regimes(spec), seeds) for arm in spec.arms}


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _unlike(spec: StudySpec, record: StudyRecord) -> list[str]:
    """Where the trials of the tables were not made by the same code on the same kind of machine."""
    compared = {
        trial.key: trial
        for arm in spec.arms
        for trial in all_confirm_trials(spec, record, arm)
        if trial.state == "complete"
    }
    found = unlike(record, compared.values())
    if not found:
        return []
    return [
        f"The confirm trials were not all made alike: {'; '.join(found)}. A difference between arms may come "
        "from that; to be sure, run the study anew with --fresh."
    ]


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
    for regime in regimes(spec):
        failed = [t.seed for t in confirm_trials(spec, record, arm, regime).values() if t.state == "failed"]
        if failed:
            found.append(
                f"{arm}: {numbers.counted(len(failed), 'confirm trial')} failed{_inside(spec, regime)} "
                f"(seed {_listed(failed)}); its means stand on the others, which may flatter it."
            )
    for again in entry.searches[1:]:
        if again.failure:
            found.append(f"{again.label}: nothing could be selected ({again.failure}).")
        lost = [t.seed for t in again.confirm_trials if t.state == "failed"]
        if lost:
            found.append(f"{again.label}: {numbers.counted(len(lost), 'confirm trial')} failed.")
    search = [t for each in entry.searches for t in each.search_trials if t.state == "failed"]
    if search:
        found.append(f"{arm}: {numbers.counted(len(search), 'search trial')} failed.")
    return found


def _skipped(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    """Where the arm's loss cannot be trained; regimes with one reason stand together."""
    reasons: dict[str, list[str]] = {}
    skipped = arm_record(record, arm).skipped
    for regime in regimes(spec):
        if regime in skipped:
            reasons.setdefault(skipped[regime], []).append(regime)
    return [f"{arm}: not trained in {', '.join(names)}: {reason}." for reason, names in reasons.items()]


def _inside(spec: StudySpec, regime: str) -> str:
    """`` in long_tailed/drw``; nothing where the study has one regime."""
    return f" in {regime}" if len(regimes(spec)) > 1 else ""


def _temperature_at_bound(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    where = []
    for regime in regimes(spec):
        trials = confirm_trials(spec, record, arm, regime).values()
        complete = [t for t in trials if t.state == "complete"]
        bound = sum(t.metrics.get("calibration/temperature_at_bound", 0.0) == 1.0 for t in complete)
        if bound:
            seeds = numbers.counted(len(complete), "seed")
            where.append(f"{bound} of {seeds}{_inside(spec, regime)}")
    if not where:
        return []
    return [
        f"{arm}: T* is at the end of its range at {', '.join(where)}, "
        "because the validation images have no best temperature (all are classified correctly, say); its "
        "mean, and what is given after temperature scaling, say little."
    ]


def _few_seeds(spec: StudySpec, record: StudyRecord) -> list[str]:
    """Regimes in which the same arms have equally few seeds stand together; of many kinds, the range."""
    alike: dict[str, list[str]] = {}
    counts: dict[str, list[int]] = {}
    for regime in regimes(spec):
        complete = {arm: complete_count(spec, record, arm, regime) for arm in ordered_arms(spec)}
        few = {arm: n for arm, n in complete.items() if 0 < n < FEW_SEEDS}
        if few:
            alike.setdefault(", ".join(f"{arm} {n}" for arm, n in few.items()), []).append(regime)
        for arm, n in few.items():
            counts.setdefault(arm, []).append(n)
    if not alike:
        return []
    named = "; ".join(f"{arms}{_among(spec, names)}" for arms, names in alike.items())
    if len(alike) > MOST_KINDS:
        shown = {arm: sorted({min(found), max(found)}) for arm, found in counts.items()}
        ranges = ", ".join(f"{arm} {' to '.join(map(str, ends))}" for arm, ends in shown.items())
        named = f"{ranges} in {sum(map(len, alike.values()))} of {len(regimes(spec))} regimes"
    least = min(min(found) for found in counts.values())
    floor = numbers.p_equals(smallest_sign_flip_p(least))
    return [
        f"Fewer than {FEW_SEEDS} complete seeds ({named}): intervals are wide, and at {least} the sign-flip "
        f"test cannot go below p {floor}."
    ]


def _among(spec: StudySpec, names: list[str]) -> str:
    """`` in every regime``, or in which; nothing where the study has one regime."""
    every = list(regimes(spec))
    if len(every) == 1:
        return ""
    return " in every regime" if names == every else f" in {', '.join(names)}"


def _not_finite(spec: StudySpec, record: StudyRecord, arm: str) -> list[str]:
    found = []
    for metric in table_metrics(spec):
        regime, name = split_name(metric.name, spec)
        complete = [t for t in confirm_trials(spec, record, arm, regime).values() if t.state == "complete"]
        bad = [t.seed for t in complete if not math.isfinite(t.metrics.get(name, math.nan))]
        if bad:
            found.append(
                f"{arm}: {metric.title} is missing or not finite at seed {_listed(bad)} and is left out."
            )
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
