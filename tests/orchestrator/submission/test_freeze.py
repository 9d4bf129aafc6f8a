"""What a submission fixes, and what is known of the data."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest

from orchestrator.campaign.ledger import Ledger
from orchestrator.study.loader import load_study, parse_study
from orchestrator.study.spec import StudySpec
from orchestrator.submission import data_facts as facts_module
from orchestrator.submission import freeze
from orchestrator.submission.code import Code
from orchestrator.submission.data_facts import data_facts
from orchestrator.submission.freeze import Frozen, frozen, handed_over, write
from orchestrator.submission.profile import Kind, Profile
from orchestrator.submission.record import read_record
from orchestrator.submission.storage import Storage
from tests.orchestrator.execution.driver import STUDY

DIRTY = Code("c" * 40, "diff --git a/x b/x\n")


@pytest.fixture
def spec() -> StudySpec:
    return parse_study(STUDY, "small.yaml")


def made(spec: StudySpec, folder: Path, monkeypatch: pytest.MonkeyPatch, code: Code = DIRTY) -> Frozen:
    monkeypatch.setattr(freeze, "code_state", lambda: code)
    profile = Profile("local", "local", storage=str(folder), data="/sets")
    return frozen(spec, STUDY, profile, Storage(str(folder)), 1_767_323_045.0, ["--to", "local"])


def test_the_command_is_the_idempotent_study_on_the_frozen_file(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = made(spec, tmp_path, monkeypatch).job
    study = tmp_path / "submissions" / job.id / "study.yaml"
    assert job.folder == study.parent
    assert job.command == (
        *("orchestrate", "study", str(study), "--out", str(tmp_path)),
        *("--data", "/sets", "--plain"),
    )
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(1_767_323_045.0))
    assert job.id.startswith(f"small-{stamp}-")
    no_data = frozen(spec, STUDY, Profile("x", "local", storage="/s"), Storage("/s"), 0.0)
    assert "--data" not in no_data.job.command


def test_the_cluster_reads_its_own_path_of_the_storage(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "code_state", lambda: DIRTY)
    profile = Profile("x", "local", storage="/shared/runs", mounted=str(tmp_path))
    sent = frozen(spec, STUDY, profile, Storage(str(tmp_path)), 0.0)
    write(sent, Storage(str(tmp_path)))
    assert sent.job.command[2] == f"/shared/runs/submissions/{sent.job.id}/study.yaml"
    assert (tmp_path / "submissions" / sent.job.id / "study.yaml").exists()


def test_a_file_uri_is_given_to_the_study_as_a_path(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freeze, "code_state", lambda: DIRTY)
    profile = Profile("x", "local", storage=f"file://{tmp_path}")
    command = frozen(spec, STUDY, profile, Storage(f"file://{tmp_path}"), 0.0).job.command
    assert command[3:5] == ("--out", str(tmp_path))


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_on_an_object_store_the_study_is_read_there_and_a_local_job_has_a_folder_for_its_log(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind
) -> None:
    monkeypatch.setattr(freeze, "code_state", lambda: DIRTY)
    monkeypatch.chdir(tmp_path)
    storage = Storage("s3://bucket/runs")
    sent = frozen(spec, STUDY, Profile("x", kind, storage="s3://bucket/runs"), storage, 0.0)
    place = f"s3://bucket/runs/submissions/{sent.job.id}"
    assert sent.job.command[2:5] == (f"{place}/study.yaml", "--out", "s3://bucket/runs")
    folder = tmp_path / "runs" / "submissions" / sent.job.id
    assert sent.job.folder == (folder if kind == "local" else None)
    with handed_over(sent, storage) as files:
        assert {name: path.read_text() for name, path in files.items()} == sent.rendered
        assert all((path.parent == folder) == (kind == "local") for path in files.values())
    assert [path.exists() for path in files.values()] == [kind == "local"] * len(files)


def test_everything_is_written_and_stands_in_the_record_with_its_checksum(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = made(spec, tmp_path, monkeypatch)
    storage = Storage(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    submission = write(sent, storage)
    folder = tmp_path / "submissions" / sent.job.id
    names = {"study.yaml", "study.given.yaml", "versions.txt", "changes.patch", "job.sh"}
    assert {f.name for f in folder.iterdir()} == {*names, "submission.json"}
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    assert found == submission.files == json.loads((folder / "submission.json").read_text())["files"]
    assert (folder / "study.given.yaml").read_text() == STUDY
    assert (folder / "changes.patch").read_text() == DIRTY.patch
    assert "torch==" in (folder / "versions.txt").read_text()
    assert load_study(folder / "study.yaml") == spec
    read = read_record(storage, sent.job.id)
    assert read == submission
    assert read.native is None
    assert read.job.facts["commit"] == "c" * 40
    assert read.job.facts["dirty"] is True
    assert read.job.facts["options"] == ["--to", "local"]


def test_a_folder_that_the_study_names_from_here_is_the_same_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    spec = parse_study(STUDY.replace("far_ood: [uniform, blobs]", "far_ood: [uniform, ./photos]"), "s.yaml")
    sent = made(spec, tmp_path / "runs", monkeypatch)
    monkeypatch.chdir("/")
    assert parse_study(sent.kept["study.yaml"], "s.yaml").data.far_ood[1] == str(tmp_path / "photos")


def test_clean_code_has_no_patch(spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = made(spec, tmp_path, monkeypatch, Code("c" * 40, ""))
    assert "changes.patch" not in sent.kept
    assert (sent.job.facts["dirty"], sent.job.facts["patch"]) == (False, "")


# -- data ---------------------------------------------------------------------------------------------------


def test_a_study_that_has_run_knows_its_data(spec: StudySpec, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append({"event": "opened", "t": 1.0, "data": {"hash": "abc"}})
    ledger.close()
    assert data_facts(spec, tmp_path, None) == {"hash": "abc"}


def images(folder: Path, colour: int) -> None:
    from PIL import Image

    for part in ("train", "test"):
        for label in ("a", "b"):
            (folder / part / label).mkdir(parents=True)
            Image.new("RGB", (8, 8), (colour, 0, 0)).save(folder / part / label / "1.png")


def test_raw_files_that_lie_here_have_a_hash_which_follows_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def hashes(colour: int, name: str) -> dict[str, str]:
        images(tmp_path / name, colour)
        text = STUDY.replace("source: digits", f"source: {tmp_path / name}")
        text = text.replace(
            "  id_classes: [0, 1, 2, 3, 4, 5]\n  near_ood: [held_out]\n", "  near_ood: [blobs]\n"
        )
        spec = parse_study(text.replace("far_ood: [uniform, blobs]", "far_ood: [uniform]"), "s.yaml")
        found = data_facts(spec, None, None)["raw_files"]
        return {each.rpartition(" ")[2]: hashed for each, hashed in found.items()}

    one, same, other = hashes(10, "one"), hashes(10, "same"), hashes(20, "other")
    assert set(one) == {"train", "test"}
    assert one == same
    assert one["train"] != other["train"]
    assert one["test"] != other["test"]
    assert sorted(f.name for f in tmp_path.iterdir()) == ["one", "other", "same"], "nothing was written"


def test_data_that_are_not_here_are_left_to_the_first_run(spec: StudySpec, tmp_path: Path) -> None:
    assert "no raw files" in data_facts(spec, None, None)["unknown"]
    text = STUDY.replace("far_ood: [uniform, blobs]", "far_ood: [svhn]")
    found = data_facts(parse_study(text, "s.yaml"), tmp_path, tmp_path)
    assert found == {"unknown": "not known here: the study's first run records it"}


def test_raw_files_beyond_all_patience_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path / "svhn", 1)
    monkeypatch.setattr(facts_module, "_MOST_BYTES", 10)
    spec = parse_study(STUDY.replace("far_ood: [uniform, blobs]", "far_ood: [svhn]"), "s.yaml")
    assert "of raw files" in data_facts(spec, None, tmp_path)["unknown"]


def test_no_secret_of_this_machine_is_kept_with_a_submission(
    spec: StudySpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_API_KEY", "key-0a1b2c3d")
    code = Code("c" * 40, "+token = 'key-0a1b2c3d'\n")
    monkeypatch.setattr(freeze, "code_state", lambda: code)
    given = f"{STUDY}# key-0a1b2c3d\n"
    options = ["--out", "s3://me:key-0a1b2c3d@bucket/runs"]
    profile = Profile("local", "local", storage=str(tmp_path))
    submission = write(
        frozen(spec, given, profile, Storage(str(tmp_path)), 0.0, options), Storage(str(tmp_path))
    )
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    assert {"changes.patch", "study.given.yaml", "submission.json"} <= {f.name for f in files}
    assert [f.name for f in files if b"key-0a1b2c3d" in f.read_bytes()] == []
    assert submission.job.facts["options"] == ["--out", "s3://***@bucket/runs"]
