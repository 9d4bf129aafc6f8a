"""A walk through MLflow's pages in a browser: what a person looks for is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.orchestrator.execution.driver import COMMAND, study_file, undisturbed_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed"),
]
ARMS = ("cross_entropy", "logitnorm")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory, study_file(tmp_path_factory))


@pytest.fixture(scope="module")
def ui(out: Path) -> Iterator[tuple[str, str]]:
    """The address of the UI, and that of the arms' page which it prints."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    server = subprocess.Popen(
        [COMMAND, "ui", "--out", out, "--port", "0"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert server.stdout is not None
    address = re.findall(r"http://\S+", server.stdout.readline())[0]
    arms = re.findall(r"http://\S+", server.stdout.readline())[0]
    deadline = time.monotonic() + 120
    while not _answers(address):
        assert server.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield address, arms
    server.terminate()
    server.wait(60)
    server.stdout.close()
    assert not _answers(address), "the server ends with the command"


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """What a page shows, in words."""
    profile = tmp_path_factory.mktemp("browser")

    def look(url: str) -> str:
        assert BROWSER is not None
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        command += ["--window-size=1600,2400", "--virtual-time-budget=30000", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
        return unescape(
            re.sub(r"<[^>]*>", " ", re.sub(r"<(style|script).*?</\1>", "", done.stdout, flags=re.S))
        )

    return look


def test_the_arms_stand_side_by_side_with_charts_by_kind(
    ui: tuple[str, str], page: Callable[[str], str]
) -> None:
    shown = page(ui[1])
    assert all(f"arm {name}" in shown for name in ARMS)
    for section in ("calibration", "geometry", "ood/near/msp", "selective/msp", "std/ood/near/msp", "test"):
        assert re.search(rf"\b{section}\s*\(\s*[1-9]", shown), section


def test_a_study_a_trial_and_a_model_say_what_they_are(
    ui: tuple[str, str], page: Callable[[str], str], out: Path
) -> None:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small").experiment_id
    runs = {r.data.tags["orchestrate.role"]: r for r in client.search_runs([experiment], max_results=100)}
    shown = page(f"{ui[0]}/#/experiments/{experiment}/runs/{runs['study'].info.run_id}")
    assert "study small" in shown
    assert "The report is among the artifacts" in shown
    assert all(f"arm {name}" in shown for name in ARMS), "its children"
    confirm = next(r for r in runs.values() if r.data.tags.get("orchestrate.stage") == "confirm")
    shown = page(f"{ui[0]}/#/experiments/{experiment}/runs/{confirm.info.run_id}")
    assert confirm.info.run_name in shown
    assert "digits train" in shown, "its data"
    assert "orchestrate study small" in shown, "where it comes from"
    model = client.search_logged_models([experiment])[0]
    shown = page(f"{ui[0]}/#/experiments/{experiment}/models/{model.model_id}")
    assert model.name in shown
    assert "ood/near/msp/auroc" in shown


def test_arms_are_compared_by_name(ui: tuple[str, str], page: Callable[[str], str], out: Path) -> None:
    client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small").experiment_id
    arms = client.search_runs([experiment], "tags.`orchestrate.role` LIKE 'arm:%'")
    ids = "%2C".join(f"%22{run.info.run_id}%22" for run in arms)
    shown = page(f"{ui[0]}/#/compare-runs?runs=%5B{ids}%5D&experiments=%5B%22{experiment}%22%5D")
    assert "Comparing 2 Runs" in shown
    assert all(f"arm {name}" in shown for name in ARMS)
    # Further rows are made when they are scrolled to.
    for name in ("lr", "tau", "calibration/brier"):
        assert name in shown, name
