"""What a figure lacks, in words, and how to have it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.redaction import redacted

MOST = 6
"""More trials than this are counted, not named."""

Missing = Sequence[tuple[str, TrialRecord]]
"""Complete trials whose saved outputs are missing or not readable, each with the arm as a figure names it."""


def left_out(record: StudyRecord, missing: Missing) -> str:
    """A caption's end: `` Left out, ...``; nothing where nothing is missing."""
    return (
        f" Left out, as their saved outputs are missing or damaged: {_named(record, missing)}"
        if missing
        else ""
    )


def not_drawn(title: str, record: StudyRecord, missing: Missing) -> str:
    """Why a figure is not there at all."""
    return f"{title}: not drawn, as the saved outputs of all trials are missing or damaged: " + _named(
        record, missing
    )


def _named(record: StudyRecord, missing: Missing) -> str:
    shown = [f"{arm} seed {trial.seed} (trials/{trial.key})" for arm, trial in missing[:MOST]]
    more = f" and {len(missing) - MOST} more" if len(missing) > MOST else ""
    return f"{', '.join(shown)}{more}. {_again(record)}"


def _again(record: StudyRecord) -> str:
    """The command that trains or measures again what is damaged."""
    command = (record.sessions[-1].get("command") if record.sessions else None) or ()
    text = command if isinstance(command, str) else shlex.join(map(str, command))
    return f"The study's command makes them again: {redacted(text) or 'orchestrate study STUDY'}"
