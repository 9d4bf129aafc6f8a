"""A study runs into a full disk, really: it stops with a word, and goes on where space was made."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.campaign.ledger import read_events
from orchestrator.campaign.record import StudyRecord
from tests.orchestrator.execution.driver import STUDY, Driver, study_file, undisturbed_run

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(900)]

TEXT = STUDY[: STUDY.index("arms:")] + (
    "arms: {cross_entropy: {lr: 0.1}, logitnorm: {lr: 0.1}}\nconfirm: {seeds: [100, 101]}\n"
)
TABLES = ("table.csv", "comparison.csv", "per_set.csv")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory, TEXT)


@pytest.fixture(scope="module")
def undisturbed(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return undisturbed_run(tmp_path_factory, study, 400)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place],
        capture_output=True,
        text=True,
        check=False,
    )
    if mount.returncode != 0:
        pytest.skip(f"mounting a small file system is not permitted here: {mount.stderr.strip()}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


def fill(disk: Path, leave: int) -> Path:
    """A file that takes all space but ``leave`` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(b"\0" * 4096) == 4096:
                pass
        file.truncate(file.tell() - leave)
    return filler


def test_a_full_disk_stops_the_study_with_a_word_and_space_lets_it_go_on(
    study: Path, disk: Path, undisturbed: Path
) -> None:
    out = disk / "out"
    ended: dict[str, int] = {}
    # Not a byte is left; then some room, for a ledger's lines but for no checkpoint.
    for count, leave in ((1, 0), (2, 65536)):
        fill_while_running(study, disk, count, leave)
        stopped = StudyRecord.fold(read_events(out / "small" / "ledger.jsonl"))
        assert not any(t.failures for t in stopped.trials.values())
        drafts = [f for f in (out / "small" / "trials").rglob(".*") if f.is_file()]
        assert drafts == [], "half-written files were left behind"
        ended |= {key: t.attempts for key, t in stopped.trials.items() if t.state == "complete"}
        assert len(ended) >= count

    again = Driver(study, out)
    try:
        status, output = again.finish(400)
    finally:
        again.close()
    assert status == 0, output
    for name in TABLES:
        report = Path("small") / "report" / name
        assert (out / report).read_text() == (undisturbed / report).read_text()
    record = StudyRecord.fold(read_events(out / "small" / "ledger.jsonl"))
    assert {t.state for t in record.trials.values()} == {"complete"}
    assert {key: record.trials[key].attempts for key in ended} == ended


def fill_while_running(study: Path, disk: Path, finished: int, leave: int) -> None:
    """Run the study, fill its disk after so many trials have ended, make room when it has stopped."""
    driver = Driver(study, disk / "out", "--max-concurrent", "1")
    try:
        driver.wait_for(lambda events: sum(e["event"] == "finished" for e in events) >= finished, seconds=300)
        filler = fill(disk, leave)
        status, output = driver.finish(400)
        assert not list(driver.processes()), "processes were left behind"
    finally:
        driver.close()
    assert status == 1, output
    assert f"could not be written: the disk is full (file system at {disk}, " in output
    assert "bytes free); free some space there" in output
    assert "run the same command again: orchestrate study" in output
    assert "Traceback" not in output
    filler.unlink()
