"""Where records go, and what is said where they cannot go there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import Unavailable
from orchestrator.tracking.store import artifact_root, check_store, free_port, resolve_uri, serve_ui


def test_the_study_wins_over_the_environment_and_the_environment_over_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert resolve_uri(None, tmp_path) == "http://server:5000"
    assert resolve_uri("http://other:5000", tmp_path) == "http://other:5000"


def test_a_local_store_keeps_its_artifacts_beside_it_and_a_server_decides_itself(tmp_path: Path) -> None:
    assert artifact_root(f"sqlite:///{tmp_path}/mlflow.db", tmp_path) == f"file://{tmp_path}/mlflow-artifacts"
    assert artifact_root("http://server:5000", tmp_path) is None


def test_a_server_that_is_down_is_said_with_what_to_do() -> None:
    uri = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(Unavailable, match=r"does not answer .*nothing was run.*MLFLOW_TRACKING_URI") as found:
        check_store(uri)
    assert found.value.exit_code == 2


@pytest.fixture
def server() -> Iterator[str]:
    class Healthy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing on the test's output."""

    running = http.server.HTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_server_that_is_up_is_found(server: str) -> None:
    assert check_store(server) == f"{server} answers"


def test_a_new_sqlite_store_in_a_folder_still_to_be_made_is_fine(tmp_path: Path) -> None:
    assert "will be made" in check_store(f"sqlite:///{tmp_path}/new/folder/mlflow.db")


def test_a_plain_folder_is_refused_because_mlflow_cannot_write_it() -> None:
    with pytest.raises(Unavailable, match="neither sqlite"):
        check_store("./mlruns")


def test_the_ui_of_a_store_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="run a study first"):
        serve_ui(f"sqlite:///{tmp_path}/mlflow.db", 0, "127.0.0.1")
