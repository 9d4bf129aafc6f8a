"""RayJobs through ``kubectl``, which is a stub."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from orchestrator.errors import Unavailable
from orchestrator.submission import kuberay
from orchestrator.submission.job import Job, Status
from orchestrator.submission.profile import Profile
from tests.orchestrator.submission.rayjobs import FULL, NAME, SMALL, made
from tests.orchestrator.submission.stubs import Stubs


@pytest.fixture
def stubs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    found = Stubs(tmp_path)
    monkeypatch.setenv("PATH", str(found.folder))
    (found.folder / "cat").symlink_to("/bin/cat")
    return found


def written(profile: Profile, folder: Path) -> tuple[Job, dict[str, Path]]:
    this = made(profile)
    (folder / "rayjob.json").write_text(kuberay.render(this)["rayjob.json"])
    return this, {"rayjob.json": folder / "rayjob.json"}


def test_a_rayjob_is_created(stubs: Stubs, tmp_path: Path) -> None:
    this, files = written(SMALL, tmp_path)
    with pytest.raises(Unavailable, match=r"kubectl is not on this machine\nBy hand: kubectl create -f /"):
        kuberay.submit(this, files)
    stubs.say("kubectl", "", status=1, error="noise\nerror: forbidden\n")
    with pytest.raises(Unavailable, match="kubectl refuses: error: forbidden"):
        kuberay.submit(this, files)
    stubs.say("kubectl", json.dumps({"metadata": {"name": NAME, "uid": "u-1"}}))
    assert kuberay.submit(this, files) == NAME
    assert stubs.called("kubectl")[-1] == ["create", "-f", str(files["rayjob.json"]), "-o", "json"]
    assert len(stubs.calls) == 2, "no secret without variables to forward"


def test_what_is_forwarded_goes_into_a_secret_that_goes_with_the_rayjob(
    stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this, files = written(FULL, tmp_path)
    monkeypatch.setenv("MY_KEY", "open sesame")
    monkeypatch.delenv("OTHER_KEY", raising=False)
    with pytest.raises(Unavailable, match="forward: OTHER_KEY not set here; nothing was submitted"):
        kuberay.submit(this, files)
    monkeypatch.setenv("OTHER_KEY", "ä\n")
    answer = json.dumps({"metadata": {"name": NAME, "uid": "u-1"}})
    stubs.add("kubectl", f"echo '{answer}'; cat > '{tmp_path}/in'")
    assert kuberay.submit(this, files) == NAME
    assert [call[:4] for call in stubs.called("kubectl")] == [
        ["--namespace=research", "create", "-f", str(files["rayjob.json"])],
        ["--namespace=research", "create", "-f", "-"],
    ]
    assert json.loads((tmp_path / "in").read_text()) == kuberay._secret(this, {"name": NAME, "uid": "u-1"})
    assert "sesame" not in str(stubs.calls), "no command line holds a secret"


def test_the_secret_holds_the_variables_and_belongs_to_the_rayjob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "open sesame")
    monkeypatch.setenv("OTHER_KEY", "ä\n")
    secret = kuberay._secret(made(FULL), {"name": NAME, "uid": "u-1"})
    data = secret.pop("data")
    assert {name: base64.b64decode(value).decode() for name, value in data.items()} == {
        "MY_KEY": "open sesame",
        "OTHER_KEY": "ä\n",
    }
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": NAME, "uid": "u-1"}
    assert secret == {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": NAME, "namespace": "research", "ownerReferences": [owner]},
        "type": "Opaque",
    }


def test_a_rayjob_whose_secret_is_refused_is_taken_back(
    stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    this, files = written(FULL, tmp_path)
    for name in FULL.forward:
        monkeypatch.setenv(name, "open sesame")
    answer = json.dumps({"metadata": {"name": NAME, "uid": "u-1"}})
    stubs.add("kubectl", f"case \"$*\" in *' -') echo no >&2; exit 1;; esac; echo '{answer}'")
    with pytest.raises(Unavailable, match="kubectl refuses the secret of the variables to forward: no"):
        kuberay.submit(this, files)
    assert stubs.called("kubectl")[-1][1:] == ["delete", "rayjob", NAME, "--wait=false"]


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({}, Status("waiting", "RayJob x")),
        ({"jobDeploymentStatus": "Initializing"}, Status("waiting", "RayJob x, Initializing")),
        ({"jobDeploymentStatus": "Suspended"}, Status("waiting", "RayJob x, Suspended")),
        ({"jobDeploymentStatus": "Running", "jobStatus": "PENDING"}, Status("running", "RayJob x, Running")),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, Status("running", "RayJob x, Running")),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, Status("done", "RayJob x, Complete")),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"},
         Status("stopped", "RayJob x, Complete")),
        ({"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}, Status("waiting", "RayJob x, Retrying")),
        ({"jobDeploymentStatus": "Failed", "reason": "AppFailed", "message": "why\nlog"},
         Status("failed", "RayJob x, Failed, AppFailed: why")),
        ({"jobDeploymentStatus": "Failed", "message": "command failed with exit code 130, log"},
         Status("stopped", "RayJob x, Failed: command failed with exit code 130, log")),
        ({"jobDeploymentStatus": "Failed", "message": "command failed with exit code 1301"},
         Status("failed", "RayJob x, Failed: command failed with exit code 1301")),
        ({"jobDeploymentStatus": "Failed", "jobStatus": "RUNNING", "reason": "DeadlineExceeded"},
         Status("stopped", "RayJob x, Failed, DeadlineExceeded")),
        ({"jobDeploymentStatus": "ANewWord"}, Status("unknown", "RayJob x, ANewWord")),
    ],
)  # fmt: skip
def test_kuberays_words_become_ours(told: dict[str, str], wanted: Status, stubs: Stubs) -> None:
    stubs.say("kubectl", json.dumps({"status": told}))
    assert kuberay.status("x", FULL) == wanted
    assert stubs.called("kubectl") == [["--namespace=research", "get", "rayjob", "x", "-o", "json"]]


def test_a_rayjob_that_is_gone_is_told_from_a_cluster_that_is_away(stubs: Stubs) -> None:
    stubs.say("kubectl", "", status=1, error='Error from server (NotFound): rayjobs.ray.io "x" not found\n')
    assert kuberay.status("x", SMALL).state == "unknown"
    kuberay.cancel("x", SMALL)
    stubs.say("kubectl", "", status=1, error="The connection to the server was refused\n")
    with pytest.raises(Unavailable, match="Kubernetes does not answer: The connection"):
        kuberay.status("x", SMALL)


RUNNING = {"jobDeploymentStatus": "Running", "jobId": "x-9", "rayClusterName": "x-abc"}


def answers(stubs: Stubs, status: dict[str, str], execute: str = "exit 0") -> None:
    told = json.dumps({"status": status})
    stubs.add("kubectl", f"case $1 in get) case $2 in rayjob) echo '{told}';; *) echo pod/head;; esac;; "
                         f"exec) {execute};; logs) echo line; echo 'more ä';; esac")  # fmt: skip


def test_a_study_is_stopped_by_ray_on_its_head_node(stubs: Stubs) -> None:
    answers(stubs, RUNNING)
    kuberay.cancel("x", SMALL)
    chosen = "ray.io/cluster=x-abc,ray.io/node-type=head"
    stop = ["ray", "job", "stop", "--address", "http://127.0.0.1:8265", "x-9"]
    assert stubs.called("kubectl")[1:] == [
        ["get", "pods", "-l", chosen, "-o", "name"],
        ["exec", "pod/head", "-c", "ray-head", "--", *stop],
    ]


@pytest.mark.parametrize("begun", [False, True])
def test_where_ray_cannot_be_asked_the_rayjob_is_deleted(begun: bool, stubs: Stubs) -> None:
    answers(stubs, RUNNING if begun else {"jobDeploymentStatus": "Suspended"}, "exit 1")
    kuberay.cancel("x", SMALL)
    asked = ["get", "get", "exec"] if begun else ["get"]
    assert [call[0] for call in stubs.called("kubectl")] == [*asked, "delete"]
    assert stubs.called("kubectl")[-1] == ["delete", "rayjob", "x", "--wait=false"]


def test_logs_are_those_of_the_submitters_pod(stubs: Stubs) -> None:
    answers(stubs, RUNNING)
    assert "".join(kuberay.logs("x", SMALL, follow=False)) == "line\nmore ä\n"
    assert "".join(kuberay.logs("x", SMALL, follow=True)) == "line\nmore ä\n"
    assert stubs.called("kubectl")[-1] == ["logs", "job/x", "--follow"]
    stubs.say("kubectl", "", status=1, error="not found\n")
    with pytest.raises(Unavailable, match="kubectl has no logs of x: not found"):
        list(kuberay.logs("x", SMALL, follow=False))
