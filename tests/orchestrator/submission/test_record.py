"""The record of a submission: whole or refused, and found by little."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from orchestrator.errors import StudyMissing, UserError
from orchestrator.submission import record
from orchestrator.submission.profile import Profile
from orchestrator.submission.record import Submission, find, new_id, read_record, require, write_record
from orchestrator.submission.storage import Storage
from tests.orchestrator.submission.cases import NASTY, job

PROFILE = Profile(
    "big", "slurm", storage="/s", setup=("a", "b"), forward=("X",), environment={"A": NASTY}, time="01:00:00"
)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def submitted(storage: Storage, name: str, at: float = 1.0) -> str:
    made = dataclasses.replace(job(Path("/f"), ("a",)), id=name)
    write_record(storage, Submission(made, {}, at))
    return name


def test_a_record_reads_back_as_it_was(storage: Storage) -> None:
    made = job(Path("/s/submissions/x"), ("orchestrate", NASTY), PROFILE)
    submission = Submission(made, {"job.sh": "ab" * 32}, 1.5, native="17", trouble="ünlucky")
    write_record(storage, submission)
    assert read_record(storage, made.id) == submission


def test_a_record_that_was_changed_is_refused_wherever_it_was(storage: Storage) -> None:
    made = job(Path("/f"), ("orchestrate", "study"), PROFILE)
    write_record(storage, Submission(made, {"a": "b"}, 1.5, native="17"))
    text = storage.read(made.id, "submission.json")
    places = [m.start() for m in re.finditer(r"[a-z0-9](?=[^\n]*\n)", text)]
    assert len(places) > 100
    for place in places[::7]:
        changed = "b" if text[place] != "b" else "c"
        storage.write(made.id, "submission.json", text[:place] + changed + text[place + 1 :])
        with pytest.raises(UserError, match="is damaged"):
            read_record(storage, made.id)


def test_a_record_that_was_cut_off_is_refused(storage: Storage) -> None:
    made = job(Path("/f"), ("a",))
    write_record(storage, Submission(made, {}, 1.5))
    text = storage.read(made.id, "submission.json")
    for cut in ("", text[:40], "[]", "{}"):
        storage.write(made.id, "submission.json", cut)
        with pytest.raises(UserError, match="is damaged"):
            read_record(storage, made.id)


def test_an_id_says_which_study_and_when_and_none_is_given_twice() -> None:
    made = {new_id("my-study", 0.0) for _ in range(50)}
    assert len(made) > 45, "four hexadecimal digits"
    assert all(re.fullmatch(r"my-study-(19700101|19691231)-\d{6}-[0-9a-f]{4}", each) for each in made)


def test_a_submission_is_found_by_its_id_a_beginning_or_last(storage: Storage) -> None:
    old = submitted(storage, "b-20260102-030405-aaaa")
    new = submitted(storage, "a-20260102-030406-bbbb")
    assert find(storage, old) == old
    assert find(storage, "a") == new
    assert find(storage, "b-2026") == old
    assert find(storage, "last") == new, "the time counts, not the alphabet"
    assert find(storage, "c") is None


def test_of_two_in_one_second_the_record_tells_which_is_last(storage: Storage) -> None:
    late = submitted(storage, "a-20260102-030405-aaaa", at=2.5)
    submitted(storage, "a-20260102-030405-bbbb", at=2.25)
    assert find(storage, "last") == late


def test_a_beginning_that_fits_several_is_refused_but_a_whole_id_is_not(storage: Storage) -> None:
    short = submitted(storage, "a-20260102-030405-aaaa")
    submitted(storage, "a-20260102-030405-aaaa2")
    with pytest.raises(UserError, match="'a-2026' fits several submissions"):
        find(storage, "a-2026")
    assert find(storage, short) == short


def test_what_was_never_submitted_is_refused_with_a_hint(storage: Storage) -> None:
    with pytest.raises(StudyMissing, match="Nothing was submitted there"):
        require(storage, "last")
    submitted(storage, "small-20260102-030405-aaaa")
    with pytest.raises(StudyMissing, match="Did you mean 'small-20260102-030405-aaaa'"):
        require(storage, "smal-20260102-030405-aaaa")


def test_checksums_are_those_of_sha256sum() -> None:
    # printf abc | sha256sum
    assert record.digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
