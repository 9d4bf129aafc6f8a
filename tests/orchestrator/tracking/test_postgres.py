"""Eight studies write to one tracking server at once, with PostgreSQL behind it."""

from __future__ import annotations

import importlib.util
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from benchmarks.mlflow_growth import made_up_trial
from orchestrator.tracking.store import free_port
from tests.orchestrator.tracking.server import Server
from tests.orchestrator.tracking.writing import made_up_study

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(600)]

WRITERS = 8
TRIALS = int(os.environ.get("ORCHESTRATE_POSTGRES_TRIALS", "10"))
"""Of each writer; the page on tracking servers was measured with 50."""
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))


def driver_of_the_database() -> Path | None:
    """Where psycopg2 is: this environment, or the folder that ``PSYCOPG2_PATH`` names."""
    found = importlib.util.find_spec("psycopg2")
    if found is not None and found.origin is not None:
        return Path(found.origin).parents[1]
    named = Path(os.environ.get("PSYCOPG2_PATH", ""))
    return named if (named / "psycopg2").is_dir() else None


def missing() -> str:
    if not BINARIES:
        return "PostgreSQL is not installed (/usr/lib/postgresql)"
    if driver_of_the_database() is None:
        return "psycopg2 is not installed (pip install psycopg2-binary, or PSYCOPG2_PATH)"
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and setpriv is missing"
    return ""


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """URI of a database of its own, in a temporary folder, gone afterwards."""
    if missing():
        pytest.skip(missing())
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    # PostgreSQL refuses to run as root.
    as_user: list[str] = []
    if os.getuid() == 0:
        user = pwd.getpwnam("postgres")
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        os.chown(folder, user.pw_uid, user.pw_gid)

    def run(program: str, *words: str) -> None:
        done = subprocess.run(
            [*as_user, BINARIES[-1] / program, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode()

    data, port = str(folder / "data"), str(free_port("127.0.0.1"))
    run("initdb", "-D", data, "-U", "mlflow", "--auth=trust", "-E", "UTF8")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder}"
    run("pg_ctl", "-D", data, "-o", options, "-l", str(folder / "log"), "-w", "start")
    try:
        run("createdb", "-h", "127.0.0.1", "-p", port, "-U", "mlflow", "records")
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/records"
    finally:
        run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"), database, driver_of_the_database())
    running.start()
    yield running
    running.kill()


def test_eight_studies_at_once_lose_and_double_nothing(server: Server, tmp_path: Path) -> None:
    began = time.perf_counter()
    writers = [
        subprocess.Popen(
            [
                sys.executable,
                *("-m", "tests.orchestrator.tracking.writing"),
                *(server.uri, str(tmp_path), f"writer-{number}", str(TRIALS)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(WRITERS)
    ]
    took = []
    for writer in writers:
        output, trouble = writer.communicate(timeout=500)
        assert writer.returncode == 0, trouble[-3000:]
        took += json.loads(output)
    wall = time.perf_counter() - began
    mean = sum(took) / len(took)
    print(f"{len(took)} trials, {mean:.3f} s each, the slowest {max(took):.2f} s; {wall:.1f} s in all")
    client = MlflowClient(server.uri)
    experiment = client.get_experiment_by_name("team")
    assert experiment is not None
    for number in range(WRITERS):
        mine = f"tags.`orchestrate.instance` = 'writer-{number}'"
        runs = client.search_runs([experiment.experiment_id], mine, max_results=1000)
        spec = made_up_study(f"writer-{number}")
        trials = {t.key: t for t in (made_up_trial(i, spec) for i in range(TRIALS))}
        roles = sorted(run.data.tags["orchestrate.role"] for run in runs)
        assert roles == sorted(["study", *(f"arm:{n}" for n in spec.arms), *(f"trial:{k}" for k in trials)])
        for run in runs:
            trial = trials.get(run.data.tags.get("orchestrate.key", ""))
            if trial is None:
                continue
            assert run.info.status == "FINISHED"
            points = client.get_metric_history(run.info.run_id, "noise/fpr95")
            assert [(p.step, p.value) for p in sorted(points, key=lambda p: p.step)] == [
                (epoch, report["noise/fpr95"]) for epoch, report in trial.reports.items()
            ]
            held = {name: run.data.metrics.get(name) for name in trial.metrics}
            assert held == trial.metrics
            assert len(run.outputs.model_outputs) == (trial.stage == "confirm")
