"""A head node of Ray with a job server, on loopback."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from orchestrator.tracking.store import free_port

_NEEDED = ("aiohttp_cors", "colorful", "grpc", "opencensus", "prometheus_client", "smart_open", "virtualenv")
"""What ``ray[default]`` brings beyond ``ray``; a loaded module may have no spec any more (colorful)."""


def missing() -> list[str]:
    return [name for name in _NEEDED if name not in sys.modules and importlib.util.find_spec(name) is None]


class RayHead:
    """``ray start --head`` with two processors, and the token that its users need.

    Everything is bound to loopback, on ports that were free; its files are in a folder of its own.
    """

    def __init__(self) -> None:
        # Sockets live in it, and their paths must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="ray"))
        self.token = "5" * 64
        self.port, jobs, client, agent, metrics, scaling = (free_port("127.0.0.1") for _ in range(6))
        self.address = f"http://127.0.0.1:{jobs}"
        tool = Path(sys.executable).with_name("ray")
        environment = {
            **os.environ,
            **self.environment,
            "PATH": f"{tool.parent}:{os.environ['PATH']}",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the node's address is 127.0.0.1 then
            "RAY_USAGE_STATS_ENABLED": "0",
            "DASHBOARD_METRIC_PORT": str(metrics),
            "AUTOSCALER_METRIC_PORT": str(scaling),
            "OMP_NUM_THREADS": "1",
        }
        environment.pop("RAY_ADDRESS", None)
        options = [
            *("--head", "--block", "--num-cpus=2", "--object-store-memory=104857600"),
            *(f"--port={self.port}", f"--temp-dir={self.folder}", f"--ray-client-server-port={client}"),
            *("--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={jobs}"),
            f"--dashboard-agent-listen-port={agent}",
        ]
        self._log = (self.folder / "head.log").open("wb")
        self.process = subprocess.Popen(
            [tool, "start", *options], env=environment, stdout=self._log, stderr=subprocess.STDOUT
        )
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """What a user of this cluster has in the environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def answer(self, token: str | None = None) -> int:
        """The HTTP status of a request to the job server; 0 where none listens."""
        request = urllib.request.Request(f"{self.address}/api/version")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=5) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code
        except OSError:
            return 0

    def _wait(self, seconds: float = 240.0) -> None:
        deadline = time.monotonic() + seconds
        log = self.folder / "head.log"
        while b"Ray runtime started" not in log.read_bytes() or self.answer(self.token) != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the head did not start:\n{log.read_text()}")
            time.sleep(0.2)

    def close(self) -> None:
        """Leave nothing behind: ``ray start --block`` ends its processes when it is told to stop."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)
