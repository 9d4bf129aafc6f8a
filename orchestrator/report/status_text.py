"""The state of a running or stopped study as text, from its ledger."""

from __future__ import annotations

import shlex
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from orchestrator.campaign.objective import meets_guard
from orchestrator.campaign.record import ArmRecord, StudyRecord, TrialRecord
from orchestrator.campaign.standing import (
    audits_ended,
    audits_planned,
    confirms_planned,
    is_settled,
    searches,
)
from orchestrator.report.catalogue_text import columns
from orchestrator.report.plan_text import duration
from orchestrator.study import terms
from orchestrator.study.ranges import plain
from orchestrator.study.spec import AuditSpec, StudySpec
from workloads.catalogue import Value

_FAILURES_SHOWN = 20


def status_text(
    spec: StudySpec, record: StudyRecord, study_dir: Path, *, running: bool, written: float, now: float
) -> str:
    """What ``orchestrate status`` prints.

    Args:
        running: whether a driver works on the study now.
        written: when the ledger was last written, seconds since the epoch.
        now: the time, seconds since the epoch.
    """
    done = is_settled(spec, record)
    state = "running" if running else "done" if done else "stopped"
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(written))
    lines = [
        f"Study {spec.name}: {state}",
        f"  folder        {study_dir}",
        f"  elapsed       {duration(_elapsed(record, written, now if running else written))}",
        f"  last written  {stamp} ({duration(max(0.0, now - written))} ago)",
        "",
        *columns([_head(spec), *(_row(spec, record, arm) for arm in searches(spec, record))]),
        "",
        *(f"  {arm.label}: {_best(arm, len(spec.search.seeds))}" for arm in searches(spec, record)),
        *_budget(spec, record),
        *_failures(record),
    ]
    if not running:
        verb = "see the result" if done else "go on"
        follow = f"orchestrate report {study_dir}" if done else _command(record, study_dir)
        lines += ["", f"To {verb}: {follow}"]
    return "\n".join(lines)


def _head(spec: StudySpec) -> tuple[str, ...]:
    states = ("running", "complete", "pruned", "failed")
    audited = ("audited",) if spec.audit != AuditSpec() else ()
    return ("arm", "configurations", *states, "trials done", "confirmed", *audited)


def _row(spec: StudySpec, record: StudyRecord, arm: ArmRecord) -> tuple[str, ...]:
    states = Counter(c.state for c in arm.configurations)
    searched = arm.search_trials
    ended = sum(t.ended is not None for t in searched)
    confirmed = sum(t.state == "complete" for t in arm.confirm_trials)
    most = terms.configurations(spec.arms[arm.name].space, spec.search.trials)
    return (
        arm.label,
        f"{len(arm.configurations)} of {'' if arm.exhausted else 'at most '}{most}",
        *(str(states[s]) for s in ("running", "complete", "pruned", "failed")),
        f"{ended} of {len(searched)}",
        f"{confirmed} of {confirms_planned(spec, record, arm)}",
        *_audited(spec, arm),
    )


def _audited(spec: StudySpec, arm: ArmRecord) -> tuple[str, ...]:
    """Audit trials that have ended; what is drawn is known when the winner is frozen."""
    if spec.audit == AuditSpec():
        return ()
    if arm.repeat:
        return ("not audited",)
    known = arm.selected is not None or arm.failure
    return (f"{audits_ended(spec, arm)} of {audits_planned(spec, arm)}" if known else "later",)


def _budget(spec: StudySpec, record: StudyRecord) -> list[str]:
    """What each search has spent of what it may; of the study's time all searches together."""
    rows: list[tuple[str, ...]] = []
    for arm in searches(spec, record):
        if terms.space_size(spec.arms[arm.name].space) == 1:
            continue
        spent = {"trials": float(len(arm.search_trials)), "device_seconds": arm.search_seconds}
        for name, value in spent.items():
            allowed = getattr(spec.budget, name)
            if allowed is not None:
                rows.append((arm.label, *_share(name, value, allowed), _ended_by(arm, name)))
    allowed = spec.budget.wall_seconds
    if allowed is not None:
        worked = record.earlier_seconds + record.session_seconds
        rows.append(("all searches", *_share("wall_seconds", worked, allowed), ""))
    return ["", "Budget spent", *columns(rows)] if rows else []


def _share(name: str, spent: float, allowed: float) -> tuple[str, str]:
    return f"{name} {spent:.{0 if name == 'trials' else 1}f} of {allowed:g}", f"{100 * spent / allowed:.0f} %"


def _ended_by(arm: ArmRecord, name: str) -> str:
    return "its search has ended" if arm.spent is not None and arm.spent["limit"] == name else ""


def _best(arm: ArmRecord, seeds: int) -> str:
    if arm.failure:
        return f"no winner ({arm.failure})"
    if arm.selected is not None:
        chosen = arm.configurations[arm.selected]
        return f"selected {_params(chosen.params)}{_value(chosen.value, seeds)}"
    valued = [c for c in arm.configurations if c.value is not None and c.state == "complete"]
    if not valued:
        return "no finished configuration yet"
    best = min(valued, key=lambda c: (c.value if c.value is not None else 0.0, c.number))
    return f"best so far {_params(best.params)}{_value(best.value, seeds)}"


def _value(value: float | None, seeds: int) -> str:
    if value is None:
        return ""
    return (
        f", noise FPR95 {value:.4f}"
        if meets_guard(value, seeds)
        else ", but its validation accuracy is too low"
    )


def _params(params: Mapping[str, Value]) -> str:
    shown = (f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={plain(v)}" for n, v in params.items())
    return " ".join(shown) or "(defaults)"


def _failures(record: StudyRecord) -> list[str]:
    failed = [t for t in record.trials.values() if t.state == "failed"]
    if not failed:
        return []
    more = [f"  and {len(failed) - _FAILURES_SHOWN} more"] if len(failed) > _FAILURES_SHOWN else []
    return ["", "Failed trials", *columns([_failure(t) for t in failed[:_FAILURES_SHOWN]]), *more]


def _failure(trial: TrialRecord) -> tuple[str, ...]:
    tried = f"{trial.attempts} attempt{'s' if trial.attempts != 1 else ''}"
    return trial.arm, trial.place, f"seed {trial.seed}", trial.key, f"{trial.reason} ({tried})"


def _elapsed(record: StudyRecord, written: float, end: float) -> float:
    """Seconds during which a driver worked, over all sessions; one that was killed ends where it wrote.

    Sessions measure themselves, by a clock that nobody sets; the time of day serves where they did not.
    """
    measured = record.earlier_seconds + record.session_seconds
    if measured:
        return measured + max(0.0, end - written)
    starts = [float(event["t"]) for event in record.sessions]
    stops = sorted(float(event["t"]) for event in record.closed)
    total = 0.0
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        closed = [t for t in stops if t >= start and (following is None or t <= following)]
        lasted_to = closed[0] if closed else (end if following is None else min(following, written))
        total += max(0.0, lasted_to - start)
    return total


def _command(record: StudyRecord, study_dir: Path) -> str:
    """The command that goes on: the last one that was given, else one that names the frozen study."""
    given = record.sessions[-1].get("command") if record.sessions else None
    if given:
        return " ".join(given)
    return shlex.join(["orchestrate", "study", str(study_dir / "study.yaml"), "--out", str(study_dir.parent)])
