"""A study's folder is claimed by one driver and belongs to one study."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import StudyChanged, StudyLocked
from orchestrator.execution.folder import claimed
from orchestrator.execution.lock import DriverLock, is_locked
from orchestrator.study.dump import to_yaml
from orchestrator.study.loader import load_study
from orchestrator.study.spec import ConfirmSpec, ExecutionSpec
from tests.orchestrator.execution.driver import STUDY


@pytest.fixture
def study_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "small"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(STUDY)
    return path


def test_a_new_folder_gets_the_complete_study(study_dir: Path, path: Path) -> None:
    spec = load_study(path)
    with claimed(spec, study_dir, fresh=False):
        assert load_study(study_dir / "study.yaml") == spec


@pytest.mark.parametrize("ledger", [None, ""])
def test_a_study_of_which_nothing_was_run_may_be_mended(
    study_dir: Path, path: Path, ledger: str | None
) -> None:
    spec = load_study(path)
    with claimed(spec, study_dir, fresh=False):
        if ledger is not None:
            (study_dir / "ledger.jsonl").write_text(ledger)
    mended = replace(spec, confirm=ConfirmSpec((7, 8)))
    with claimed(mended, study_dir, fresh=False):
        assert load_study(study_dir / "study.yaml") == mended


def test_a_changed_study_is_refused_with_what_changed_and_what_to_do(study_dir: Path, path: Path) -> None:
    spec = load_study(path)
    with claimed(spec, study_dir, fresh=False):
        (study_dir / "ledger.jsonl").write_text("{}")
    before = (study_dir / "study.yaml").read_text()
    changed = replace(
        spec, search=replace(spec.search, trials=4), confirm=ConfirmSpec((7, 8)), arms=dict(spec.arms)
    )
    with pytest.raises(StudyChanged) as refused, claimed(changed, study_dir, fresh=False):
        pass
    message = str(refused.value)
    assert "search.trials: 3 -> 4" in message
    assert "confirm.seeds" in message
    assert "--fresh" in message
    assert "--out" in message
    assert refused.value.exit_code == 2
    assert (study_dir / "study.yaml").read_text() == before
    assert not is_locked(study_dir), "a refusal must not keep the lock"


def test_what_touches_no_result_may_change(study_dir: Path, path: Path) -> None:
    spec = load_study(path)
    with claimed(spec, study_dir, fresh=False):
        pass
    wider = replace(spec, execution=ExecutionSpec(max_concurrent=1), question="another?")
    with claimed(wider, study_dir, fresh=False):
        assert load_study(study_dir / "study.yaml").execution.max_concurrent == 1


def test_a_question_in_any_script_survives_an_ascii_locale(study_dir: Path, path: Path) -> None:
    spec = replace(load_study(path), question="Is µ = √(M/N) better? 损失")
    script = (
        "import sys; from pathlib import Path; from orchestrator.study.loader import load_study;"
        "from orchestrator.execution.folder import claimed\n"
        "with claimed(load_study(Path(sys.argv[1])), Path(sys.argv[2]), fresh=False): pass"
    )
    path.write_text(to_yaml(spec), encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script, path, study_dir], env=environment, check=True)
    assert load_study(study_dir / "study.yaml").question == spec.question


def test_fresh_keeps_the_old_folder_under_another_name(study_dir: Path, path: Path) -> None:
    spec = load_study(path)
    with claimed(spec, study_dir, fresh=False):
        (study_dir / "ledger.jsonl").write_text("old")
    with claimed(replace(spec, confirm=ConfirmSpec((7, 8))), study_dir, fresh=True):
        assert not (study_dir / "ledger.jsonl").exists()
        assert is_locked(study_dir)
    (aside,) = (p for p in study_dir.parent.iterdir() if p != study_dir)
    assert aside.name.startswith("small.20")
    assert (aside / "ledger.jsonl").read_text() == "old"


def test_a_second_driver_is_refused_and_told_who_is_first(study_dir: Path, path: Path) -> None:
    spec = load_study(path)
    with (
        claimed(spec, study_dir, fresh=False),
        pytest.raises(StudyLocked, match=r"another driver .*process \d+ on"),
        claimed(spec, study_dir, fresh=False),
    ):
        pass


def test_fresh_does_not_move_a_folder_that_a_driver_holds(study_dir: Path, path: Path) -> None:
    spec = load_study(path)
    with claimed(spec, study_dir, fresh=False):
        with pytest.raises(StudyLocked), claimed(spec, study_dir, fresh=True):
            pass
        assert study_dir.exists()


def test_a_lock_file_that_nobody_holds_does_not_lock(study_dir: Path) -> None:
    study_dir.mkdir(parents=True)
    (study_dir / "driver.lock").touch()
    (study_dir / "driver.txt").write_text("process 1 on elsewhere")
    assert not is_locked(study_dir)
    with DriverLock(study_dir):
        assert is_locked(study_dir)


def test_folders_put_aside_at_the_same_time_of_day_are_all_kept(
    study_dir: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000")
    for number in range(4):
        with claimed(load_study(path), study_dir, fresh=True):
            (study_dir / "ledger.jsonl").write_text(f"{number}")
    names = ["small.20260101-000000", "small.20260101-000000-2", "small.20260101-000000-3", "small"]
    kept = [study_dir.with_name(name) / "ledger.jsonl" for name in names]
    assert [ledger.read_text() for ledger in kept] == ["0", "1", "2", "3"]
