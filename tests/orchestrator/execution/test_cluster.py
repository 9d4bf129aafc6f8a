"""Reaching Ray, also from places that are not quite like home."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

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


GARBAGE = """\
import gc, os, threading
from orchestrator.execution import cluster

class Cycle: pass

with cluster.connect(None, cpus=1):
    import ray
    import ray._private.worker as worker
    gc.disable()
    for number in range(5000):
        cycle = Cycle()
        cycle.itself, cycle.reference = cycle, ray.put(number)
    gc.enable()
    disconnect = worker.disconnect
    def and_collect(*arguments, **options):
        disconnect(*arguments, **options)
        threading.Thread(target=gc.collect).start()
    worker.disconnect = and_collect
print("alive", flush=True)
os._exit(0)
"""


@pytest.mark.slow
def test_garbage_of_ray_collected_by_another_thread_does_not_end_the_process_at_shutdown() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", GARBAGE], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "alive\n"), done.stderr
