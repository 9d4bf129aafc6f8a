"""What a study's record says in the end: the report's files, the terminal's text, MLflow's means."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.campaign.record import StudyRecord
    from orchestrator.execution.study_run import Reported
    from orchestrator.study.spec import StudySpec

_MEASURED = (
    *("test/", "ood/", "selective/", "tuned/", "calibration/", "geometry/", "robustness/"),
    *("imbalance/", "continual/"),
)
"""How the names of a confirmed model's final metrics begin."""


def reported(spec: StudySpec, record: StudyRecord, study_dir: Path, refresh: int | None = None) -> Reported:
    """Write the report, and what a session or the terminal wants of it."""
    from orchestrator.execution.study_run import Reported
    from orchestrator.report.audit import audit_summaries
    from orchestrator.report.build import write_report
    from orchestrator.report.summary import summary_text

    files = write_report(spec, record, study_dir, refresh)
    text = summary_text(spec, record, study_dir)
    means, audits = summaries(spec, record), audit_summaries(spec, record)
    return Reported(text, files.html.parent, means, audits, files.answer)


def summaries(spec: StudySpec, record: StudyRecord) -> Mapping[str, Mapping[str, float]]:
    """By arm: each final metric's mean under its own name, and its standard deviation (ddof 1).

    Where a name alone means another regime's metric, the regime's name and a slash stand before it.
    """
    from orchestrator.study.regimes import home_of

    found: dict[str, dict[str, float]] = {}
    for name, arm in record.arms.items():
        shown = found[name] = {}
        for regime, trials in arm.confirms.items():
            done = [t.metrics for t in trials.values() if t.state == "complete"]
            measured = {m for metrics in done for m in metrics if m.startswith(_MEASURED)}
            for metric in sorted(measured):
                values = [metrics[metric] for metrics in done if metric in metrics]
                full = metric if home_of(metric, spec) == regime else f"{regime}/{metric}"
                shown[full] = statistics.fmean(values)
                if len(values) > 1:
                    shown[f"std/{full}"] = statistics.stdev(values)
    return found
