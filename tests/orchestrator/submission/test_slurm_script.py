"""Slurm's batch script, read by a real shell; ``scontrol`` is a stub."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.orchestrator.submission.batch import SAY, Batch, said
from tests.orchestrator.submission.cases import NASTY


@pytest.fixture
def batch(tmp_path: Path) -> Iterator[Batch]:
    made = Batch(tmp_path)
    made.stubs.add("scontrol", "exit 0")
    yield made
    made.close()


def test_every_word_reaches_the_command_as_it_is(batch: Batch) -> None:
    setup = ('export SET="$WORD;$WORD"', "set -eu")
    batch.start((sys.executable, "-c", SAY, NASTY), {"environment": {"WORD": NASTY}, "setup": setup})
    code, printed = batch.end()
    assert code == 0, printed
    assert said(printed) == ([NASTY], {"WORD": NASTY, "SET": f"{NASTY};{NASTY}"})
    assert batch.stubs.calls == [], "one node needs nothing of Slurm, and no other's cluster"
    assert sorted(f.name for f in batch.folder.iterdir()) == ["exit-status", "job.sh"]


@pytest.mark.parametrize("code", [0, 1, 2, 130])
def test_the_jobs_exit_status_is_the_studys(code: int, batch: Batch) -> None:
    batch.start(("sh", "-c", f"exit {code}"), {"setup": ("set -e",)})
    assert batch.end()[0] == code
    assert batch.exit_status == str(code)


def test_a_stop_reaches_the_study_and_the_job_ends_with_it(batch: Batch) -> None:
    batch.study(progress=True)
    batch.tell(signal.SIGTERM)
    assert batch.end() == (130, "stopping\n")
    assert batch.exit_status == "130"
    assert batch.stubs.calls == [], "who cancels a job does not want it again"


def test_when_the_time_is_nearly_up_the_study_stops_and_the_job_is_requeued(batch: Batch) -> None:
    batch.study(progress=True)
    (batch.folder / "exit-status").write_text("an earlier one's")
    batch.tell(signal.SIGUSR1)
    code, printed = batch.end()
    assert printed.splitlines()[0] == "stopping"
    assert "the job goes to the queue again" in printed
    assert batch.stubs.calls == [["scontrol", "requeue", "77"]]
    assert code == 130


def test_a_job_whose_time_is_too_short_for_any_progress_is_not_requeued(batch: Batch) -> None:
    batch.study()
    batch.tell(signal.SIGUSR1)
    code, printed = batch.end()
    assert (code, batch.exit_status, batch.stubs.calls) == (130, "130", [])
    assert "too short for a single epoch: not requeued" in printed


@pytest.mark.parametrize("code", [0, 1])
def test_a_study_that_ends_by_itself_as_its_time_runs_out_is_not_requeued(code: int, batch: Batch) -> None:
    batch.study(code, progress=True)
    batch.tell(signal.SIGUSR1)
    assert batch.end() == (code, "stopping\n")
    assert (batch.exit_status, batch.stubs.calls) == (str(code), [])


def test_where_slurm_does_not_requeue_the_job_it_ends_with_a_word(batch: Batch) -> None:
    batch.stubs.add("scontrol", "exit 1")
    batch.study(progress=True)
    batch.tell(signal.SIGUSR1)
    code, printed = batch.end()
    assert "Slurm did not requeue the job: submit the study again" in printed
    assert (code, batch.exit_status) == (130, "130")


def test_an_old_exit_status_does_not_outlive_the_next_start(batch: Batch) -> None:
    batch.folder.mkdir(parents=True)
    (batch.folder / "exit-status").write_text("130\n")
    batch.study()
    assert batch.exit_status is None
