"""A session leaves in words and in time, whatever Ray does."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.errors import OrchestrateError
from orchestrator.execution import way_out
from orchestrator.execution.stop import Stop
from orchestrator.execution.way_out import WayOut


class Left(Exception):
    """In place of the process's end."""


@pytest.mark.parametrize(
    ("address", "sessions", "stopped", "restarted", "status", "said"),
    [
        (None, 3, "", True, 0, ""),
        (None, 4, "", False, 1, "the local Ray cluster has died: why for the 4th time without any progress"),
        ("head:1", 1, "", False, 1, "the Ray cluster has died: why; kept"),
        (None, 1, "SIGTERM", False, 130, "stopped by SIGTERM; kept"),
    ],
)
def test_a_dead_cluster_is_started_again_only_where_that_helps(
    monkeypatch: pytest.MonkeyPatch,
    address: str | None,
    sessions: int,
    stopped: str,
    restarted: bool,
    status: int,
    said: str,
) -> None:
    left: list[OrchestrateError] = []
    began: list[bool] = []

    def leave(error: OrchestrateError) -> None:
        left.append(error)
        raise Left

    def restart() -> None:
        began.append(True)
        raise Left

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(way_out, "leave", leave)
    monkeypatch.setattr(way_out, "read_events", lambda _: [{"event": "opened"}] * sessions)
    monkeypatch.setattr(way_out, "_TOLD_SECONDS", 0.0)
    stop = Stop()
    if stopped:
        stop.handle(signal.SIGTERM, None)
    run = SimpleNamespace(address=address, restart=restart, kept="kept")
    quiet = SimpleNamespace(close=lambda: None, say=lambda _: None)
    with pytest.raises(Left):
        WayOut(run, stop, quiet, Path("ledger.jsonl")).lost("why")  # type: ignore[arg-type]
    assert began == [True] * restarted
    assert [error.exit_code for error in left] == [status] * (not restarted)
    assert all(str(error).startswith(said) for error in left)


@pytest.mark.parametrize("stopped", [True, False])
def test_whoever_stops_the_study_waits_for_ray_some_seconds_and_no_longer(
    monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    left: list[str] = []
    gone, ended = threading.Event(), threading.Event()

    def leave(error: OrchestrateError) -> None:
        left.append(f"{error} {error.exit_code}")
        gone.set()

    monkeypatch.setattr(way_out, "leave", leave)
    monkeypatch.setattr(way_out, "end_children", ended.set)
    monkeypatch.setattr(way_out, "_RAY_SECONDS", 0.05)
    monkeypatch.setattr(way_out, "_LOOK_SECONDS", 0.01)
    stop = Stop()
    if stopped:
        stop.handle(signal.SIGTERM, None)
    else:
        stop.halt("the disk is full")
    run = SimpleNamespace(kept="kept")
    quiet = SimpleNamespace(close=lambda: None)
    with WayOut(run, stop, quiet, Path("ledger.jsonl")).in_time():  # type: ignore[arg-type]
        assert gone.wait(10 if stopped else 0.3) == stopped
    assert left == ["stopped by SIGTERM; kept 130"] * stopped
    assert ended.is_set() == stopped
