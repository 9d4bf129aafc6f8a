"""What MLflow shows in words of an experiment, a study and an arm, in Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.campaign.record import ArmRecord, StudyRecord
from orchestrator.redaction import redacted
from orchestrator.study.regimes import regimes
from orchestrator.study.spec import StudySpec

LONGEST = 5000
"""Characters of a tag; MLflow takes 8,000."""


def experiment_text(spec: StudySpec) -> str:
    """What the experiment holds, and how to look at it; the same in every session."""
    return clipped(
        f"{_question(spec)}\n\n"
        f"Study `{spec.name}`: {len(spec.arms)} losses ({', '.join(f'`{name}`' for name in spec.arms)}), "
        f"baseline `{spec.baseline}`. Below the run **study {spec.name}** stands a run for each arm, with "
        f"means over the confirm seeds, and below it every trial.\n\n"
        f"* The answer, tables and figures: the run *study {spec.name}*, Artifacts, `report/index.html`.\n"
        f"* Arms side by side: filter ``tags.`orchestrate.role` LIKE 'arm:%'``, sort by name, chart view.\n"
        f"* Confirm trials alone: filter ``tags.`orchestrate.stage` = 'confirm'``."
    )


def study_text(spec: StudySpec, record: StudyRecord, answer: str = "") -> str:
    """What the study's run says.

    Args:
        answer: the report's sentences; empty while there is none.
    """
    session = record.sessions[-1]
    facts = session["data"]
    images = f", {facts['num_train']:,} training images" if "num_train" in facts else ""
    said = answer.strip() or "*Still running, or stopped: there is no answer yet.*"
    lines = [
        _question(spec),
        said,
        "The report is among the artifacts: `report/index.html`.",
        f"| | |\n|---|---|\n| data | {spec.data.source}{images}, hash `{facts['hash']}` "
        f"|\n| model | {spec.model.name} |\n| baseline | {spec.baseline} |\n| commit | "
        f"`{session['commit'] or 'none'}` |\n| command | `{_command(session)}` |",
    ]
    return clipped("\n\n".join(lines))


def arm_text(spec: StudySpec, arm: ArmRecord) -> str:
    """What an arm's run says."""
    complete = sum(t.state == "complete" for t in arm.confirm_trials)
    planned = arm.confirm_planned(regimes(spec), len(spec.confirm.seeds))
    said = (
        f"Loss `{spec.arms[arm.name].loss}` of study {spec.name}. Parameters: the winner of its search. "
        f"Metrics: means over the confirm seeds, and their standard deviations (`std/...`, ddof 1); "
        f"{complete} of {planned} confirm trials are complete."
    )
    said += "".join(f"\n\nNot trained in {name}: {reason}." for name, reason in arm.skipped.items())
    for again in arm.searches[1:]:
        if again.selection:
            chosen = ", ".join(f"{name} {value}" for name, value in again.selection["params"].items())
            said += f"\n\nRepeat {again.repeat} of its search chose {chosen}; the metrics are of the first."
    return clipped(said)


def sources(session: Mapping[str, Any]) -> Mapping[str, str]:
    """MLflow's own tags of where a run comes from, that was made in a session."""
    # MLflow shows what stands after the last slash.
    words = [Path(word).name if "/" in word else word for word in session.get("command", ())]
    found = {"mlflow.source.type": "LOCAL", "mlflow.source.name": clipped(shlex.join(words))}
    commit = str(session.get("commit") or "")
    return found | ({"mlflow.source.git.commit": commit} if commit else {})


def _command(session: Mapping[str, Any]) -> str:
    return shlex.join(session.get("command", ()))


def clipped(text: str) -> str:
    return redacted(text)[:LONGEST]


def _question(spec: StudySpec) -> str:
    return f"**{spec.question or spec.name}**"
