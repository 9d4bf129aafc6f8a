"""What the confirm trials said of themselves, each sentence once."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.campaign.record import StudyRecord
from orchestrator.report.comparison import confirm_trials, ordered_arms
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def trial_notes(spec: StudySpec, record: StudyRecord) -> list[str]:
    """Sentences that differ in their numbers alone stand once, and so do arms that say the same."""
    arms: dict[tuple[str, str], list[str]] = {}
    for arm in ordered_arms(spec):
        for notes in _said(spec, record, arm).values():
            texts = [text for by_seed in notes.values() for text in by_seed.values()]
            where = _where(spec, record, arm, notes)
            if len(set(texts)) > 1:
                where += "; the numbers are the first one's"
            arms.setdefault((texts[0], where), []).append(arm)
    return [f"{', '.join(names)}: {text} ({where})." for (text, where), names in arms.items()]


def _said(spec: StudySpec, record: StudyRecord, arm: str) -> dict[str, dict[str, dict[int, str]]]:
    """By sentence without its numbers, then by regime and seed."""
    said: dict[str, dict[str, dict[int, str]]] = {}
    for regime in regimes(spec):
        for seed, trial in confirm_trials(spec, record, arm, regime).items():
            for note in trial.notes:
                said.setdefault(_NUMBER.sub("#", note), {}).setdefault(regime, {})[seed] = note
    return said


def _where(spec: StudySpec, record: StudyRecord, arm: str, notes: Mapping[str, Mapping[int, str]]) -> str:
    """``every seed``, or which; and in which regimes, where the study has several."""
    alike: dict[str, list[str]] = {}
    for regime, by_seed in notes.items():
        every = len(by_seed) == len(spec.confirm.seeds)
        seeds = "every seed" if every else f"seed {', '.join(str(seed) for seed in by_seed)}"
        alike.setdefault(seeds, []).append(regime)
    if len(regimes(spec)) == 1:
        return next(iter(alike))
    return "; ".join(f"{seeds} in {_named(spec, record, arm, names)}" for seeds, names in alike.items())


def _named(spec: StudySpec, record: StudyRecord, arm: str, names: list[str]) -> str:
    """The regimes; all that the arm has of one entry go by the entry's name."""
    found: list[str] = []
    for entry in spec.protocols:
        own = [name for name, regime in regimes(spec).items() if regime.entry == entry]
        begun = [name for name in own if confirm_trials(spec, record, arm, name)]
        told = [name for name in own if name in names]
        found += [entry] if told and told == begun else told
    return ", ".join(found)
