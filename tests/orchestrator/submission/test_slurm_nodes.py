"""A Slurm job's own Ray cluster; ``srun``, ``scontrol`` and ``ray`` are stubs."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.submission import slurm, slurm_nodes
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.batch import HEAD, SAY, Batch, said, until
from tests.orchestrator.submission.cases import job, placed
from tests.orchestrator.submission.stubs import Stubs

DEAF = """\
import signal, sys, time
said = open(sys.argv[1], "a")
(folder,) = [each.partition("=")[2] for each in sys.argv if each.startswith("--temp-dir")]
signal.signal(signal.SIGTERM, lambda *_: print("told", file=said, flush=True))
print(folder, "listens", sep="\\n", file=said, flush=True)
while True:
    time.sleep(0.01)
"""
"""``ray start`` that takes its time to end."""


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    made = Batch(tmp_path)
    made.stubs.add("scontrol", "exit 0")
    yield made
    made.close()


def nodes(batch: Batch, started: int) -> dict[str, object]:
    """A profile of three nodes, of which some start."""
    batch.stubs.add("srun", f"exec {sys.executable} -c '{HEAD}' {started}")
    return {"nodes": 3}


def test_several_nodes_become_a_cluster_that_only_the_job_can_use(batch: Batch) -> None:
    batch.start((sys.executable, "-c", SAY), nodes(batch, 3))
    code, printed = batch.end()
    assert code == 0, printed
    variables = said(printed)[1]
    assert variables["RAY_ADDRESS"].startswith("127.0.0.1:")
    assert variables["RAY_AUTH_MODE"] == "token"
    assert len(bytes.fromhex(variables["RAY_AUTH_TOKEN"])) == 32
    kept = b"".join(f.read_bytes() for f in batch.folder.iterdir())
    assert variables["RAY_AUTH_TOKEN"].encode() not in kept
    assert b"the nodes end\n" in kept, "they were told to"
    (call,) = batch.stubs.called("srun")
    assert call[:3] == ["--nodes=3", "--ntasks=3", "--ntasks-per-node=1"]
    assert call[-2:] == ["bash", str(batch.folder / "node.sh")]


def test_a_study_begins_on_the_nodes_that_are_there(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slurm_nodes, "_WAIT_SECONDS", 2)
    batch.start(("echo", "ran"), nodes(batch, 2))
    code, printed = batch.end()
    assert code == 0
    assert printed.splitlines()[0].startswith("Only 2 of 3 nodes are ready: the study begins there.")
    assert printed.splitlines()[1] == "ran"


def test_a_node_that_is_lost_is_not_waited_for(batch: Batch) -> None:
    began = time.monotonic()
    batch.stubs.add("srun", f"echo 'a worker on n3 has ended with status 1'; {sys.executable} -c '{HEAD}' 2")
    batch.start(("echo", "ran"), {"nodes": 3})
    assert batch.end()[1].endswith("\nran\n")
    assert time.monotonic() - began < 50, "not for the whole deadline"


@pytest.mark.parametrize("srun", ["echo 'out of order'; exit 1", "echo 'the head on n1 has ended'; sleep 60"])
def test_without_a_head_the_job_fails_at_once_and_says_why(srun: str, batch: Batch) -> None:
    batch.stubs.add("srun", srun)
    began = time.monotonic()
    batch.start(("echo", "ran"), {"nodes": 2})
    code, printed = batch.end()
    assert code == 1
    assert "The head of the Ray cluster did not start" in printed
    assert ("out of order" in printed) or ("has ended" in printed)
    assert "ran\n" not in printed
    assert time.monotonic() - began < 50, "not after the whole deadline"


def test_a_stop_while_the_nodes_are_waited_for_runs_no_study(batch: Batch) -> None:
    batch.start(("echo", "ran"), nodes(batch, 2))
    log = batch.folder / "nodes.log"
    until(lambda: log.exists() and log.read_text().count("started") == 2)
    batch.tell(signal.SIGTERM)
    assert batch.end() == (143, "")


@pytest.mark.parametrize(
    ("shown", "known", "wanted"),
    [
        ("n1 NodeAddr=far NodeHostName=n1", "10.1.2.3 STREAM far", "10.1.2.3"),
        ("n1 NodeAddr=n1 NodeHostName=n1", "127.0.1.1 STREAM n1", "10.4.4.4"),
        ("", "", "10.4.4.4"),
    ],
    ids=["as Slurm calls it", "not by an address that only it itself can use", "unknown to Slurm"],
)
def test_the_head_is_called_by_an_address_that_others_reach(
    shown: str, known: str, wanted: str, tmp_path: Path
) -> None:
    stubs = Stubs(tmp_path)
    stubs.say("scontrol", f"NodeName={shown} State=IDLE\n")
    stubs.say("getent", f"{known}\n")
    stubs.say("hostname", "10.4.4.4 10.5.5.5\n")
    text = slurm.render(job(tmp_path, ("true",), Profile("b", "slurm", storage="/s", nodes=2)))["job.sh"]
    start = text.index("address=${ORCH")
    part = text[start : text.index("export ORCHESTRATE_HEAD_NODE")] + 'echo "$address"'
    environment = {"PATH": stubs.path, "SLURMD_NODENAME": "n1"}
    done = subprocess.run(["bash", "-c", part], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{wanted}\n"
    assert stubs.called("scontrol") == [["show", "node", "n1", "--oneliner"]]
    assert stubs.called("getent") == [["ahostsv4", "far" if "far" in shown else "n1"]]


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_each_node_runs_its_part_of_the_cluster(node: str, tmp_path: Path) -> None:
    stubs = Stubs(tmp_path)
    stubs.add("ray", "exit 3")
    profile = Profile("b", "slurm", storage="/s", nodes=2)
    files = placed(dict(slurm.render(job(tmp_path / "f", ("true",), profile))), tmp_path / "f")
    with socket.create_server(("127.0.0.1", 0)) as head:
        port = str(head.getsockname()[1])
        environment = {
            **os.environ,
            "PATH": stubs.path,
            "SLURMD_NODENAME": node,
            "SLURM_CPUS_ON_NODE": "6",
            "SLURM_GPUS_ON_NODE": "2",
            "ORCHESTRATE_HEAD_NODE": "n1",
            "ORCHESTRATE_HEAD_ADDRESS": "127.0.0.1",
            "ORCHESTRATE_HEAD_PORT": port,
        }
        done = subprocess.run(
            ["bash", files["node.sh"]], env=environment, capture_output=True, text=True, check=False
        )
    part = "the head" if node == "n1" else "a worker"
    assert (done.returncode, done.stdout) == (3, f"{part} on {node} has ended with status 3\n")
    (call,) = stubs.called("ray")
    options = dict(each.partition("=")[::2] for each in call[1:])
    folder = options.pop("--temp-dir")
    assert folder.startswith("/tmp/ray.")
    assert not Path(folder).exists(), "it cleans up"
    assert options.pop("--dashboard-agent-listen-port").isdecimal()
    own = {"--block": "", "--disable-usage-stats": "", "--object-store-memory": "104857600"}
    if node == "n1":
        own |= {
            "--head": "",
            "--node-ip-address": "127.0.0.1",
            "--port": port,
            "--include-dashboard": "false",
        }
    else:
        own |= {"--address": f"127.0.0.1:{port}"}
    assert options == {**own, "--num-cpus": "6", "--num-gpus": "2"}


@pytest.mark.parametrize(("number", "grace"), [(signal.SIGTERM, 15), (signal.SIGUSR1, 2)])
def test_a_node_ends_and_cleans_up_before_slurm_loses_its_patience(
    number: signal.Signals, grace: int, tmp_path: Path
) -> None:
    stubs = Stubs(tmp_path)
    # It takes note of its folder and of the first signal, and does not end.
    stubs.add("ray", f"exec {sys.executable} -c '{DEAF}' {tmp_path}/said \"$@\"")
    profile = Profile("b", "slurm", storage="/s", nodes=2)
    script = slurm.render(job(tmp_path / "f", ("true",), profile))["node.sh"]
    assert f"'end {grace}'" in script
    files = placed({"node.sh": script.replace(f"'end {grace}'", "'end 2'")}, tmp_path / "f")
    environment = {**os.environ, "PATH": stubs.path, "SLURMD_NODENAME": "n1"}
    environment |= {f"ORCHESTRATE_HEAD_{name}": "n1" for name in ("NODE", "ADDRESS", "PORT")}
    words = ["bash", str(files["node.sh"])]
    running = subprocess.Popen(
        words, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    said = tmp_path / "said"
    try:
        until(lambda: said.exists() and said.read_text().endswith("listens\n"))
        running.send_signal(number)
        printed, _ = running.communicate(timeout=20)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
    folder, *rest = said.read_text().splitlines()
    assert rest == ["listens", "told"]
    assert not Path(folder).exists()
    assert (running.returncode, printed) == (137, "the head on n1 has ended with status 137\n")
