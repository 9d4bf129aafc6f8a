"""The code of a submission can be had again from its commit and its patch."""

from __future__ import annotations

import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from orchestrator.submission.code import Code, code_state, installed


def git(root: Path, *words: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *identity, *words], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    (root / "orchestrator").mkdir(parents=True)
    (root / "orchestrator" / "kept.py").write_text("one\n")
    (root / "orchestrator" / "gone.py").write_text("gone\n")
    (root / "image.bin").write_bytes(bytes(range(256)))
    (root / ".gitignore").write_text("*.log\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    return root


def content(root: Path) -> dict[str, bytes]:
    files = (f for f in root.rglob("*") if f.is_file() and ".git" not in f.relative_to(root).parts)
    return {str(f.relative_to(root)): f.read_bytes() for f in files}


def test_a_clean_checkout_has_a_commit_and_no_patch(checkout: Path) -> None:
    assert code_state(checkout) == Code(git(checkout, "rev-parse", "HEAD").strip(), "")


def test_the_patch_makes_of_the_commit_what_is_here(checkout: Path, tmp_path: Path) -> None:
    (checkout / "orchestrator" / "kept.py").write_text("two\n")
    (checkout / "orchestrator" / "new.py").write_text("new\n")
    (checkout / "orchestrator" / "gone.py").unlink()
    (checkout / "image.bin").write_bytes(bytes(range(255, -1, -1)))
    git(checkout, "add", "image.bin")
    (checkout / "orchestrator" / "noise.log").write_text("ignored")
    before = git(checkout, "status", "--porcelain")

    code = code_state(checkout)

    assert git(checkout, "status", "--porcelain") == before, "the user's index stays as it was"
    again = tmp_path / "again"
    git(tmp_path, "clone", "-q", str(checkout), "again")
    git(again, "checkout", "-q", code.commit)
    (tmp_path / "changes.patch").write_text(code.patch)
    git(again, "apply", str(tmp_path / "changes.patch"))
    wanted = content(checkout)
    del wanted["orchestrator/noise.log"]
    assert content(again) == wanted


def test_without_a_checkout_or_git_there_is_no_commit_and_no_failure(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_state(tmp_path) == Code("", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state(checkout) == Code("", "")


def test_a_checkout_without_a_commit_is_no_failure(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert code_state(tmp_path) == Code("", "")


def test_every_installed_package_has_its_line() -> None:
    lines = installed().splitlines()
    assert f"torch=={metadata.version('torch')}" in lines
    assert f"orchestrate-losses=={metadata.version('orchestrate-losses')}" in lines
    assert lines == sorted(set(lines), key=lambda line: line.partition("==")[0])
