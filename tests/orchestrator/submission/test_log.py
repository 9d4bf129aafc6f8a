"""A log is read to its last word, and no secret in it is shown."""

from __future__ import annotations

import io

import pytest

from orchestrator.submission.log import pieces


class Growing(io.StringIO):
    """A file that another process still writes: each look finds the next part, or nothing yet."""

    def __init__(self, *parts: str) -> None:
        super().__init__()
        self._parts = list(parts)

    def read(self, size: int | None = -1, /) -> str:
        return self._parts.pop(0) if self._parts else ""


def test_what_is_there_is_read_once_without_asking_the_job() -> None:
    def over() -> bool:
        raise AssertionError("nobody wants to wait")

    assert "".join(pieces(Growing("one\ntwo", "\nthree"), follow=False, over=over, poll_seconds=9)) == (
        "one\ntwo\nthree"
    )


def test_what_is_written_between_the_last_look_and_the_end_is_not_lost() -> None:
    answers = [False, True]
    file = Growing("one\n", "", "two\n", "", "the end")
    found = "".join(pieces(file, follow=True, over=lambda: answers.pop(0), poll_seconds=0.0))
    assert found == "one\ntwo\nthe end"
    assert answers == []


def test_a_secret_is_hidden_also_where_it_comes_in_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_API_KEY", "key-0a1b2c3d")
    file = Growing("opens with key-0a", "1b2c3d\nand key-0a1b2c3d")
    found = list(pieces(file, follow=False, over=lambda: True, poll_seconds=0.0))
    assert found == ["opens with ***\n", "and ***"]
