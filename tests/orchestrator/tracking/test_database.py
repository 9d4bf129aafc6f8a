"""An SQLite store that is being made when its process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from orchestrator.tracking.database import make_database

MAKE = "import sys; from orchestrator.tracking.database import make_database; make_database(sys.argv[1])"


def test_a_process_that_is_killed_while_it_makes_the_database_leaves_none_and_the_next_makes_it(
    tmp_path: Path,
) -> None:
    path = tmp_path / "mlflow.db"
    maker = subprocess.Popen([sys.executable, "-c", MAKE, f"sqlite:///{path}"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(_size(f) > 100_000 for f in tmp_path.glob(".mlflow.db.*")):
        assert maker.poll() is None, "it was too quick to be killed"
        assert time.monotonic() < deadline
        time.sleep(0.001)
    os.kill(maker.pid, signal.SIGKILL)
    maker.wait()
    assert not path.exists(), "half a database would never open again"
    make_database(f"sqlite:///{path}")
    assert [f.name for f in tmp_path.iterdir()] == ["mlflow.db"]
    assert MlflowClient(f"sqlite:///{path}").create_experiment("works")


def _size(file: Path) -> int:
    """Of a file that SQLite may take away at any moment."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_database_that_is_there_stays_and_a_server_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"as it was")
    make_database(f"sqlite:///{path}")
    make_database("http://127.0.0.1:9")
    assert path.read_bytes() == b"as it was"
