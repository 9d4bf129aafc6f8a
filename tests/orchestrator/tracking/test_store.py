"""Where records go, and what is said where they cannot go there."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.errors import Unavailable
from orchestrator.tracking.store import (
    artifact_root,
    check_store,
    free_port,
    hand_over_credentials,
    is_new,
    one_at_a_time,
    resolve_uri,
    serve_ui,
    without_credentials,
)


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


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("http://ann:s3cretpw@host:5000/base", "http://host:5000/base"),
        ("http://ann:p@ss@host", "http://host"),
        ("https://token@host/a@b", "https://host/a@b"),
        ("http://host:5000", "http://host:5000"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
    ],
)
def test_a_uri_without_user_and_password_is_the_same_place(uri: str, bare: str) -> None:
    assert without_credentials(uri) == bare


def test_user_and_password_of_a_uri_go_to_where_mlflow_looks_for_them() -> None:
    environment: dict[str, str] = {}
    assert hand_over_credentials("http://an%40n:s3cret%2Fpw@host:5000", environment) == "http://host:5000"
    assert environment == {"MLFLOW_TRACKING_USERNAME": "an@n", "MLFLOW_TRACKING_PASSWORD": "s3cret/pw"}


@pytest.mark.parametrize("named", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME"])
def test_credentials_of_the_environment_win_over_those_of_a_uri(named: str) -> None:
    environment = {named: "given"}
    hand_over_credentials("http://ann:s3cretpw@host:5000", environment)
    assert environment == {named: "given"}


def test_a_server_is_asked_without_user_and_password_and_the_answer_names_none(server: str) -> None:
    assert check_store(server.replace("http://", "http://ann:s3cretpw@")) == f"{server} answers"


def test_a_refused_store_is_named_without_its_password() -> None:
    with pytest.raises(Unavailable, match="neither sqlite") as found:
        check_store("postgresql://ann:s3cretpw@host/db")
    assert "s3cretpw" not in str(found.value)


def test_only_a_database_that_is_still_to_be_made_is_new(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert is_new(uri)
    (tmp_path / "mlflow.db").touch()
    assert not is_new(uri)
    assert not is_new("http://host:5000")


def test_a_local_store_is_opened_by_one_study_at_a_time_and_a_server_by_all(tmp_path: Path) -> None:
    """Each in a process of its own, for which two locks of one process stand here."""
    order: list[str] = []
    begun = threading.Event()

    def second(uri: str) -> None:
        begun.set()
        with one_at_a_time(uri):
            order.append("second")

    for uri, expected in (
        (f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}", ["first", "second"]),
        ("http://host:5000", ["second", "first"]),
    ):
        order.clear()
        begun.clear()
        other = threading.Thread(target=second, args=(uri,))
        with one_at_a_time(uri):
            other.start()
            assert begun.wait(60)
            # A server's is through in no time; a local store's is not, however long it is waited for.
            other.join(60 if expected[0] == "second" else 0.2)
            order.append("first")
        other.join(60)
        assert order == expected
