"""Reaching Ray, also from places that are not quite like home."""

from __future__ import annotations

import gc
import os
import socket
import weakref
from pathlib import Path

import pytest
import ray

from orchestrator.errors import Unavailable
from orchestrator.execution import cluster
from orchestrator.tracking.store import free_port


def test_without_a_home_folder_ray_gets_a_private_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    cluster._require_writable_token_path()
    token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    assert len(token.read_text()) == 64
    assert token.parent.stat().st_mode & 0o077 == 0, "others must not read the token"


def test_with_a_home_folder_or_a_token_of_the_users_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    cluster._require_writable_token_path()
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/the/users/own")
    cluster._require_writable_token_path()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == "/the/users/own"


def test_an_address_where_nothing_listens_is_refused_within_seconds() -> None:
    address = f"127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(Unavailable, match=r"no Ray cluster answers at .*nothing was run") as found:
        cluster._require_answer(address)
    assert found.value.exit_code == 2


def test_an_address_where_something_listens_and_a_word_for_ray_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        cluster._require_answer(f"ray://127.0.0.1:{listening.getsockname()[1]}")
        knocked, _ = listening.accept()
        with knocked:
            assert knocked.getsockname() == listening.getsockname()
    cluster._require_answer("auto")


def test_ray_shuts_down_with_no_garbage_left_and_none_collected_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reference of Ray that another thread collects at that moment ends the process with status 1."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    seen: list[tuple[bool, bool]] = []
    garbage: list[weakref.ref[Cycle]] = []
    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    monkeypatch.setattr(ray, "nodes", lambda: [{}])
    monkeypatch.setattr(ray, "shutdown", lambda: seen.append((gc.isenabled(), garbage[0]() is None)))
    with cluster.connect(None) as found:
        assert found == cluster.Cluster("local", 2.0, 0.0, 1)
        garbage.append(weakref.ref(Cycle()))
    assert seen == [(False, True)]
    assert gc.isenabled()
