"""Epochs' reports as plain values, for files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workloads.contract import EpochReport


def plain_reports(reports: Sequence[EpochReport]) -> list[dict[str, Any]]:
    return [{"epoch": report.epoch, "metrics": dict(report.metrics)} for report in reports]


def read_reports(records: Sequence[dict[str, Any]]) -> tuple[EpochReport, ...]:
    return tuple(EpochReport(record["epoch"], record["metrics"]) for record in records)
