"""The buffered journal holds for Optuna what it was given, whether in memory or already in the file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from orchestrator.campaign.journal import BufferedJournal


def operations(first: int, last: int) -> list[dict[str, Any]]:
    return [{"op_code": 8, "number": n} for n in range(first, last)]


@pytest.mark.parametrize("start", [0, 2, 4, 5, 7, 9])
@pytest.mark.parametrize("flushed_at", [0, 4, 9])
def test_every_operation_is_read_back_from_wherever_one_asks(
    start: int, flushed_at: int, tmp_path: Path
) -> None:
    journal = BufferedJournal(tmp_path / "optuna.journal")
    journal.append_logs(operations(0, flushed_at))
    list(journal.read_logs(0))
    journal.flush()
    journal.append_logs(operations(flushed_at, 9))
    assert list(journal.read_logs(start)) == operations(start, 9)


def test_the_file_has_every_operation_once_after_many_flushes(tmp_path: Path) -> None:
    journal = BufferedJournal(tmp_path / "optuna.journal")
    for n in range(6):
        journal.append_logs(operations(3 * n, 3 * n + 3))
        list(journal.read_logs(3 * n))
        journal.flush()
        journal.flush()
    assert list(JournalFileBackend(str(tmp_path / "optuna.journal")).read_logs(0)) == operations(0, 18)


def test_what_nobody_has_read_yet_is_kept_through_a_flush(tmp_path: Path) -> None:
    journal = BufferedJournal(tmp_path / "optuna.journal")
    journal.append_logs(operations(0, 3))
    journal.flush()
    (tmp_path / "optuna.journal").unlink()
    assert list(journal.read_logs(0)) == operations(0, 3)


def test_operations_that_are_in_the_file_take_no_memory(tmp_path: Path) -> None:
    journal = BufferedJournal(tmp_path / "optuna.journal")
    kept = operations(0, 1)
    journal.append_logs(kept)
    list(journal.read_logs(0))
    before = sys.getrefcount(kept[0])
    journal.flush()
    after = sys.getrefcount(kept[0])
    assert after == before - 1


def test_a_journal_of_an_earlier_run_is_replaced_by_the_first_flush_only(tmp_path: Path) -> None:
    path = tmp_path / "optuna.journal"
    JournalFileBackend(str(path)).append_logs(operations(90, 95))
    journal = BufferedJournal(path)
    journal.append_logs(operations(0, 2))
    assert list(JournalFileBackend(str(path)).read_logs(0)) == operations(90, 95)
    journal.flush()
    assert list(JournalFileBackend(str(path)).read_logs(0)) == operations(0, 2)


def test_a_later_flush_forgets_only_what_has_been_read(tmp_path: Path) -> None:
    journal = BufferedJournal(tmp_path / "optuna.journal")
    journal.append_logs(operations(0, 3))
    list(journal.read_logs(0))
    journal.flush()
    journal.append_logs(operations(3, 9))
    journal.flush()
    assert list(journal.read_logs(3)) == operations(3, 9)
    assert list(journal.read_logs(1)) == operations(1, 9)
