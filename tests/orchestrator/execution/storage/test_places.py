"""``--out`` with a URI: which folder stands for it, what is found there, and what users are told."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from orchestrator.arguments import make_parser
from orchestrator.cli import main
from orchestrator.commands import stored
from orchestrator.commands.stored import file_of, locate, settle
from orchestrator.errors import StudyMissing, Unavailable
from orchestrator.execution.folder import claimed
from orchestrator.execution.storage.cache import cache_root, working_copy
from orchestrator.execution.storage.mirror import Mirror
from orchestrator.execution.storage.store_mirror import StoreMirror
from orchestrator.objects import Objects
from tests.orchestrator.execution.storage.objects import FolderStore
from tests.orchestrator.simulation import study


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def parsed(*words: str) -> argparse.Namespace:
    return make_parser().parse_args(words)


def test_a_folder_is_itself_and_a_uri_is_a_store_and_its_copy(cache: Path) -> None:
    for words in (["study", "a.yaml"], ["status", "a"], ["logs", "a"], ["plan", "a.yaml"]):
        assert (parsed(*words).out, parsed(*words).store) == (Path("runs"), None)
        told = parsed(*words, "--out", "s3://bucket/runs/")
        assert (told.out, told.store) == (working_copy("s3://bucket/runs"), "s3://bucket/runs")
        assert told.out.is_relative_to(cache)
        again = parsed(*words, "--out", "s3://bucket/runs", "--out", "file:///a%20b")
        assert (again.out, again.store) == (Path("/a b"), None)


def test_a_login_in_a_uri_is_refused_without_showing_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "a", "--out", "s3://key:hush-hush@bucket/runs"]) == 2
    told = capsys.readouterr().err
    assert "must not hold a login" in told
    assert "hush" not in told


def test_every_store_and_endpoint_has_a_copy_of_its_own() -> None:
    env = {"ORCHESTRATE_CACHE": "/c"}
    here = {**env, "AWS_ENDPOINT_URL": "http://here"}
    places = {
        working_copy("s3://a/r", env),
        working_copy("s3://b/r", env),
        working_copy("s3://a/r", here),
        working_copy("s3://a/r", {**here, "AWS_ENDPOINT_URL_S3": "http://there"}),
    }
    assert len(places) == 4
    assert working_copy("gs://a/r", here) == working_copy("gs://a/r", env)


def test_the_cache_is_where_the_user_says_else_at_home_else_beside_temporary_files(tmp_path: Path) -> None:
    assert cache_root({"ORCHESTRATE_CACHE": "/c", "HOME": "/h"}) == Path("/c")
    assert cache_root({"HOME": str(tmp_path)}) == tmp_path / ".cache" / "orchestrate"
    assert cache_root({"XDG_CACHE_HOME": str(tmp_path / "x"), "HOME": "/h"}) == tmp_path / "x" / "orchestrate"
    (tmp_path / "file").touch()
    assert "orchestrate-" in cache_root({"HOME": str(tmp_path / "file")}).name
    assert "orchestrate-" in cache_root({}).name


def test_a_study_may_be_named_by_its_place() -> None:
    told = parsed("status", "s3://bucket/runs/small/")
    settle(told)
    assert (told.study, told.store, told.out) == (
        "small",
        "s3://bucket/runs",
        working_copy("s3://bucket/runs"),
    )
    for named in ("small", "runs/small", "s3://bucket/runs/small/study.yaml"):
        told = parsed("status", named)
        settle(told)
        assert (told.study, told.store) == (named, None)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FolderStore:
    store = FolderStore(tmp_path / "store")
    monkeypatch.setattr(stored, "mirror_of", lambda folder, uri: StoreMirror(store, folder))
    return store


def test_a_study_that_is_not_there_is_missed_by_its_place_with_what_is_there(
    store: FolderStore, tmp_path: Path
) -> None:
    store.put("small/study.yaml", b"x")
    store.put("data/digits/facts.json", b"x")
    with pytest.raises(StudyMissing) as missed:
        locate("smal", tmp_path / "copy", store.uri)
    said = str(missed.value)
    assert said == f"{store.place}/smal: no study has run there. Did you mean 'small'?"


def test_a_studys_file_may_lie_on_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_of("a/b.yaml") == Path("a/b.yaml")
    assert file_of((tmp_path / "b.yaml").as_uri()) == tmp_path / "b.yaml"
    store = FolderStore(tmp_path / "store")
    store.put("small/study.yaml", b"study: small\n")
    monkeypatch.setattr("orchestrator.objects.folder_of", lambda named: None)
    assert file_of(f"{store.uri}/small/study.yaml").read_text() == "study: small\n"
    with pytest.raises(Unavailable, match=r"other\.yaml: cannot be read"):
        file_of(f"{store.uri}/small/other.yaml")


def test_fresh_puts_the_older_study_aside_on_the_store_and_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, folder = Objects((tmp_path / "store").as_uri()), tmp_path / "copy" / "simulated"
    old, new = study(), study(baseline="logitnorm")
    with claimed(old, folder, fresh=False, mirror=StoreMirror(store, folder)):
        store.put("simulated/study.yaml", (folder / "study.yaml").read_bytes())
        store.put("simulated/trials/key/result.json", b"{}")
    with claimed(new, folder, fresh=True, mirror=StoreMirror(store, folder)):
        assert "baseline: logitnorm" in (folder / "study.yaml").read_text()
    aside = capsys.readouterr().out.strip().removeprefix(f"the earlier study is kept in {store.place}/")
    assert set(store.listed(aside)) == {"study.yaml", "trials/key/result.json"}
    assert not store.listed("simulated")


def test_a_local_study_is_claimed_as_ever(tmp_path: Path) -> None:
    with claimed(study(), tmp_path / "s", fresh=False):
        assert sorted(f.name for f in (tmp_path / "s").iterdir()) == [
            "driver.lock",
            "driver.txt",
            "study.yaml",
        ]
    assert Mirror(tmp_path / "s").studies() == ["s"]
