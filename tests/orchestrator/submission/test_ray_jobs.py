"""Jobs of a Ray cluster, as far as they go without one."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import Unavailable
from orchestrator.submission import ray_jobs
from orchestrator.submission.job import Status
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.cases import job

PROFILE = Profile("lab", "ray", options=("owner=me", "note=a=b"))


def test_a_request_names_the_job_and_writes_no_variable_of_the_profile() -> None:
    profile = Profile("lab", "ray", options=PROFILE.options, environment={"A": "value of A"})
    files = ray_jobs.render(job(Path("/shared runs/submissions/x"), ("orchestrate", "study"), profile))
    assert json.loads(files["request.json"]) == {
        "entrypoint": "exec bash '/shared runs/submissions/x/job.sh'",
        "submission_id": "small-20260102-030405-0abc",
        "entrypoint_num_cpus": 0,
        "runtime_env": {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "30"}},
        "metadata": {"study": "small", "commit": "5c14bc6", "owner": "me", "note": "a=b"},
    }
    assert files["job.sh"].splitlines()[2:] == ["export A='value of A'", "exec orchestrate study"]


@pytest.mark.parametrize(
    ("told", "code", "wanted"),
    [
        ("PENDING", None, Status("waiting", "queued")),
        ("RUNNING", None, Status("running", "")),
        ("SUCCEEDED", 0, Status("done", "")),
        ("FAILED", 1, Status("failed", "queued")),
        ("FAILED", 130, Status("stopped", "exit status 130")),
        ("STOPPED", None, Status("stopped", "queued")),
        ("NEW WORD", None, Status("unknown", "queued")),
    ],
)
def test_rays_words_become_ours(
    told: str, code: int | None, wanted: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = SimpleNamespace(
        status=SimpleNamespace(value=told), driver_exit_code=code, message="queued\nand a long log"
    )

    @contextlib.contextmanager
    def reached(profile: Profile) -> Iterator[Any]:
        yield SimpleNamespace(get_job_info=lambda native: info)

    monkeypatch.setattr(ray_jobs, "_reached", reached)
    assert ray_jobs.status("x", PROFILE) == wanted


def test_where_nothing_answers_the_address_is_named_and_the_environment_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "f" * 64)
    with pytest.raises(Unavailable, match=rf"no Ray job server answers at http://127\.0\.0\.1:{port}"):
        ray_jobs.status("x", Profile("lab", "ray", address=f"http://127.0.0.1:{port}"))
    assert os.environ["RAY_ADDRESS"] == "10.9.9.9:6379"


class _JobServer(BaseHTTPRequestHandler):
    """Says which version it is, and knows no job."""

    def do_GET(self) -> None:
        known = self.path == "/api/version"
        self.send_response(200 if known else 404)
        self.end_headers()
        answer = {"version": "4", "ray_version": "2.60.0", "ray_commit": "x", "session_name": "x"}
        self.wfile.write(json.dumps(answer).encode() if known else b"no such job\nand a long trace")

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_the_profiles_address_goes_before_rays_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{nobody}")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ThreadingHTTPServer(("127.0.0.1", 0), _JobServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(Unavailable) as found:
            ray_jobs.status("x", Profile("lab", "ray", address=address))
        server.shutdown()
    assert f"the Ray job server at {address} refuses: " in str(found.value)
    assert "a long trace" not in str(found.value)
