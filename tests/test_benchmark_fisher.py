"""The benchmark of the Fisher information runs, and compares what is the same; how fast is not tested."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import fisher


@pytest.mark.parametrize("words", [[], ["--expected"]])
def test_every_named_model_has_a_line_and_its_rounds_in_the_file(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    file = tmp_path / "rounds.json"
    try:
        fisher.main(["mlp", "small_cnn_8x8", "--batch", "3", "--rounds", "2", "--json", str(file), *words])
    finally:
        torch.set_num_threads(threads)
    results = json.loads(file.read_text())
    assert [result["model"] for result in results] == ["mlp", "small_cnn_8x8"]
    assert all(len(result["rounds"]) == 2 for result in results)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_line_gives_medians_and_the_quartiles_of_the_rounds_ratios() -> None:
    rounds = [{"loop": n * 1e-3, "here": 1e-3, "step": 5e-4} for n in (1, 2, 3, 4, 9)]
    line = fisher.line({"model": "mlp", "rounds": rounds})
    assert line.split() == ["mlp", "3.0", "ms", "1.0", "ms", "0.5", "ms", "3.0", "(2.0", "to", "4.0)"]


def test_ways_that_differ_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = fisher.loop
    monkeypatch.setattr(fisher, "loop", lambda *given: {k: 1.1 * v for k, v in honest(*given).items()})
    with pytest.raises(RuntimeError, match="differ in"):
        fisher.measure("mlp", 2, 2, False)


@pytest.mark.parametrize(
    ("words", "message"), [(["vit_tiny"], "MODEL must be one of"), (["--rounds", "1"], "at least 2")]
)
def test_an_argument_that_cannot_be_measured_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        fisher.parse(words)
    assert message in capsys.readouterr().err
