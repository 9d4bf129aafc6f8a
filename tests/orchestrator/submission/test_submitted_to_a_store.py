"""A real study on an object store: submitted to this machine, then to a cluster that shares nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.faults.comparison import differences, read_ended, trained_again
from orchestrator.execution.storage.cache import working_copy
from orchestrator.objects import Objects
from tests.orchestrator.execution.driver import study_file, undisturbed_run
from tests.orchestrator.execution.store import BUCKET, Store
from tests.orchestrator.submission.ray_head import RayHead, missing
from tests.orchestrator.submission.test_submitted_study import User

pytest.importorskip("moto", reason="needs moto's S3 server (pip install moto[s3])")
pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(400)]

PLACE = f"s3://{BUCKET}/submitted"


def user_of(store: Store, folder: Path) -> User:
    """Somebody on a machine with a cache of its own."""
    variables = {**store.variables, "ORCHESTRATE_CACHE": str(folder / "cache")}
    return User(folder, working_copy(PLACE, {**os.environ, **variables}), variables, PLACE)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_file(tmp_path_factory)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    store = Store()
    for name, value in store.variables.items():
        monkeypatch.setenv(name, value)
    store.make_bucket()
    yield store
    store.close()


@pytest.fixture
def user(store: Store, tmp_path: Path) -> User:
    return user_of(store, tmp_path)


def test_a_study_moves_from_the_background_to_a_cluster_that_shares_nothing_but_the_store(
    user: User,
    study: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if missing():
        pytest.skip(f"needs the extra cluster (ray[default]): no {', '.join(missing())}")
    undisturbed = read_ended(undisturbed_run(tmp_path_factory, study), "small")
    said = user.types("submit", study, "--to", "local")
    assert f"Folder   {PLACE}/submissions/small-" in said
    user.waits_for(lambda: sum(e["event"] == "reported" for e in user.events()) > 12)
    assert ": running" in user.types("status", "last").splitlines()[0]
    again = user.types("submit", study, "--to", "local", status=2)
    assert "a driver works on this study already; nothing was submitted" in again
    assert ": stopped" in user.types("cancel", "last")
    assert "everything finished is kept" in user.types("logs", "last")
    shutil.rmtree(tmp_path / "cache")

    # The nodes have their own cache, and the credentials from where they start.
    with monkeypatch.context() as patch:
        for name, value in user.environment.items():
            patch.setenv(name, value)
        patch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "of the nodes"))
        patch.delenv("RAY_ADDRESS", raising=False)
        head = RayHead()
    try:
        (tmp_path / "clusters").mkdir()
        (tmp_path / "clusters" / "lab.yaml").write_text(
            f"cluster: lab\nkind: ray\naddress: {head.address}\nstorage: {PLACE}\n"
        )
        user.environment |= head.environment
        user.types("submit", study, "--to", "lab")
        assert "Test results" in user.types("logs", "last", "--follow")
        said = user.types("status", "last")
    finally:
        head.close()
    assert ": done" in said.splitlines()[0]
    assert "Study small: done" in said
    user.types("report", "small")
    names = Objects(PLACE).listed("submissions")
    assert sum(name.endswith("study.yaml") for name in names) == 2

    # MLflow's records are where the driver was: the same command brings them here.
    user.types("study", study)
    found = read_ended(user.out, "small")
    assert differences(found, undisturbed) == []
    assert trained_again(found.events) == 0
    opened = [e["cluster"] for e in found.events if e["event"] == "opened"]
    assert opened == ["local", f"127.0.0.1:{head.port}", "none: everything was done already"]
