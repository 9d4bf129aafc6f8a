"""What a worker tells the driver, and in how many messages."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from orchestrator.execution.trial import REPORTS, _kind, _reason, _Reporter
from workloads.contract import EpochReport, TrainingDiverged


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_short_epochs_share_a_message_and_none_is_lost() -> None:
    sent: list[dict[str, Any]] = []
    clock = Clock()
    reporter = _Reporter(sent.append, clock)
    for epoch in range(1, 11):
        clock.now += 0.1
        reporter.take(EpochReport(epoch, {"noise/fpr95": epoch / 10}))
    messages = [[r["epoch"] for r in json.loads(message[REPORTS])] for message in sent]
    assert messages == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert [r["epoch"] for r in reporter.waiting] == [10]


def test_a_long_epoch_is_reported_at_once() -> None:
    sent: list[dict[str, Any]] = []
    clock = Clock()
    reporter = _Reporter(sent.append, clock)
    clock.now = 60.0
    reporter.take(EpochReport(1, {"noise/fpr95": 0.5, "loss/s": math.nan}))
    assert json.loads(sent[0][REPORTS]) == [{"epoch": 1, "metrics": {"noise/fpr95": 0.5}}]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TrainingDiverged("loss is nan"), "diverged"),
        (MemoryError(), "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out_of_memory"),
        (KeyError("x"), "exception"),
    ],
)
def test_what_ended_an_attempt_is_told_apart(error: Exception, kind: str) -> None:
    assert _kind(error) == kind


def test_a_reason_is_one_line_that_names_the_error() -> None:
    assert _reason(ValueError("first\nsecond")) == "ValueError: first"
    assert _reason(RuntimeError()) == "RuntimeError: "
