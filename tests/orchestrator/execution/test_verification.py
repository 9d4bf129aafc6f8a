"""Which finished trials are reopened, which are left with a word, and who a study is to MLflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.campaign.record import StudyRecord, TrialRecord
from orchestrator.execution.folder import claimed
from orchestrator.execution.identity import identify
from orchestrator.execution.verification import verify
from tests.orchestrator.simulation import study
from workloads.contract import TrialResult
from workloads.protocols.folder import write_result
from workloads.sealed import with_trailer


def trial(number: int, stage: str = "confirm", state: str = "complete") -> TrialRecord:
    found = TrialRecord(f"{stage}{number}", "hem", stage, "standard", 0, 100 + number, {})
    found.state = state  # type: ignore[assignment]
    return found


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    for number in range(8):
        folder = tmp_path / f"confirm{number}"
        (folder / "outputs").mkdir(parents=True)
        (folder / "outputs" / "scores.npz").write_bytes(b"scores")
        (folder / "checkpoint.pt").write_bytes(with_trailer(b"model"))
        write_result(folder, folder.name, TrialResult({"test/accuracy": 0.5}, 1.0, 1.0, 10), [])
    return tmp_path


def record(*trials: TrialRecord) -> StudyRecord:
    return StudyRecord(trials={each.key: each for each in trials})


EIGHT = record(*(trial(n) for n in range(8)))


@pytest.mark.parametrize("threads", [1, 4])
def test_whole_trials_are_left_without_a_word(trials: Path, threads: int) -> None:
    found = verify(EIGHT, trials, threads)
    assert (found.damaged, found.words) == ({}, ())


def test_only_the_damaged_ones_are_reopened_each_with_its_file_and_what_is_done(trials: Path) -> None:
    (trials / "confirm2" / "outputs" / "scores.npz").write_bytes(b"scared")
    (trials / "confirm3" / "result.json").unlink()
    for name in ("outputs/scores.npz", "checkpoint.pt"):
        (trials / "confirm5" / name).unlink()
    (trials / "confirm6").rename(trials / "elsewhere")
    missing = "is missing or not readable (No such file or directory)"
    found = verify(EIGHT, trials, 2)
    assert found.words == ()
    assert found.damaged == {
        "confirm2": "outputs/scores.npz does not hold what was written (its SHA-256 differs); measured again "
        "from its checkpoint",
        "confirm3": f"result.json {missing}; measured again from its checkpoint",
        "confirm5": f"outputs/scores.npz {missing}; trained again, as checkpoint.pt {missing}",
        "confirm6": "its folder is missing; trained again, as checkpoint.pt is missing",
    }


def test_several_damaged_files_of_a_trial_are_counted(trials: Path) -> None:
    (trials / "confirm0" / "outputs" / "more.npz").write_bytes(b"more")
    write_result(trials / "confirm0", "confirm0", TrialResult({}, 1.0, 1.0, 10), [])
    for name in ("more", "scores"):
        (trials / "confirm0" / "outputs" / f"{name}.npz").unlink()
    assert "outputs/more.npz is missing" in verify(EIGHT, trials, 1).damaged["confirm0"]
    assert "(and 1 more)" in verify(EIGHT, trials, 1).damaged["confirm0"]


def test_a_model_alone_is_told_and_many_are_counted(trials: Path) -> None:
    (trials / "confirm1" / "checkpoint.pt").write_bytes(with_trailer(b"model")[:-1] + b"x")
    found = verify(EIGHT, trials, 1)
    assert found.damaged == {}
    (word,) = found.words
    assert word.startswith("hem confirm seed 101: checkpoint.pt does not hold what was written")
    assert "delete trials/confirm1 and run this command again" in word
    for number in range(7):
        (trials / f"confirm{number}" / "checkpoint.pt").unlink()
    words = verify(EIGHT, trials, 1).words
    assert len(words) == 6
    assert words[-1].startswith("... and 2 more")


def test_trials_that_are_not_complete_or_only_searched_are_not_asked_for_files(tmp_path: Path) -> None:
    others = record(trial(0, "search"), trial(1, state="failed"), trial(2, state="running"))
    found = verify(others, tmp_path, 1)
    assert (found.damaged, found.words) == ({}, ())


def test_a_study_keeps_its_identity_when_its_ledger_is_lost(tmp_path: Path) -> None:
    first = identify(tmp_path, None)
    assert len(first) == 32
    assert identify(tmp_path, None) == first
    assert identify(tmp_path, first) == first


def test_what_the_ledger_says_is_believed_before_the_file(tmp_path: Path) -> None:
    first = identify(tmp_path, None)
    assert identify(tmp_path, "another") == "another"
    assert identify(tmp_path, None) == "another"
    path = tmp_path / "identity.json"
    path.write_text(path.read_text().replace("another", "bnother"))
    assert identify(tmp_path, "another") == "another"
    assert identify(tmp_path, None) == "another"
    path.write_text("{}")
    assert identify(tmp_path, None) not in (first, "another")


def test_a_study_that_lost_its_ledger_and_its_copy_is_still_one_that_has_begun(tmp_path: Path) -> None:
    spec = study()
    with claimed(spec, tmp_path, fresh=False):
        (tmp_path / "trials" / "key").mkdir(parents=True)
    changed = study(confirm=type(spec.confirm)((100, 101)))
    with (
        pytest.raises(Exception, match="belongs to this study as it was before"),
        claimed(changed, tmp_path, fresh=False),
    ):
        raise AssertionError("not reached")
