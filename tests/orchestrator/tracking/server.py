"""A real MLflow server in processes of its own, and a proxy before it that loses, delays and refuses."""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.tracking.store import free_port

START_SECONDS = 90.0


class Server:
    """``mlflow server`` on a port that it keeps, killed and started again at will.

    Args:
        backend: database URI; None: SQLite in the folder.
        python_path: where the server finds the driver of its database.
    """

    def __init__(self, folder: Path, backend: str | None = None, python_path: Path | None = None) -> None:
        self.folder = folder
        self.backend = backend or f"sqlite:///{folder / 'server.db'}"
        self.uri = f"http://127.0.0.1:{free_port('127.0.0.1')}"
        self._python_path = python_path
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
        environment |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        if self._python_path is not None:
            environment["PYTHONPATH"] = str(self._python_path)
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", self.backend]
        command += ["--artifacts-destination", (self.folder / "artifacts").as_uri(), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(urlsplit(self.uri).port)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (self.folder / "server.log").read_text()[-2000:]
            time.sleep(0.05)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        """Kill it and every process that it started, at once."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Proxy:
    """Between the tool and a server; everything passes until it is told otherwise."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target)
        self.loses: Callable[[str, str, bytes], bool] = lambda method, path, body: False
        """Whether to pass on a request and then hang up without an answer."""
        self.waits = threading.Event()
        """Answers only come while this is set."""
        self.waits.set()
        self.down = False
        self.login: tuple[str, str] | None = None
        """User and password that everybody must give, but for /health."""
        self.requests: list[tuple[str, str]] = []
        """(method, path) of all that was passed on."""
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def __getattr__(self, name: str) -> Callable[[], None]:
                """``do_GET`` and its like."""
                if name.startswith("do_"):
                    return lambda: proxy.pass_on(self)
                raise AttributeError(name)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on the test's output."""

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Who hangs up in the middle is no news here."""

        self._listener = Listener(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._listener.server_port}"
        self.uri = f"http://{self.place}"
        self._thread = threading.Thread(target=self._listener.serve_forever, daemon=True)
        self._thread.start()

    def pass_on(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        if self.down:
            return self._hang_up(handler)
        if self.login is not None and handler.path != "/health":
            expected = base64.b64encode(":".join(self.login).encode()).decode()
            if handler.headers.get("Authorization") != f"Basic {expected}":
                return self._answer(handler, 401, b"who are you?", "text/plain")
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port, timeout=60)
        headers = {k: v for k, v in handler.headers.items() if k.lower() not in ("host", "connection")}
        try:
            connection.request(handler.command, handler.path, body or None, headers)
            answer = connection.getresponse()
            data = answer.read()
        except OSError:
            return self._hang_up(handler)
        finally:
            connection.close()
        path = urlsplit(handler.path).path
        self.requests.append((handler.command, path))
        self.waits.wait()
        if self.loses(handler.command, path, body):
            return self._hang_up(handler)
        return self._answer(handler, answer.status, data, answer.getheader("Content-Type") or "text/plain")

    def _hang_up(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)

    def _answer(
        self, handler: http.server.BaseHTTPRequestHandler, status: int, data: bytes, kind: str
    ) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(data)

    def close(self) -> None:
        self.waits.set()
        self._listener.shutdown()
        self._thread.join()
        self._listener.server_close()
