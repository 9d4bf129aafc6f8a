"""What ``--to`` means, and where a study's files go."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import Unavailable, UserError
from orchestrator.submission.choice import chosen_profile, home_of, placed, storage_here
from orchestrator.submission.profile import Kind, Profile

REMOTE = Profile(
    "lab", "ray", storage="/shared/runs", address="http://head.example:8265", data="/shared/data"
)


@pytest.fixture
def clusters(tmp_path: Path) -> Path:
    folder = tmp_path / "clusters"
    folder.mkdir()
    (folder / "lab.yaml").write_text("cluster: lab\nkind: ray\nstorage: /shared/runs\n")
    (folder / "local.yaml").write_text("cluster: mine\nkind: local\nstorage: /big/runs\n")
    return folder


def test_a_path_and_a_name_mean_a_file(clusters: Path) -> None:
    named = chosen_profile("lab", clusters, {})
    assert named == chosen_profile(str(clusters / "lab.yaml"), Path("elsewhere"), {})
    assert named.storage == "/shared/runs"


def test_a_file_goes_before_the_kind_of_the_same_name(clusters: Path, tmp_path: Path) -> None:
    assert chosen_profile("local", clusters, {}).storage == "/big/runs"
    assert chosen_profile("local", tmp_path / "none", {}) == Profile("local", "local")


def test_ray_alone_means_the_job_server_that_is_told_or_the_usual_one(tmp_path: Path) -> None:
    def address(environment: dict[str, str]) -> str | None:
        return chosen_profile("ray", tmp_path, environment).address

    assert address({}) == "http://127.0.0.1:8265"
    assert address({"RAY_ADDRESS": "http://10.0.0.1:8265/"}) == "http://10.0.0.1:8265"
    assert address({"RAY_ADDRESS": "10.0.0.1:6379"}) == "http://127.0.0.1:8265", "not a job server"


def test_what_is_not_there_is_refused_with_what_may_be_meant(clusters: Path) -> None:
    with pytest.raises(UserError, match=r"no profile 'lap' in .*Did you mean 'lab'"):
        chosen_profile("lap", clusters, {})
    with pytest.raises(UserError, match=r"A slurm cluster needs a profile: write .*slurm\.yaml"):
        chosen_profile("slurm", clusters, {})


def test_the_command_line_goes_before_the_profile() -> None:
    profile = placed(Profile("l", "local", storage="/a", mounted=None, data="/d"), None, None)
    assert (profile.storage, profile.data) == ("/a", "/d")
    profile = placed(Profile("l", "slurm", storage="/a", mounted="/m", data="/d"), "/b", "/e")
    assert (profile.storage, profile.mounted, profile.data) == ("/b", None, "/e")


def test_on_this_machine_folders_have_defaults_and_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ORCHESTRATE_DATA", raising=False)
    profile = placed(Profile("local", "local"), None, None)
    assert (profile.storage, profile.data) == (str(tmp_path / "runs"), str(tmp_path / "data"))
    monkeypatch.setenv("ORCHESTRATE_DATA", "/sets")
    assert placed(Profile("ray", "ray"), "out", None).data == "/sets"


def test_elsewhere_nothing_is_guessed() -> None:
    with pytest.raises(UserError, match="storage is not known"):
        placed(Profile("lab", "ray", address="http://head.example:8265"), None, None)
    assert placed(Profile("lab", "slurm", storage="/shared"), None, None).data is None


def test_a_storage_that_this_machine_does_not_see_is_refused(tmp_path: Path) -> None:
    unseen = Profile("lab", "slurm", storage=str(tmp_path / "unseen"))
    with pytest.raises(Unavailable, match=r"does not see the folder .*/unseen; nothing was submitted"):
        storage_here(unseen, make=True)
    assert not (tmp_path / "unseen").exists()
    seen = Profile("lab", "slurm", storage="/shared/runs", mounted=str(tmp_path))
    assert storage_here(seen, make=True).folder == tmp_path


@pytest.mark.parametrize("kind", ["local", "ray", "kuberay"])
def test_an_object_store_is_a_storage(kind: Kind) -> None:
    found = storage_here(Profile("lab", kind, storage="s3://bucket/runs"), make=True)
    assert (found.place, found.folder) == ("s3://bucket/runs", None)


def test_slurm_is_refused_an_object_store_in_plain_words() -> None:
    with pytest.raises(UserError, match=r"s3://bucket/runs is no folder, and Slurm writes a job's log"):
        storage_here(Profile("lab", "slurm", storage="s3://bucket/runs"), make=False)


def test_settings_of_a_store_belong_to_the_nodes_and_not_into_a_submission() -> None:
    stored = "s3://bucket/runs?endpoint_override=http://127.0.0.1:9000"
    with pytest.raises(UserError, match=r"must hold no \? for a submission, whose nodes read it too"):
        storage_here(Profile("lab", "ray", storage=stored), make=False)


def test_a_login_in_a_store_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match=r"storage: s3://\*\*\*@bucket: must not hold a login"):
        storage_here(Profile("lab", "ray", storage="s3://me:secret@bucket"), make=False)


def test_a_job_of_this_machine_has_a_folder_for_its_log_wherever_the_study_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_of(Profile("x", "local", storage="s3://bucket/runs")) == tmp_path / "runs"
    assert home_of(Profile("x", "ray", storage="s3://bucket/runs")) is None
    assert home_of(Profile("x", "ray", storage="/shared")) == Path("/shared")


def test_a_folder_of_this_machine_is_made_only_when_asked(tmp_path: Path) -> None:
    profile = Profile("local", "local", storage=str(tmp_path / "new"))
    storage_here(profile, make=False)
    assert not (tmp_path / "new").exists()
    storage_here(profile, make=True)
    assert (tmp_path / "new").is_dir()
