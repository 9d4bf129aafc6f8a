"""``orchestrate report --follow``: the page is written again while a study runs, and once at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.cli import main
from orchestrator.commands import reading
from orchestrator.execution.folder import claimed
from orchestrator.execution.storage import mirror
from tests.orchestrator.simulation import Simulator, study

SPEC = study(arms=dict(list(study().arms.items())[:1]))
RELOADS = '<meta http-equiv="refresh" content="7">'


@pytest.fixture
def out(tmp_path: Path) -> Path:
    with claimed(SPEC, tmp_path / SPEC.name, fresh=False):
        Simulator(SPEC, tmp_path / SPEC.name).run()
    return tmp_path


def test_a_page_that_is_followed_reloads_until_the_study_ends(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [True, True, False]
    pages: list[str] = []
    page = out / SPEC.name / "report" / "index.html"
    monkeypatch.setattr(mirror, "is_locked", lambda _: held.pop(0))
    monkeypatch.setattr(reading, "_wait", lambda *_: pages.append(page.read_text()))
    assert main(["report", SPEC.name, "--out", str(out), "--follow", "7"]) == 0
    assert len(pages) == 2
    assert all(RELOADS in each for each in pages)
    assert "refresh" not in page.read_text()
    printed = capsys.readouterr().out
    assert printed.count("again in 7 s at most") == 2
    assert printed.count("Report   ") == 1


def test_a_study_that_does_not_run_is_reported_once(
    out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reading, "_wait", lambda *_: pytest.fail("nothing is to be waited for"))
    assert main(["report", SPEC.name, "--out", str(out), "--follow"]) == 0
    assert "again in" not in capsys.readouterr().out


def test_waiting_ends_with_the_study(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    held = [True, True, False]
    slept: list[float] = []
    monkeypatch.setattr(mirror, "is_locked", lambda _: held.pop(0))
    monkeypatch.setattr("time.sleep", slept.append)
    reading._wait(mirror.Mirror(tmp_path), 1000.0)
    assert slept == [1.0, 1.0]
