"""The benchmark of streams compares the same number of optimiser steps; how fast they are is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import streams


def test_a_stream_and_plain_training_take_the_same_number_of_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figure.json"
    streams.main(["--rounds", "2", "--epochs", "1", "--out", str(file)])
    found = json.loads(file.read_text())
    assert found["steps"]["plain"] == found["steps"]["stream"] == 50
    for ratio, plain, stream in zip(
        found["rounds"],
        found["milliseconds_a_step"]["plain"],
        found["milliseconds_a_step"]["stream"],
        strict=True,
    ):
        assert ratio == pytest.approx(stream / plain)
    assert "5 tasks" in capsys.readouterr().out
