"""What the trials of a study were made with, where its sessions differ: commits, versions, machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.report import numbers

_NUMERIC = ("orchestrate-losses", "torch", "torchvision", "numpy", "scipy", "scikit-learn")
"""Packages whose version may change a number."""


def session_fact(record: StudyRecord, *path: str) -> str:
    """A fact of the sessions, such as ``versions``, ``torch``.

    Returns: its value in the sessions that trained; where they differ every value, and of how many trials.
        That of the last session where none has trained.
    """
    found = _values(record, record.trials.values(), *path)
    return _shown(found) if found else _at(record.sessions[-1], path)


def trial_fact(trials: Iterable[TrialRecord], name: str) -> str:
    """``device`` or ``torch`` of the processes that finished trials; empty where none says so."""
    return _shown(_made_on(trials, name))


def unlike(record: StudyRecord, trials: Iterable[TrialRecord]) -> list[str]:
    """What differs between trials that are compared: ``torch 2.14.1 (5 trials), 2.15.0 (10 trials)``."""
    known = list(trials)
    found = {"commit": _values(record, known, "commit")}
    found |= {name: _values(record, known, "versions", name) for name in _NUMERIC}
    found["device"] = _made_on(known, "device")
    # Nodes of a cluster have installations of their own.
    if len(workers := _made_on(known, "torch")) > 1:
        found["torch"] = workers
    return [f"{name} {_shown(values)}" for name, values in found.items() if len(values) > 1]


def _made_on(trials: Iterable[TrialRecord], name: str) -> Counter[str]:
    return Counter(t.environment[name] for t in trials if name in t.environment)


def _values(record: StudyRecord, trials: Iterable[TrialRecord], *path: str) -> Counter[str]:
    """How many trials each value of a fact has; one that several sessions trained counts for each value."""
    found = Counter[str]()
    for trial in trials:
        sessions = [record.sessions[k] for k in trial.sessions if k < len(record.sessions)]
        found.update({_at(session, path) for session in sessions})
    return found


def _shown(values: Counter[str]) -> str:
    if len(values) < 2:
        return next(iter(values), "")
    return ", ".join(f"{value} ({numbers.counted(n, 'trial')})" for value, n in sorted(values.items()))


def _at(session: Mapping[str, Any], path: Iterable[str]) -> str:
    value: Any = session
    for name in path:
        value = value.get(name, "") if isinstance(value, Mapping) else ""
    return str(value) or "unknown"
