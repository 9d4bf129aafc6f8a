"""What every test of a store begins with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.campaign.record import Event
from orchestrator.tracking import tracker
from tests.orchestrator.tracking.holdings import holdings
from tests.orchestrator.tracking.material import Session, simulate


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a simulated study."""
    return tmp_path_factory.mktemp("simulated")


@pytest.fixture(scope="session")
def finished(folder: Path) -> list[Event]:
    """The events of the simulated study."""
    return simulate(folder)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An SQLite store for many experiments: to make one takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(scope="session")
def undisturbed(store: str, folder: Path, finished: list[Event]) -> Any:
    """What a store holds of the study where nothing went wrong."""
    session = Session(store, "undisturbed", folder, finished)
    session.events()
    assert session.end(), session.tracker.trouble
    held = holdings(store, "undisturbed")
    assert len(held[0]) == 1 + 2 + 2 * (2 + 3)
    assert len(held[1]) == 2 * 3
    return held


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between tries; and nothing of the environment but what the tracker sets itself."""
    monkeypatch.setattr(tracker, "_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(tracker, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(tracker, "_LAST_RETRY_SECONDS", 0.0)
    for name, value in {**tracker._ENVIRONMENT, **tracker._FORCED}.items():
        monkeypatch.setenv(name, value)
    for name in ("USERNAME", "PASSWORD", "TOKEN", "URI"):
        # Set first, so that what a test leaves is taken back.
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
