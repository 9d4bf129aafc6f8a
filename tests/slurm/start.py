"""A Slurm of one's own on this machine, with two nodes: ``python -m tests.slurm.start`` to try things on it.

It needs root and Debian's packages ``slurm-wlm`` and ``munge``, listens on loopback only, on ports that were
free, and keeps its files in a folder of its own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from orchestrator.tracking.store import free_port

_NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "sinfo")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
NODES = ("n1", "n2")

_CONF = """\
ClusterName=one_machine
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=2 RealMemory=2000
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why Slurm cannot start here; empty where it can."""
    absent = [name for name in _NEEDED if shutil.which(name, path=_PATH) is None]
    if absent:
        return f"Slurm is not installed (Debian's slurm-wlm and munge): no {', '.join(absent)}"
    return "" if os.getuid() == 0 else "Slurm can be started by root only"


class OneMachine:
    """A controller and two nodes of two processors each, which are all this machine."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm"))
        # Jobs of another user than root would have to enter it.
        self.folder.chmod(0o755)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = (self.folder / "daemons.log").open("wb")
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """What a user of this Slurm has in the environment."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *words: str) -> str:
        """What a command of Slurm prints."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def hurry(self, job: str) -> None:
        """Let a job that was requeued begin in seconds, where Slurm itself waits two minutes.

        A node takes a job that begins in the second in which it was ended for the one that was ended, and
        Slurm 22.05 ends it for good then ("Job credential revoked", exit status 1).
        """
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def _start(self) -> None:
        host = socket.gethostname().split(".")[0]
        controller, *ports = (free_port("127.0.0.1") for _ in (None, *NODES))
        for name in ("state", *(f"spool/{node}" for node in NODES)):
            (self.folder / name).mkdir(parents=True)
        # A list of ports goes with a list of nodes.
        config = _CONF.format(
            host=host,
            folder=self.folder,
            controller=controller,
            nodes=",".join(NODES),
            ports=",".join(map(str, ports)),
        )
        (self.folder / "slurm.conf").write_text(config)
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))
        files = {"socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log"}
        options = [f"--{name}={self.folder / file}" for name, file in files.items()]
        self._daemon(
            *("munged", "--foreground", "--force", f"--key-file={key}", *options),
            f"--seed-file={self.folder / 'munged.seed'}",
        )
        self._until(lambda: (self.folder / "munge.sock").exists(), "munged")
        self._daemon("slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"))
        self._until(self._is_idle, "Slurm")

    def _is_idle(self) -> bool:
        with contextlib.suppress(AssertionError):
            return self.run("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * len(NODES)
        return False

    def _daemon(self, *words: str) -> None:
        environment = {**os.environ, **self.environment, "PATH": _PATH}
        self._processes.append(
            subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
            )
        )

    def _until(self, ready: object, what: str, seconds: float = 60.0) -> None:
        assert callable(ready)
        deadline = time.monotonic() + seconds
        while not ready():
            dead = [process for process in self._processes if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                log = (self.folder / "daemons.log").read_text(errors="replace")
                raise AssertionError(f"{what} did not start:\n{log}")
            time.sleep(0.1)

    def close(self) -> None:
        """End every job, then the daemons, and leave nothing behind."""
        with contextlib.suppress(AssertionError, OSError, subprocess.TimeoutExpired):
            for job in self.run("squeue", "--noheader", "--format=%i").split():
                self.run("scancel", "--full", "--signal=KILL", job)
                self.run("scancel", job)
            self._until_empty()
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self._processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._kill_strays()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _kill_strays(self) -> None:
        """What outlives its daemon when that ends in the middle of something, and what jobs left."""
        mark = f"SLURM_CONF={self.folder}/".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)

    def _until_empty(self) -> None:
        deadline = time.monotonic() + 20
        while self.run("squeue", "--noheader").strip() and time.monotonic() < deadline:
            time.sleep(0.2)


def main() -> None:
    reason = missing()
    if reason:
        raise SystemExit(reason)
    with contextlib.closing(OneMachine()) as slurm:
        print(f"export SLURM_CONF={slurm.environment['SLURM_CONF']}   # Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
