"""The doctor: each finding, sound and broken."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from orchestrator import doctor
from orchestrator.doctor import Finding, examine, findings

REAL_PROGRAM = doctor._TORCH_PROGRAM


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch answers at once, and no server is asked."""
    monkeypatch.setattr(doctor, "_TORCH_PROGRAM", 'print(\'{"cuda": null, "devices": []}\')')
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def found(out: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings(out)}


def test_a_sound_machine_is_ready_and_nothing_is_left_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert examine(tmp_path / "runs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "Ready to run a study."
    assert f"ok    torch           {metadata.version('torch')}" in lines
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_missing_or_too_old_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "ray":
            raise metadata.PackageNotFoundError(name)
        return "4.9.0" if name == "optuna" else real(name)

    monkeypatch.setattr(metadata, "version", version)
    seen = found(tmp_path)
    assert seen["ray"] == Finding("FAIL", "ray", "not installed; run: make install")
    assert seen["optuna"] == Finding("FAIL", "optuna", "4.9.0; must be >=5.0")
    assert examine(tmp_path) == 1


def test_a_torch_that_does_not_work_fails_with_its_own_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_TORCH_PROGRAM", "raise RuntimeError('operator nms does not exist')")
    assert found(tmp_path)["torch works"] == Finding(
        "FAIL",
        "torch works",
        "RuntimeError: operator nms does not exist. torch and torchvision must match: run make install",
    )
    assert "GPUs" not in found(tmp_path)


def test_the_graphics_processors_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_TORCH_PROGRAM", 'print(\'{"devices": ["A", "B"]}\')')
    assert found(tmp_path)["GPUs"].detail == "A, B"


def test_the_real_program_finds_that_the_installed_torch_works() -> None:
    done = subprocess.run([sys.executable, "-c", REAL_PROGRAM], capture_output=True, text=True, check=True)
    assert '"devices"' in done.stdout


@pytest.mark.parametrize(("free", "level"), [(0.1e9, "FAIL"), (2e9, "warn"), (50e9, "ok")])
def test_little_disk_is_warned_of_and_none_fails(
    free: float, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        pass

    usage: Any = Usage()
    usage.free = free
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert found(tmp_path)["disk"].level == level


@pytest.mark.parametrize(("mode", "level"), [(0o600, "ok"), (0o640, "warn"), (0o604, "warn")])
def test_a_token_of_rays_that_others_may_read_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, level: str
) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert list(doctor._token(tmp_path)) == []
    (tmp_path / ".ray").mkdir()
    token = tmp_path / ".ray" / "auth_token"
    token.write_text("x")
    token.chmod(mode)
    (found,) = doctor._token(tmp_path)
    assert found.level == level
    assert str(token) in found.detail
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    assert list(doctor._token(tmp_path)) == []


def test_a_folder_that_cannot_be_written_fails_but_for_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    seen = found(tmp_path)
    assert (seen["output folder"].level, seen["home folder"].level) == ("FAIL", "warn")
    assert "RAY_AUTH_TOKEN_PATH" in seen["home folder"].detail


def test_a_store_that_does_not_answer_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    assert found(tmp_path)["MLflow store"].level == "FAIL"
