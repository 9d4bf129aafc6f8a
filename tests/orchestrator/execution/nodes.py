"""A Ray cluster of several nodes on this machine, on loopback alone; run as a process that takes orders.

Orders are lines on its standard input: ``add ADDRESS CPUS`` starts a node, ``kill ADDRESS`` ends one as a
power cut would. Each is answered by one line; the first line of all is the cluster's address.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile

_STORE_BYTES = 80_000_000


def serve() -> None:
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": _STORE_BYTES})
    nodes = {}
    print(f"address {cluster.address}", flush=True)
    for line in sys.stdin:
        order, address, *rest = line.split()
        if order == "add":
            nodes[address] = cluster.add_node(
                wait=False, num_cpus=int(rest[0]), node_ip_address=address, object_store_memory=_STORE_BYTES
            )
        else:
            cluster.remove_node(nodes.pop(address), allow_graceful=False)
        print(f"done {line.strip()}", flush=True)


class Nodes:
    """The process, from outside."""

    def __init__(self) -> None:
        # Sockets' paths must be short.
        self._folder = tempfile.mkdtemp(prefix="nodes-", dir="/tmp")
        self.variables = {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": "7" * 64,
            "RAY_TMPDIR": self._folder,
            # How soon a node that says nothing is taken for dead.
            "RAY_health_check_initial_delay_ms": "500",
            "RAY_health_check_period_ms": "500",
            "RAY_health_check_timeout_ms": "2000",
            "RAY_health_check_failure_threshold": "3",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            env={**os.environ, **self.variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        self.address = self._answer("address")

    def order(self, order: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        assert self._answer("done") == order

    def _answer(self, kind: str) -> str:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Ray says a word of its own between.
            if line.startswith(kind + " "):
                return line.removeprefix(kind + " ").strip()
        raise AssertionError("the nodes' process has ended")

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        shutil.rmtree(self._folder, ignore_errors=True)
