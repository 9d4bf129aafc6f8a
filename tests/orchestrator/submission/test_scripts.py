"""Rendered scripts, read by a real shell: words reach the command as they are, whatever is in them."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.submission import local, ray_jobs
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.cases import NASTY, job, placed

SAY = """\
import json, os, sys
print(json.dumps([sys.argv[1:], os.environ["WORD"], os.environ["SET"], os.getcwd()]))
"""


def script(kind: str, folder: Path, *, stored: bool = False) -> str:
    """What starts the rendered script."""
    profile = Profile(
        "x",
        "local" if kind == "local" else "ray",
        environment={"WORD": NASTY},
        setup=('export SET="$WORD;$WORD"',),
    )
    module = local if kind == "local" else ray_jobs
    made = job(
        None if stored else folder, (sys.executable, "-c", SAY, NASTY, "--out", f"/x/{NASTY}"), profile
    )
    files = dict(module.render(made))
    if not stored:
        placed(files, folder)
    if kind == "local":
        return shlex.join(["bash", str(folder / "job.sh")])
    return str(json.loads(files["request.json"])["entrypoint"])


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_every_word_reaches_the_command_as_it_is(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / NASTY.replace("/", "")
    command = script(kind, folder)
    # As Ray runs an entry point: through /bin/sh.
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    words, word, told, _ = json.loads(done.stdout)
    assert words == [NASTY, "--out", f"/x/{NASTY}"]
    assert word == NASTY
    assert told == f"{NASTY};{NASTY}", "setup lines are shell, and see the environment"
    assert sorted(f.name for f in folder.iterdir() if f.name not in ("exit-status",)) == (
        ["job.sh"] if kind == "local" else ["job.sh", "request.json"]
    ), "nothing that the words say was done"


def test_a_job_without_a_folder_brings_its_script_along(tmp_path: Path) -> None:
    command = script("ray", tmp_path, stored=True)
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    words, word, told, _ = json.loads(done.stdout)
    assert (words, word, told) == ([NASTY, "--out", f"/x/{NASTY}"], NASTY, f"{NASTY};{NASTY}")
    assert list(tmp_path.iterdir()) == []


def test_a_local_job_runs_where_it_was_submitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / NASTY
    here.mkdir()
    monkeypatch.chdir(here)
    command = script("local", tmp_path / "folder")
    done = subprocess.run(command, shell=True, capture_output=True, text=True, cwd="/", check=True)
    assert json.loads(done.stdout)[3] == str(here)


def test_a_line_of_the_setup_that_leaves_the_script_ends_the_job(tmp_path: Path) -> None:
    profile = Profile("x", "local", setup=("test -e /nowhere || exit 7",))
    placed(dict(local.render(job(tmp_path / "f", ("echo", "ran"), profile))), tmp_path / "f")
    done = subprocess.run(["bash", tmp_path / "f" / "job.sh"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (7, "")


@pytest.mark.parametrize("module", [local, ray_jobs], ids=["local", "ray"])
@pytest.mark.parametrize("status", [0, 1, 130])
def test_the_exit_status_is_that_of_the_study(module: ModuleType, status: int, tmp_path: Path) -> None:
    made = job(tmp_path / "f", ("sh", "-c", f"exit {status}"))
    placed(dict(module.render(made)), tmp_path / "f")
    done = subprocess.run(["bash", tmp_path / "f" / "job.sh"], capture_output=True, check=False)
    assert done.returncode == status


def test_a_command_that_is_not_there_is_no_stop(tmp_path: Path) -> None:
    placed(dict(local.render(job(tmp_path / "f", ("no-such-command",)))), tmp_path / "f")
    subprocess.run(["bash", tmp_path / "f" / "job.sh"], capture_output=True, check=False)
    assert (tmp_path / "f" / "exit-status").read_text() == "127\n"
