"""The benchmark of the losses runs; how fast it finds them is not tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "losses.py"


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, SCRIPT, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_every_variant_of_a_named_loss_has_a_row_in_the_table_and_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    sizes = ("--classes", "3", "5", "--batch", "4", "--features", "6", "--rounds", "2", "--block-ms", "0.1")
    done = run("hem", "t2fnorm", *sizes, "--json", file)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["rows"]
    assert [(row["classes"], row["loss"], row["own_product"]) for row in rows] == [
        (classes, name, product)
        for classes in (3, 5)
        for name, product in (("t2fnorm", True), ("hem", False), ("hem threshold=batch", False))
    ]
    assert len(done.stdout.splitlines()) == 2 + len(rows)
    assert all(row["ratio"]["low"] <= row["ratio"]["median"] <= row["ratio"]["high"] for row in rows)


@pytest.mark.parametrize(
    ("words", "message"),
    [(("hm",), "NAME must be one of"), (("hem", "--rounds", "1"), "--rounds must be at least 2")],
)
def test_an_argument_that_cannot_be_measured_is_refused(words: tuple[str, ...], message: str) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
