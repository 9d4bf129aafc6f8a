"""Slurm's batch script, run by a real shell, and programs to run in it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from orchestrator.submission import slurm
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.cases import NASTY, job, placed
from tests.orchestrator.submission.stubs import Stubs

SAY = """\
import json, os, sys
names = ("WORD", "SET", "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
print(json.dumps([sys.argv[1:], {name: os.environ[name] for name in names if name in os.environ}]))
"""
STUDY = """\
import pathlib, signal, sys, time
ledger, code = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def stop(*_):
    print("stopping", flush=True)
    sys.exit(code)
signal.signal(signal.SIGTERM, stop)
if len(sys.argv) > 3:
    ledger.open("a").write('{"event":"reported","x":1}\\n')
print("listens", flush=True)
while True:
    time.sleep(0.01)
"""
HEAD = """\
import os, signal, socket, sys, time
signal.signal(signal.SIGUSR1, lambda *_: (print("the nodes end", flush=True), sys.exit()))
server = socket.create_server(("127.0.0.1", int(os.environ["ORCHESTRATE_HEAD_PORT"])))
for _ in range(int(sys.argv[1])):
    print("Ray runtime started.", flush=True)
while True:
    time.sleep(0.01)
"""
"""What ``srun`` would start, as far as the batch script sees it."""


class Batch:
    """Runs the batch script as Slurm does."""

    def __init__(self, folder: Path) -> None:
        self.stubs = Stubs(folder)
        self.storage = folder / NASTY.replace("/", "").replace("\\", "")
        self.folder = self.storage / "submissions" / "x"
        self.started: list[subprocess.Popen[str]] = []

    def start(self, command: tuple[str, ...], profile: Mapping[str, object] | None = None) -> None:
        made = Profile("b", "slurm", storage=str(self.storage), **(profile or {}))  # type: ignore[arg-type]
        files = placed(dict(slurm.render(job(self.folder, command, made))), self.folder)
        environment = {**os.environ, "PATH": self.stubs.path, "SLURM_JOB_ID": "77", "SLURMD_NODENAME": "n1"}
        environment |= {"RAY_ADDRESS": "10.9.9.9:1", "ORCHESTRATE_HEAD_ADDRESS": "127.0.0.1"}
        self.started.append(
            subprocess.Popen(
                ["bash", files["job.sh"]],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        )

    def study(self, code: int = 130, *, progress: bool = False) -> None:
        """Start a study that waits for a signal."""
        ledger = self.storage / "small" / "ledger.jsonl"
        ledger.parent.mkdir(parents=True, exist_ok=True)
        ledger.write_text('{"event":"opened"}\n{"event":"reported"}\n')
        self.start((sys.executable, "-c", STUDY, str(ledger), str(code), *(["on"] if progress else [])))
        out = self.started[-1].stdout
        assert out is not None
        assert out.readline() == "listens\n"

    def tell(self, number: signal.Signals) -> None:
        """To the batch script alone."""
        self.started[-1].send_signal(number)

    def end(self) -> tuple[int, str]:
        """(exit status, what was printed since)."""
        printed, _ = self.started[-1].communicate(timeout=60)
        return self.started[-1].returncode, printed

    @property
    def exit_status(self) -> str | None:
        file = self.folder / "exit-status"
        return file.read_text().strip() if file.exists() else None

    def close(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


def said(printed: str) -> tuple[list[str], dict[str, str]]:
    words, variables = json.loads(printed)
    return words, variables


def until(ready: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
